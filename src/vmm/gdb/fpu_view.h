// The x87 and vector registers in an XSAVE image, as GDB wants them. [SDM 1] 10.5.1, 13.4
#pragma once

#include <cstdint>
#include <span>

#include "vmm/core/state/cpu_state.h"

namespace vmm::gdb {

// The eight x87 control registers in GDB's order: FCTRL, FSTAT, FTAG, FISEG, FIOFF, FOSEG, FOOFF,
// FOP. FTAG is the full tag word, which the image holds abridged. [SDM 1] 8.1.7
uint32_t ReadX87Control(const XsaveArea& area, unsigned index);
void WriteX87Control(XsaveArea& area, unsigned index, uint32_t value);

uint32_t ReadMxcsr(const XsaveArea& area);
bool WriteMxcsr(XsaveArea& area, uint32_t value);  // false: a reserved bit is set

struct VectorRegister {
  enum class Kind : uint8_t { kSt, kXmm, kYmmHigh };
  Kind kind;
  uint8_t index;
};

// `bytes`: 10 for ST(i), else 16. A component in its initial configuration reads as that says, and
// leaves it when written.
void ReadVector(const XsaveArea& area, VectorRegister reg, std::span<uint8_t> bytes);
void WriteVector(XsaveArea& area, VectorRegister reg, std::span<const uint8_t> bytes);

}  // namespace vmm::gdb
