// Which blocks one translation consists of: a block, and what usually comes behind it in the same
// page. Flags, registers and spans carry on from one to the next; other ways leave at its side.
#include <algorithm>

#include "bt/isa/decoder.h"
#include "bt/translator/block_translator.h"

namespace bt {
namespace {

constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);

// How often it has run, as far as that was counted.
unsigned Runs(const Block& block) {
  return block.translation ? ~0u : block.runs;
}

}  // namespace

bool BlockTranslator::Decode(Block& block) {
  const uint8_t* bytes = source_.EnsureOps(block) ? source_.FetchBytes(block) : nullptr;
  if (!bytes) return false;
  blocks_.push_back(&block);
  unsigned offset = 0;
  uint16_t page_offset = block.phys & ~kPageMask;
  for (const Op* op = block.ops; op->length != 0 && offset < block.bytes; ++op) {
    Step& step = steps_.emplace_back();
    step.op = *op;
    const auto available = std::min<size_t>(15, block.bytes - offset);
    const bool good =
        bt::Decode({bytes + offset, available}, CodeSize::k64, step.insn) == DecodeStatus::kOk &&
        step.insn.length == op->length && features_.Has(step.insn.feature);
    offset += op->length;
    page_offset += op->length;
    step.next = page_offset;
    step.how = Treatment::kInterpreter;
    step.vector = VectorUse::kNone;
    step.x87 = X87Use::kNone;
    if (good) {
      step.use = UseOf(step.insn);
      step.how = TreatmentOf(step.insn, step.use);
      if (step.how == Treatment::kSystemCall || step.how == Treatment::kSystemReturn)
        step.use.gpr_read = step.use.gpr_written = 0;  // their stubs find them at home
      if (step.how == Treatment::kCopy || step.how == Treatment::kMemory) {
        step.vector = VectorUseOf(step.insn, step.use);
        step.x87 = X87UseOf(step.insn);
      }
      if (step.how == Treatment::kLoadMxcsr) step.vector = VectorUse::kSse;
    }
    if (context_.direct && !MayBeDirect(step.how)) step.how = Treatment::kInterpreter;
  }
  return true;
}

bool BlockTranslator::DecodePath(Block& block) {
  steps_.clear();
  steps_.reserve(kMaxSteps);
  blocks_.clear();
  blocks_.reserve(kMaxBlocks);
  returns_.clear();
  if (!Decode(block) || steps_.empty()) return false;
  while (translation_->second_page == 0 && blocks_.size() < kMaxBlocks) {
    Step& last = steps_.back();
    Block* next = Follow(last);
    if (next && Decode(*next)) continue;
    steps_.back().onward = Onward::kEnds;
    break;
  }
  return true;
}

// The block that comes behind its last step, if it can be told; null: the translation ends.
Block* BlockTranslator::Follow(Step& last) {
  const int64_t target = last.next + static_cast<int64_t>(last.insn.operand[0].imm);
  last.onward = Onward::kTarget;
  switch (last.how) {
    case Treatment::kJumpIf: {
      if (target < last.next || target != static_cast<int32_t>(target)) return nullptr;  // a loop
      Block *next = FindNext(last.next), *other = FindNext(target);
      if (other && (!next || Runs(*next) < Runs(*other))) return other;
      last.onward = Onward::kNext;
      return next;
    }
    case Treatment::kCall:
      returns_.push_back(last.next);
      return FindNext(target);
    case Treatment::kJump:
      return FindNext(target);
    case Treatment::kReturn:
      if (returns_.empty()) return nullptr;
      last.onward = Onward::kReturn;
      last.resume = returns_.back();
      returns_.pop_back();
      return FindNext(last.resume);
    default:
      return nullptr;
  }
}

// One at that offset in the page, which is not in the translation yet.
Block* BlockTranslator::FindNext(int64_t offset) const {
  if (static_cast<uint64_t>(offset) >= vmm::kPageSize) return nullptr;
  const uint64_t page = blocks_.front()->phys & kPageMask;
  Block* block = source_.FindBlock(page | static_cast<uint64_t>(offset));
  if (!block || block->second_page != 0 || steps_.size() + block->op_count > kMaxSteps)
    return nullptr;
  return std::find(blocks_.begin(), blocks_.end(), block) == blocks_.end() ? block : nullptr;
}

}  // namespace bt
