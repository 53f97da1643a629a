// What the differential test leaves out, and why. Everything else on the list of instructions that
// the guest's CPUID advertises is generated.
#pragma once

#include "bt/isa/insn.h"

namespace difftest {

// The reason why no form of `mnemonic` can be compared; null: it is compared.
const char* WhyExcluded(bt::Mnemonic mnemonic);

// The reason why this form of an instruction can't be compared, though others can; null: it can.
const char* WhyExcluded(const bt::Insn& insn);

}  // namespace difftest
