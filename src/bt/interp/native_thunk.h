// Vector and x87 arithmetic as the host does it: a guest instruction is encoded again with fixed
// registers and a fixed memory operand, wrapped in code that loads and stores them from a
// NativeContext, and called. The host is the specification.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "bt/isa/insn.h"

namespace bt {

// What a thunk reads and writes. Offsets are part of the emitted code.
struct alignas(64) NativeContext {
  std::array<uint8_t, 512> fx;      // x87 thunks: FXSAVE image, loaded before and stored after
  std::array<uint8_t, 128> memory;  // the memory operand, wherever the guest has it
  using Vector = std::array<uint8_t, 32>;
  Vector reg{};      // the YMM, XMM or MM operand that ModRM.reg names
  Vector rm{};       // that ModRM.rm names
  Vector xmm0{};     // implicit XMM0
  Vector vvvv, is4;  // those that VEX.vvvv and the immediate name; VEX thunks only
  uint64_t rax = 0, rcx = 0,
           rdx = 0;         // general operands: ModRM.reg in RAX, ModRM.rm in RCX; implicit ones
  uint32_t mxcsr = 0x1f80;  // loaded before, stored after
  uint32_t host_mxcsr = 0;
  uint64_t trapped = 0;
  uint64_t flags = 0;  // LAHF and SETO after the instruction
};

// A thunk may be run with SIMD exceptions unmasked: when one happens, SIGFPE is caught, `mxcsr`
// holds the exact flags, and `trapped` is set. Other SIGFPEs go to whoever handled them before.
using NativeThunk = void (*)(NativeContext*);

enum class ThunkKind : uint8_t { kSse, kSseArithmetic, kMmx, kX87, kVex };

// The thunk for `insn`; made once for all instructions that differ only in operands. Null when the
// room for thunks is used up. The host must have the instruction: see Feature::native. Any thread.
// The code is written through one mapping and run through another: no page is ever writable and
// executable.
NativeThunk GetNativeThunk(const Insn& insn, ThunkKind kind);

}  // namespace bt
