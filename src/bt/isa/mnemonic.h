// Every instruction that the engine knows, by the manual's name. isa_table.inc is the one list; it
// says to which family an instruction belongs. What is not on it raises #UD.
#pragma once

#include <cstdint>

namespace bt {

enum class Mnemonic : uint16_t {
  INVALID,
#define ISA(name, family) name,
#include "bt/isa/isa_table.inc"
#undef ISA
  kCount
};

}  // namespace bt
