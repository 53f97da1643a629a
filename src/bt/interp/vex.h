// What the sources of the VEX family share.
#pragma once

#include <cstring>

#include "bt/interp/fpu.h"
#include "bt/isa/insn.h"

namespace bt {

// Writes all 32 bytes of a YMM register.
inline void WriteVector(FpuState state, uint8_t number, const uint8_t* from) {
  std::memcpy(state.xmm(number), from, 16);
  std::memcpy(state.ymm_high(number), from + 16, 16);
}

// VMASKMOVxx and VPMASKMOVx with elements of `size` bytes. (gather.cc)
bool SelectElementMove(const Insn& insn, Op& op, unsigned size);
// VGATHERxxx and VPGATHERxx. (gather.cc)
bool SelectGather(const Insn& insn, Op& op);

}  // namespace bt
