#include "bt/interp/block_builder.h"

#include "bt/interp/interpreter.h"
#include "bt/interp/page_entry.h"
#include "bt/isa/decoder.h"

namespace bt {
namespace {

bool RaiseInvalidOpcode(Cpu& cpu, const Op&) {
  return cpu.Raise(kUD);
}

// Closes every block: what comes after its last instruction is in another one.
bool FallThrough(Cpu&, const Op&) {
  return false;
}

}  // namespace

// Up to the end of the block that begins at block_.phys. `cross(offset)`: appends an instruction
// that may end in the next page; false: that cannot be.
template <class F>
bool BlockBuilder::Decode(const uint8_t* page, F&& cross) {
  unsigned offset = block_.phys & ~kPageMask;
  while (!closed_ && block_.op_count + 1u < BlockCache::kMaxOps && offset < vmm::kPageSize) {
    // Another CPU may write while we decode: the bytes are read once.
    uint8_t bytes[15];
    const unsigned available = std::min<unsigned>(15, vmm::kPageSize - offset);
    std::memcpy(bytes, page + offset, available);
    if (AppendKnown({bytes, available})) {
      offset += ops_[block_.op_count - 1].length;
      continue;
    }
    Insn insn;
    const DecodeStatus status = bt::Decode({bytes, available}, block_.code_size, insn);
    if (status == DecodeStatus::kNeedMoreBytes && available < 15) {
      if (block_.op_count == 0 && !cross(bytes, available)) return false;
      break;
    }
    if (status == DecodeStatus::kOk)
      Append(insn);
    else
      AppendInvalid(1);
    offset = (block_.phys & ~kPageMask) + block_.bytes;
  }
  Op& last = ops_[block_.op_count++];
  last = Op{};
  last.fn = &FallThrough;
  return true;
}

// One instruction, `have` bytes of which are in front of that page. False: there is no memory.
bool BlockBuilder::AppendCrossing(const uint8_t* head, unsigned have, uint64_t next_page) {
  const uint8_t* host = cpu_.memory_.Host(vmm::GuestPhys(next_page), vmm::kPageSize);
  if (!host) return false;
  cpu_.vm_.MarkCode(cpu_, next_page);
  uint8_t bytes[15];
  std::memcpy(bytes, head, have);
  std::memcpy(bytes + have, host, 15 - have);
  Insn insn;
  if (bt::Decode({bytes, 15}, block_.code_size, insn) == DecodeStatus::kOk)
    Append(insn);
  else
    AppendInvalid(have + 1);
  block_.second_page = next_page;
  return true;
}

Block* BlockBuilder::Build(uint64_t linear, uint64_t phys) {
  const uint64_t page = phys & kPageMask;
  const uint8_t* host = cpu_.memory_.Host(vmm::GuestPhys(page), vmm::kPageSize);
  if (!host) {  // no instructions in device space
    cpu_.Raise(kGP, 0);
    return nullptr;
  }
  cpu_.vm_.MarkCode(cpu_, page);
  ++cpu_.blocks_built_;
  block_.phys = phys;
  block_.code_size = cpu_.code_size_;
  const bool built = Decode(host, [&](const uint8_t* head, unsigned have) {
    uint64_t next_phys;
    return cpu_.TranslateSecondPage(linear, &next_phys) &&
           (AppendCrossing(head, have, next_phys & kPageMask) || cpu_.Raise(kGP, 0));
  });
  return built ? cpu_.blocks_.Add(block_, ops_.data()) : nullptr;
}

bool BlockBuilder::Rebuild(Block& block) {
  const uint8_t* host = cpu_.memory_.Host(vmm::GuestPhys(block.phys & kPageMask), vmm::kPageSize);
  if (!host) return false;
  ++cpu_.blocks_built_;
  block_.phys = block.phys;
  block_.code_size = block.code_size;
  const bool built = Decode(host, [&](const uint8_t* head, unsigned have) {
    return block.second_page != 0 && AppendCrossing(head, have, block.second_page);
  });
  if (!built || block_.bytes != block.bytes || block_.op_count != block.op_count ||
      block_.second_page != block.second_page)
    return false;
  cpu_.blocks_.Restore(block, ops_.data());
  return true;
}

// What the guest's processor lacks is #UD, but LZCNT and TZCNT are what older ones read: BSR and
// BSF with a prefix that they ignore. [SDM 2A] LZCNT
bool BlockBuilder::Offered(Insn& insn) const {
  if (cpu_.vm_.features().Has(insn.feature)) return true;
  if (insn.mnemonic == Mnemonic::LZCNT) {
    insn.mnemonic = Mnemonic::BSR;
    return true;
  }
  if (insn.mnemonic == Mnemonic::TZCNT) {
    insn.mnemonic = Mnemonic::BSF;
    return true;
  }
  return false;
}

bool BlockBuilder::AppendKnown(std::span<const uint8_t> bytes) {
  Op& op = ops_[block_.op_count];
  if (!cpu_.op_cache_.Find(bytes, block_.code_size, op, closed_)) return false;
  ++block_.op_count;
  block_.bytes += op.length;
  return true;
}

void BlockBuilder::Append(Insn& insn) {
  if (!Offered(insn)) return AppendInvalid(insn.length);
  Op& op = ops_[block_.op_count];
  op = Op{};
  FillOperands(insn, op);
  if (!SelectHandler(insn, op)) return AppendInvalid(insn.length);
  ++block_.op_count;
  block_.bytes += insn.length;
  closed_ = EndsBlock(insn);
  cpu_.op_cache_.Add(insn, op);
}

void BlockBuilder::AppendInvalid(unsigned length) {
  Op& op = ops_[block_.op_count++];
  op = Op{};
  op.fn = &RaiseInvalidOpcode;
  op.length = static_cast<uint8_t>(length);
  block_.bytes += length;
  closed_ = true;
}

// Of an instruction that begins in the page of `linear` and ends in the next one.
bool Cpu::TranslateSecondPage(uint64_t linear, uint64_t* phys) {
  const View view = cpl_ == 3 ? view_ : View::kSupervisor;
  const uint64_t next = (linear & kPageMask) + vmm::kPageSize;
  bool global = false;
  if (!Translate(next, Access::kExecute, view, phys, &global)) return false;
  banks_.NoteFetch(view, next, global);
  return true;
}

// The block is found by linear address, but is keyed by where its bytes are.
Block* Cpu::LookupBlock(uint64_t linear) {
  uint64_t phys;
  // The rights of fetches do not depend on EFLAGS.AC.
  const View view = cpl_ == 3 ? view_ : View::kSupervisor;
  TlbBank& bank = banks_.bank(view);
  const TlbEntry& entry = bank.exec.At(linear);
  if ((linear ^ entry.tag) < vmm::kPageSize) {
    phys = entry.page | (linear & (vmm::kPageSize - 1));
  } else {
    if (LongMode() && In64() && !Canonical(linear)) {
      Raise(kGP, 0);
      return nullptr;
    }
    bool global = false;
    if (!Translate(linear, Access::kExecute, view, &phys, &global)) return nullptr;
    banks_.NoteFetch(view, linear, global);
    bank.SetExec(linear, phys & kPageMask);
  }
  Block* block = blocks_.Find(phys, code_size_);
  if (block && block->second_page) {  // the tail may be mapped elsewhere by now
    uint64_t next_phys;
    if (!TranslateSecondPage(linear, &next_phys)) return nullptr;
    if ((next_phys & kPageMask) != block->second_page) {
      blocks_.Invalidate(phys, 1);
      block = nullptr;
    }
  }
  if (block) return block;
  if (!blocks_.HasRoom()) MakeRoomForBlock();
  return BlockBuilder(*this).Build(linear, phys);
}

// Makes room for a block or for ops: blocks that are not kept may go.
void Cpu::MakeRoomForBlock() {
  last_block_ = nullptr;
  if (!blocks_.ForgetOldest([this](uint64_t page) { vm_.UnmarkCode(*this, page); }))
    return ForgetCode();
  std::fill_n(jump_cache_.get(), kJumpCacheSize, JumpCacheEntry{});
}

// Before its ops are used. False: other code is there by now, and the block is dead.
bool Cpu::EnsureOps(Block& block) {
  if (block.ops) return true;
  if (!blocks_.HasRoom()) MakeRoomForBlock();
  if (BlockBuilder(*this).Rebuild(block)) return true;
  blocks_.Invalidate(block.phys, 1);
  return false;
}

}  // namespace bt
