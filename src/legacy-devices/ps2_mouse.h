// A PS/2 mouse with a wheel and five buttons at the second port of the i8042.
#pragma once

#include <array>
#include <cstdint>

#include "legacy-devices/ps2_regs.h"
#include "vmm/core/base/fixed_queue.h"

namespace legacy {

// What the user's hand did since the last event.
struct Ps2MouseEvent {
  int dx = 0;           // counts to the right
  int dy = 0;           // counts away from the user
  int dz = 0;           // notches towards the user
  uint8_t buttons = 0;  // those held down: left, right, middle, fourth, fifth from bit 0 on
};

struct Ps2MouseState {
  ps2::MouseCommand waiting = ps2::MouseCommand::None;  // for its parameter
  ps2::MouseId id = ps2::MouseId::Standard;
  std::array<uint8_t, 3> last_rates{};  // the newest last
  uint8_t sampling_rate = ps2::kDefaultSamplingRate;
  uint8_t resolution = ps2::kDefaultResolution;
  bool scaling_2_to_1 = false;
  bool enabled = false;
  bool remote = false;
  bool wrap = false;
  uint8_t last_sent = 0;
  // Movement that has not been reported.
  int32_t dx = 0, dy = 0, dz = 0;
  uint8_t buttons = 0;
  uint8_t reported_buttons = 0;
  vmm::FixedQueue<uint8_t, 16> answers;  // go before packets
  vmm::FixedQueue<uint8_t, 4> packet;
  friend bool operator==(const Ps2MouseState&, const Ps2MouseState&) = default;
};

// Works on a state that the i8042 keeps and guards. Everything is answered at once; a packet leaves
// when there is something to report and the last one was read, whatever the sampling rate.
class Ps2Mouse {
 public:
  explicit Ps2Mouse(Ps2MouseState& state) : state_(state) {}

  void Receive(uint8_t byte);  // from the i8042

  bool HasOutput() const;
  uint8_t TakeOutput();  // only if HasOutput()

  void Inject(const Ps2MouseEvent& event);

  static bool Possible(const Ps2MouseState& state);

 private:
  void Answer(uint8_t byte) { state_.answers.Push(byte); }
  void ReceiveParameter(ps2::MouseCommand command, uint8_t value);
  void AnswerStatus();
  void SetDefaults();
  bool Streams() const { return state_.enabled && !state_.remote && !state_.wrap; }
  bool HasNews() const;
  std::array<uint8_t, 4> NextPacket();
  size_t PacketSize() const { return state_.id == ps2::MouseId::Standard ? 3 : 4; }

  Ps2MouseState& state_;
};

}  // namespace legacy
