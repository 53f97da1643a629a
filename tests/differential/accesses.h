// More accesses around the one of a case: through the same base and index, a few bytes away, and of
// the stack.
#pragma once

#include <cstdint>
#include <vector>

#include "bt/isa/insn.h"
#include "random.h"

namespace difftest {

// Appends an instruction that accesses memory near the operand of `insn` or near RSP and writes
// none of the registers in `spared`: a load, a store, PUSH, POP, or a step of the base. False:
// there is none.
bool AddAccess(const bt::Insn& insn, uint16_t spared, Random& random, std::vector<uint8_t>& code);

}  // namespace difftest
