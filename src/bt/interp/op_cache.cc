#include "bt/interp/op_cache.h"

#include <algorithm>

namespace bt {

bool OpCache::Find(std::span<const uint8_t> bytes, CodeSize code_size, Op& op, bool& ends_block) {
  const Known* known = known_.Find(HeadOf(bytes, code_size), code_size);
  if (!known || known->op.length > bytes.size()) return false;
  op = known->op;
  if (known->disp_bytes != 0) {
    op.disp =
        static_cast<int32_t>(Head::ValueAt(&bytes[known->disp_offset], known->disp_bytes, true));
  }
  if (known->imm_bytes != 0) {
    op.imm = Head::ValueAt(&bytes[known->imm_offset], known->imm_bytes, known->imm_signed);
  }
  ends_block = known->ends_block;
  return true;
}

void OpCache::Add(const Insn& insn, const Op& op) {
  const Head head = HeadOf({insn.bytes.data(), insn.length}, insn.code_size);
  if (!head.Says(insn) || insn.disp_bytes > 4) return;  // a wide one is not in op.disp
  uint64_t imm = 0;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    if (insn.operand[i].kind == OperandKind::kImm) imm = insn.operand[i].imm;
  }
  if (op.imm != imm || (insn.disp_bytes != 0 && op.disp != insn.mem.disp)) return;
  known_.Add(head, {op, insn.code_size, insn.disp_offset, insn.disp_bytes, insn.imm_offset,
                    insn.imm_bytes, insn.imm_signed, EndsBlock(insn)});
}

}  // namespace bt
