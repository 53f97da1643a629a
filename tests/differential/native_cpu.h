// The host CPU as the oracle: runs one instruction with given registers and says what came of it.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace difftest {

struct Registers {
  std::array<uint64_t, 16> gpr{};
  uint64_t rflags = 2;
  alignas(16) std::array<uint8_t, 512> fx{};  // FXSAVE64 image
};

struct Outcome {
  bool faulted = false;
  uint8_t vector = 0;
  uint32_t error = 0;  // 0 where the vector has none
  uint64_t cr2 = 0;    // of a page fault
};

// Fixed places of the address space, below 4 GiB so that 32-bit addresses reach them.
inline constexpr uint64_t kCode = 0x20000000, kData = 0x10000000;
inline constexpr uint64_t kControl = 0x30000000;  // the runner's own
// Pages from kData on: 0 absent, 1 and 2 read-write, 3 absent, 4 read-only, 5 absent.
inline constexpr unsigned kWritablePage = 1, kReadOnlyPage = 4, kPages = 6;

class NativeCpu {
 public:
  NativeCpu();  // maps the places above; one per process
  // The two writable pages and the read-only one, at their fixed places.
  std::span<uint8_t> writable();
  std::span<uint8_t> read_only();  // writable for the harness through another mapping
  // Runs `code` (one instruction) from `registers` on and stores what they became.
  Outcome Run(std::span<const uint8_t> code, Registers& registers);

 private:
  uint8_t* code_alias_;
  uint8_t* read_only_alias_;
};

}  // namespace difftest
