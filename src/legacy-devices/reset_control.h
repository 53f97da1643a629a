// The two reset registers of a PC: RC at 0xCF9 [PIIX3] RC and system control port A at 0x92.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string_view>

#include "legacy-devices/a20_gate.h"
#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/result.h"
#include "vmm/core/bus/device_part.h"

namespace legacy {

namespace reset_control {

inline constexpr uint16_t kResetControlPort = 0xCF9;
inline constexpr uint16_t kPortAPort = 0x92;

// Reset control. A change of RCPU from 0 to 1 resets; SRST and FULL_RST say how hard, which makes
// no difference to a machine that is always reset whole.
enum class RC : uint8_t { SRST = 0x02, RCPU = 0x04, FULL_RST = 0x08 };
inline constexpr uint8_t kRcMask = 0x0E;

// System control port A. A change of FAST_RESET from 0 to 1 resets the processor.
enum class PORTA : uint8_t { FAST_RESET = 0x01, A20 = 0x02 };
inline constexpr uint8_t kPortAStored = 0x01;

}  // namespace reset_control

struct ResetControlState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  vmm::BitRegister<reset_control::RC> RC;
  vmm::BitRegister<reset_control::PORTA> PORTA;  // A20 is the gate's
  friend bool operator==(const ResetControlState&, const ResetControlState&) = default;
};

// Threads: any. The callback gets the name of the register for the log; it runs on the vCPU thread
// that wrote it, with no lock held, and the guest goes on until the machine stops it.
class ResetControl final {
 public:
  ResetControl(std::function<void(std::string_view source)> reset, A20Gate& a20);

  // One port each. Where there is a PCI host bridge it owns 0xCF8-0xCFF and passes RC its byte.
  vmm::Device& reset_control() { return reset_control_; }
  vmm::Device& port_a() { return port_a_; }

  void Reset();
  ResetControlState Save() const;
  vmm::Result<void> Load(const ResetControlState& state);

 private:
  void ReadResetControl(uint64_t offset, std::span<uint8_t> data);
  void WriteResetControl(uint64_t offset, std::span<const uint8_t> data);
  void ReadPortA(uint64_t offset, std::span<uint8_t> data);
  void WritePortA(uint64_t offset, std::span<const uint8_t> data);

  vmm::DevicePart<ResetControl> reset_control_;
  vmm::DevicePart<ResetControl> port_a_;
  const std::function<void(std::string_view)> reset_;
  A20Gate& a20_;

  mutable std::mutex mutex_;  // guards the state
  ResetControlState state_;
};

}  // namespace legacy
