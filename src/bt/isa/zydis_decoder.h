// The Zydis decoder of a code size, set to read what the processors that we model execute.
#pragma once

#include <Zydis/Zydis.h>

#include <span>

#include "bt/isa/insn.h"

namespace bt {

// Thread-safe; lives as long as the process.
const ZydisDecoder& ZydisDecoderFor(CodeSize size);

// Of `insn`, which `in` and all of its `operands`, hidden ones too, say.
InsnUse UseOf(const Insn& insn, const ZydisDecodedInstruction& in,
              std::span<const ZydisDecodedOperand> operands);

}  // namespace bt
