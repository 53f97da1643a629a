// A 101-key PS/2 keyboard at the first port of the i8042.
#pragma once

#include <cstdint>
#include <span>

#include "legacy-devices/ps2_regs.h"
#include "vmm/core/base/fixed_queue.h"

namespace legacy {

// What the translation of the i8042, and a keyboard in scan set 1, make of a code of scan set 2.
// 0xF0 has no counterpart: it becomes the top bit of the next code.
uint8_t ScanSet1Of(uint8_t set2);

struct Ps2KeyboardState {
  ps2::KeyboardCommand waiting = ps2::KeyboardCommand::None;  // for its parameter
  uint8_t scan_set = 2;                                       // 1 or 2
  uint8_t leds = 0;                                           // scroll, num, caps lock
  uint8_t typematic = ps2::kDefaultTypematic;
  bool scanning = true;
  uint8_t last_sent = 0;
  vmm::FixedQueue<uint8_t, 16> answers;  // go before keys
  vmm::FixedQueue<uint8_t, 16> keys;
  friend bool operator==(const Ps2KeyboardState&, const Ps2KeyboardState&) = default;
};

// Works on a state that the i8042 keeps and guards. Everything is answered at once.
class Ps2Keyboard {
 public:
  explicit Ps2Keyboard(Ps2KeyboardState& state) : state_(state) {}

  void Receive(uint8_t byte);  // from the i8042

  bool HasOutput() const { return !state_.answers.empty() || !state_.keys.empty(); }
  uint8_t TakeOutput();  // only if HasOutput()

  // Codes of scan set 2 for one key pressed or released. False, and nothing done, when the buffer
  // has no room for all of them; while scanning is off they are lost, as on a real one.
  bool Inject(std::span<const uint8_t> codes);

  static bool Possible(const Ps2KeyboardState& state);

 private:
  void Answer(uint8_t byte) { state_.answers.Push(byte); }
  void ReceiveParameter(ps2::KeyboardCommand command, uint8_t value);
  void SetDefaults();

  Ps2KeyboardState& state_;
};

}  // namespace legacy
