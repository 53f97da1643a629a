// The host CPU as the oracle: runs one instruction with given registers and says what came of it.
#pragma once

#include <cstdint>
#include <span>

#include "case.h"

namespace difftest {

class NativeCpu {
 public:
  NativeCpu();  // maps the places above; one per process
  // The two writable pages and the read-only one, at their fixed places.
  std::span<uint8_t> writable();
  std::span<uint8_t> read_only();  // writable for the harness through another mapping
  // Runs the case's code (one instruction) from `registers` on and stores what they became: in
  // 64-bit mode, or through a 32-bit code segment in compatibility mode.
  Outcome Run(const Case& test, Registers& registers);

 private:
  uint8_t* code_alias_;
  uint8_t* read_only_alias_;
};

}  // namespace difftest
