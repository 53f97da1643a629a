// REP MOVS and REP STOS for translated code.
#pragma once

#include "bt/translator/stubs.h"

namespace bt {

// The place in Stubs::repeat of a string instruction; null where the interpreter has to do it.
std::optional<unsigned> RepeatIndex(const Insn& insn);

// A stub for RepeatIndex() `index`: where all elements lie in one page of either operand, and the
// TLB has it, the host's own instruction does it; else run_site.
void EmitRepeat(Assembler& code, const CodeContext& context, CodeSpace& space,
                CodeSpace::Offset run_site, unsigned index, LeaveOut leave_out);

}  // namespace bt
