// The PC's keyboard and mouse controller, with a keyboard and a mouse plugged in.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string_view>

#include "legacy-devices/a20_gate.h"
#include "legacy-devices/i8042_regs.h"
#include "legacy-devices/ps2_keyboard.h"
#include "legacy-devices/ps2_mouse.h"
#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/fixed_queue.h"
#include "vmm/core/base/result.h"
#include "vmm/core/bus/device_part.h"
#include "vmm/core/irq/irq_line.h"

namespace legacy {

// A byte on its way to the guest, and whose it is.
struct I8042Byte {
  uint8_t data = 0;
  bool aux = false;
  friend bool operator==(const I8042Byte&, const I8042Byte&) = default;
};

struct I8042State {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  // As a BIOS leaves it, for guests that start without one: interrupts on, translation on.
  vmm::BitRegister<i8042::Ctr> CTR{0x47};
  std::array<uint8_t, 31> ram{};  // bytes 1 to 31
  bool last_was_command = false;
  uint8_t waiting = 0;  // the command that waits for its parameter, or 0
  bool output_full = false;
  I8042Byte output;                       // keeps its byte when read
  vmm::FixedQueue<I8042Byte, 2> replies;  // of the controller itself; they go first
  bool translate_break = false;           // 0xF0 came: the next code is a released key's
  Ps2KeyboardState keyboard;
  Ps2MouseState mouse;
  friend bool operator==(const I8042State&, const I8042State&) = default;
};

// Everything is answered at once, which drivers don't mind and boots like. The interrupt lines are
// levels: high while the output buffer holds a byte of theirs; between two bytes they fall, so that
// an edge-triggered controller sees each.
//
// Threads: everything from any thread. The reset callback runs on the vCPU thread that asked for
// it, with no lock held.
class I8042 final {
 public:
  I8042(vmm::IrqLine& keyboard_irq, vmm::IrqLine& aux_irq,
        std::function<void(std::string_view source)> reset, A20Gate& a20);

  vmm::Device& data_port() { return data_port_; }        // one port at kDataPort
  vmm::Device& command_port() { return command_port_; }  // one port at kCommandPort

  // A key of the host's, as codes of scan set 2. False, and nothing done, when the keyboard's
  // buffer has no room: try again later.
  bool InjectKey(std::span<const uint8_t> codes);
  void InjectMouse(const Ps2MouseEvent& event);

  void Reset();
  I8042State Save() const;
  vmm::Result<void> Load(const I8042State& state);

 private:
  void ReadData(uint64_t offset, std::span<uint8_t> data);
  void WriteData(uint64_t offset, std::span<const uint8_t> data);
  void ReadStatus(uint64_t offset, std::span<uint8_t> data);
  void WriteCommand(uint64_t offset, std::span<const uint8_t> data);

  uint8_t TakeOutput();
  bool Execute(uint8_t command);
  bool ExecuteWithParameter(uint8_t command, uint8_t value);
  void Reply(uint8_t data, bool aux = false);
  uint8_t StatusRegister() const;
  uint8_t OutputPort() const;
  bool FillFromKeyboard();
  void FillOutput();
  void UpdateIrqs();

  vmm::DevicePart<I8042> data_port_;
  vmm::DevicePart<I8042> command_port_;
  vmm::IrqLine& keyboard_irq_;
  vmm::IrqLine& aux_irq_;
  const std::function<void(std::string_view)> reset_;
  A20Gate& a20_;

  mutable std::mutex mutex_;  // guards all below
  I8042State state_;
  Ps2Keyboard keyboard_{state_.keyboard};
  Ps2Mouse mouse_{state_.mouse};
};

}  // namespace legacy
