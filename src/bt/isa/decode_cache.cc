#include "bt/isa/decode_cache.h"

#include <algorithm>

namespace bt {

bool DecodeCache::Find(std::span<const uint8_t> bytes, CodeSize code_size, Insn& insn) {
  const Insn* known = known_.Find(HeadOf(bytes, code_size), code_size);
  if (!known || known->length > bytes.size()) return false;
  insn = *known;
  std::copy_n(bytes.begin(), insn.length, insn.bytes.begin());
  if (insn.disp_bytes != 0) {
    insn.mem.disp =
        static_cast<int64_t>(Head::ValueAt(&bytes[insn.disp_offset], insn.disp_bytes, true));
  }
  if (insn.imm_bytes != 0) {
    const auto immediate =
        std::find_if(insn.operand.begin(), insn.operand.end(),
                     [](const Operand& operand) { return operand.kind == OperandKind::kImm; });
    immediate->imm = Head::ValueAt(&bytes[insn.imm_offset], insn.imm_bytes, insn.imm_signed);
    RenewUse(insn);
  }
  return true;
}

void DecodeCache::Add(const Insn& insn) {
  const Head head = HeadOf({insn.bytes.data(), insn.length}, insn.code_size);
  if (head.Says(insn)) known_.Add(head, insn);
}

}  // namespace bt
