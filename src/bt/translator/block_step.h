// One instruction of a block that is being translated.
#pragma once

#include <cstdint>

#include "bt/interp/op.h"
#include "bt/isa/insn.h"
#include "bt/isa/insn_use.h"
#include "bt/translator/host_registers.h"
#include "bt/translator/treatment.h"

namespace bt {

// The place of one access in a span of memory (see block_span.h).
struct SpanMember {
  static constexpr uint16_t kNone = 0xffff;
  uint16_t span = kNone;
  int32_t at = 0;  // bytes from the beginning of the span
};

// Where the translation goes on behind the last step of one of its blocks.
enum class Onward : uint8_t { kEnds, kNext, kTarget, kReturn };

struct BlockStep {
  Insn insn;
  InsnUse use;
  Op op;
  uint16_t next;  // offset in the page of what follows
  Treatment how;
  VectorUse vector;
  X87Use x87;
  Onward onward = Onward::kEnds;
  uint16_t resume = 0;  // kReturn: offset in the page of where it is expected to return to
  SpanMember memory = {}, stack = {};  // the operand that it names; what it pushes or pops
};

// Guest registers that have other values behind `step`.
inline uint16_t RegistersChanged(const BlockStep& step) {
  switch (step.how) {
    case Treatment::kPush:
    case Treatment::kPop:
    case Treatment::kLeave:
    case Treatment::kCall:
      return step.use.gpr_written | 1 << kGuestRsp | (step.how == Treatment::kLeave ? 1 << 5 : 0);
    default:
      return step.use.gpr_written;
  }
}

}  // namespace bt
