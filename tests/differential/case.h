// One case: an instruction, the registers and the memory that it starts from, and what of its
// result is not the instruction's alone.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "bt/isa/insn.h"

namespace difftest {

struct Registers {
  std::array<uint64_t, 16> gpr{};
  uint64_t rflags = 2;
  alignas(16) std::array<uint8_t, 512> fx{};  // FXSAVE64 image
  std::array<uint8_t, 256> ymm_high{};        // bits 255:128 of YMM0 to YMM15
};

struct Outcome {
  bool faulted = false;
  uint8_t vector = 0;
  uint32_t error = 0;  // 0 where the vector has none
  uint64_t cr2 = 0;    // of a page fault
  uint64_t rip = 0;    // afterwards
};

// Fixed places of the address space, below 4 GiB so that 32-bit addresses reach them.
inline constexpr uint64_t kCode = 0x20000000, kData = 0x10000000;
inline constexpr uint64_t kInsn =
    kCode + 0x800;  // the instruction; INT3 fills the rest of the page
inline constexpr uint64_t kControl = 0x30000000;  // the runner's own
// Pages from kData on: 0 absent, 1 and 2 read-write, 3 absent, 4 read-only, 5 absent.
inline constexpr unsigned kWritablePage = 1, kReadOnlyPage = 4, kPages = 6;
inline constexpr uint64_t kWritable = kData + 0x1000, kWritableEnd = kData + 0x3000;

struct Case {
  std::vector<uint8_t> code;
  bt::Insn insn;
  Registers registers;
  bool transfers = false;  // a branch: it ends on one of the INT3s around it
  bool illegal = false;    // must raise #UD; `insn` is not valid

  struct Poke {
    uint64_t address;
    std::vector<uint8_t> bytes;
  };
  std::vector<Poke> pokes;  // memory before the case, in the writable pages
  struct Range {
    uint64_t address, size;
  };
  std::vector<Range> ignored;  // memory that the case leaves different
};

}  // namespace difftest
