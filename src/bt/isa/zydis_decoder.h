// The Zydis decoder of a code size, set to read what the processors that we model execute.
#pragma once

#include <Zydis/Zydis.h>

#include "bt/isa/insn.h"

namespace bt {

// Thread-safe; lives as long as the process.
const ZydisDecoder& ZydisDecoderFor(CodeSize size);

}  // namespace bt
