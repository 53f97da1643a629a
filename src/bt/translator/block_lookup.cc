// From a linear address to that of the host: by the TLB, or in a range of a kernel's.
#include "bt/interp/tlb.h"
#include "bt/translator/block_translator.h"
#include "bt/translator/host_registers.h"

namespace bt {

BlockTranslator::Check BlockTranslator::EmitCheck(const Step& step, unsigned size, bool write) {
  MemoryOperand at = step.insn.mem;
  if (at.base == MemoryOperand::kRip) at.disp += step.next;
  const bool named = step.how == Treatment::kMemory;
  const CodeSpace::Offset failed =
      named && !write ? EmitReadLookUp(at, size) : EmitLookUp(hot_, size, write);
  return {failed, AddSite(step), step.next, owed_ ? recipe_ : FlagRecipe{}};
}

// kTemp0 has the linear address of `size` bytes, and then their address in the host. The jump of
// a look-up that fails; 0: there is none.
CodeSpace::Offset BlockTranslator::EmitLookUp(Assembler& code, unsigned size, bool write) {
  if (leave_out_ == (write ? LeaveOut::kWrite : LeaveOut::kRead)) {
    if (!write) return 0;
    write = false;
  }
  if (leave_out_ == LeaveOut::kCrossing) size = 1;
  constexpr uint32_t kMask = (decltype(TlbBank::read)::kEntries - 1) << 4;
  constexpr uint8_t kRead = offsetof(TlbBank, read.entries);
  constexpr uint32_t kWrite = offsetof(TlbBank, write.entries);
  constexpr uint8_t kPage = offsetof(TlbEntry, page);
  static_assert(sizeof(TlbEntry) == 16 && offsetof(TlbBank, read.entries) + kPage < 128 &&
                kMask == (decltype(TlbBank::write)::kEntries - 1) << 4);
  Sequence find(code), add(code);
  find.Bytes({0x45, 0x89, 0xd3, 0x41, 0xc1, 0xeb, 8});  // MOV R11D, R10D; SHR R11D, 8
  find.Bytes({0x41, 0x81, 0xe3}).Word(kMask);           // AND R11D, kMask
  find.Bytes({0x4c, 0x03, 0x1d}).Near(context_.tlb);    // ADD R11, [tlb]
  if (write)                                            // XOR R10, [R11 + bank]; ADD R10, ...
    find.Bytes({0x4d, 0x33, 0x93}).Word(kWrite), add.Bytes({0x4d, 0x03, 0x93}).Word(kWrite + kPage);
  else
    find.Bytes({0x4d, 0x33, 0x53, kRead}), add.Bytes({0x4d, 0x03, 0x53, kRead + kPage});
  find.Bytes({0x49, 0x81, 0xfa}).Word(static_cast<uint32_t>(vmm::kPageSize - size)).Emit();  // CMP
  const CodeSpace::Offset jump = EmitJumpIf(code, kAbove);
  add.Emit();
  return jump;
}

// The same for reading, of the operand `at`; it may well be in a range, so the TLB comes second.
CodeSpace::Offset BlockTranslator::EmitReadLookUp(const MemoryOperand& at, unsigned size) {
  const int which = RangeOf(at);
  if (which < 0 || size > LinearRange::kWidest || leave_out_ == LeaveOut::kRead)
    return EmitLookUp(hot_, size, false);
  const auto field = [which](size_t offset) {
    return static_cast<uint8_t>(offsetof(TlbBank, ranges) + which * sizeof(LinearRange) + offset);
  };
  static_assert(offsetof(TlbBank, ranges) + sizeof(TlbBank::ranges) <= 128);
  const uint8_t begin = field(offsetof(LinearRange, begin));
  Sequence find(hot_), add(hot_);
  find.Bytes({0x4c, 0x8b, 0x1d}).Near(context_.tlb);  // MOV R11, [tlb]
  find.Bytes({0x4d, 0x2b, 0x53, begin});              // SUB R10, [R11 + begin]
  find.Bytes({0x4d, 0x3b, 0x53, field(offsetof(LinearRange, size))}).Emit();  // CMP R10, ...
  if (leave_out_ != LeaveOut::kRange)
    space_.PatchJump(EmitJumpIf(hot_, kNotBelow), space_.OffsetOf(cold_));
  add.Bytes({0x4d, 0x03, 0x53, field(offsetof(LinearRange, host))}).Emit();  // ADD R10, ...
  Sequence(cold_).Bytes({0x4d, 0x03, 0x53, begin}).Emit();  // ADD R10, [R11 + begin]
  const CodeSpace::Offset failed = EmitLookUp(cold_, size, false);
  space_.PatchJump(EmitJump(cold_), space_.OffsetOf(hot_));
  return failed;
}

// In which of the bank's ranges the operand is, as the registers were where the block began, or
// may be; negative: in none.
int BlockTranslator::RangeOf(const MemoryOperand& at) const {
  if (at.base == kGuestRsp) return -1;
  const auto exists = [this](unsigned which) { return glimpse_->ranges[which].size != 0; };
  if (!exists(0) && !exists(1)) return -1;
  bool known = true;
  uint64_t address = static_cast<uint64_t>(at.disp);
  const auto add = [&](uint8_t reg, unsigned shift) {
    known &= (changed_ >> reg & 1) == 0;
    address += glimpse_->r[reg] << shift;
  };
  if (at.base == MemoryOperand::kRip) {
    const uint64_t rip = glimpse_->r[kRip];
    known = static_cast<int64_t>(rip & (vmm::kPageSize - 1)) == Start();
    address += rip & ~(vmm::kPageSize - 1);
  } else if (at.base != MemoryOperand::kNoReg) {
    add(at.base, 0);
  }
  if (at.index != MemoryOperand::kNoReg) add(at.index, at.shift);
  if (at.segment >= static_cast<uint8_t>(vmm::Seg::FS)) address += glimpse_->seg_base[at.segment];
  if (known) {
    const unsigned which = TlbBank::RangeOf(address);
    return glimpse_->ranges[which].Holds(address) ? static_cast<int>(which) : -1;
  }
  const bool table =
      at.base == MemoryOperand::kNoReg && at.segment < static_cast<uint8_t>(vmm::Seg::FS);
  const unsigned which = table ? TlbBank::RangeOf(static_cast<uint64_t>(at.disp)) : 0;
  return at.base != MemoryOperand::kRip && exists(which) ? static_cast<int>(which) : -1;
}

}  // namespace bt
