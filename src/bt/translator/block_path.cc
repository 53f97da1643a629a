#include "bt/translator/block_path.h"

#include <algorithm>
#include <cstring>

#include "bt/isa/decoder.h"
#include "bt/translator/block_translator.h"

namespace bt {
namespace {

constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);

// How often it has run, as far as that was counted.
unsigned Runs(const Block& block) {
  return block.translation ? ~0u : block.runs;
}

// `bytes` begin with the instruction that `op` is of, and end with its block at the latest. `next`:
// the offset in the page of what follows.
void DecodeStep(std::span<const uint8_t> bytes, const Op& op, uint16_t next,
                const FeatureSet& features, bool direct, BlockStep& step) {
  step.op = op;
  step.next = next;
  step.how = Treatment::kInterpreter;
  step.vector = VectorUse::kNone;
  step.x87 = X87Use::kNone;
  const bool good = bt::Decode(bytes.first(std::min<size_t>(15, bytes.size())), CodeSize::k64,
                               step.insn) == DecodeStatus::kOk &&
                    step.insn.length == op.length && features.Has(step.insn.feature);
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
  if (direct && !MayBeDirect(step.how)) step.how = Treatment::kInterpreter;
}

}  // namespace

// [SDM 2D] tables
bool IsPlainEnding(std::span<const uint8_t> insn, BlockEnding& ending) {
  const auto displacement = [insn](auto value, size_t at) -> int64_t {
    std::memcpy(&value, &insn[at], sizeof(value));
    return value;
  };
  const uint8_t first = insn[0];
  switch (insn.size()) {
    case 1:
      ending = {Treatment::kReturn, 0};
      return first == 0xc3;
    case 2:
      ending = {first == 0xeb ? Treatment::kJump : Treatment::kJumpIf, displacement(int8_t{}, 1)};
      return first == 0xeb || (first & 0xf0) == 0x70;
    case 5:
      ending = {first == 0xe8 ? Treatment::kCall : Treatment::kJump, displacement(int32_t{}, 1)};
      return first == 0xe8 || first == 0xe9;
    case 6:
      ending = {Treatment::kJumpIf, displacement(int32_t{}, 2)};
      return first == 0x0f && (insn[1] & 0xf0) == 0x80;
    default:
      return false;
  }
}

bool BlockPath::Choose(Block& block, BlockSource& source, const FeatureSet& features, bool direct,
                       bool alone) {
  part_count_ = op_count_ = byte_count_ = return_count_ = 0;
  if (!Append(block, source)) return false;
  while (!alone && part_count_ < kMaxBlocks) {
    Part& last = parts_[part_count_ - 1];
    Block* next = Follow(last, EndingOf(last, features, direct), source);
    if (next && Append(*next, source)) continue;
    last.onward = Onward::kEnds;
    break;
  }
  glimpse_ = source.Look();
  return true;
}

// Its instructions, of which there is at least one, without what closes it.
bool BlockPath::Append(Block& block, BlockSource& source) {
  if (!source.EnsureOps(block) || block.bytes > bytes_.size() - byte_count_ ||
      !source.FetchBytes(block, &bytes_[byte_count_]))
    return false;
  unsigned count = 0, bytes = 0;
  for (const Op* op = block.ops; op->length != 0 && bytes < block.bytes; ++op) {
    if (op_count_ + count == ops_.size()) return false;
    ops_[op_count_ + count++] = *op;
    bytes += op->length;
  }
  if (count == 0) return false;
  Part& part = parts_[part_count_++];
  part = {&block,
          static_cast<uint16_t>(block.phys & ~kPageMask),
          static_cast<uint16_t>(op_count_),
          static_cast<uint16_t>(count),
          static_cast<uint16_t>(byte_count_),
          block.bytes};
  op_count_ += count;
  byte_count_ += block.bytes;
  return true;
}

BlockEnding BlockPath::EndingOf(const Part& part, const FeatureSet& features, bool direct) const {
  unsigned before = 0;
  for (unsigned i = 0; i + 1 < part.count; ++i) before += ops_[part.first + i].length;
  const Op& op = ops_[part.first + part.count - 1u];
  const auto bytes = std::span(bytes_).subspan(part.begin + before, part.bytes - before);
  BlockEnding ending;
  if (!direct && bytes.size() == op.length && IsPlainEnding(bytes, ending)) return ending;
  BlockStep step;
  DecodeStep(bytes, op, 0, features, direct, step);
  return {step.how, static_cast<int64_t>(step.insn.operand[0].imm)};
}

void BlockPath::Decode(const FeatureSet& features, bool direct,
                       std::vector<BlockStep>& steps) const {
  for (const Part& part : parts()) {
    unsigned offset = 0;
    for (const Op& op : std::span(ops_).subspan(part.first, part.count)) {
      const auto next = static_cast<uint16_t>(part.start + offset + op.length);
      DecodeStep(std::span(bytes_).subspan(part.begin + offset, part.bytes - offset), op, next,
                 features, direct, steps.emplace_back());
      offset += op.length;
    }
    steps.back().onward = part.onward;
    steps.back().resume = part.resume;
  }
}

// The block that comes behind the last one, if it can be told; null: the translation ends.
Block* BlockPath::Follow(Part& last, const BlockEnding& ending, BlockSource& source) {
  const auto end = static_cast<uint16_t>(last.start + last.bytes);
  const int64_t target = end + ending.displacement;
  last.onward = Onward::kTarget;
  switch (ending.how) {
    case Treatment::kJumpIf: {
      if (target < end || target != static_cast<int32_t>(target)) return nullptr;  // a loop
      Block *next = FindNext(end, source), *other = FindNext(target, source);
      if (other && (!next || Runs(*next) < Runs(*other))) return other;
      last.onward = Onward::kNext;
      return next;
    }
    case Treatment::kCall:
      returns_[return_count_++] = end;
      return FindNext(target, source);
    case Treatment::kJump:
      return FindNext(target, source);
    case Treatment::kReturn:
      if (return_count_ == 0) return nullptr;
      last.onward = Onward::kReturn;
      last.resume = returns_[--return_count_];
      return FindNext(last.resume, source);
    default:
      return nullptr;
  }
}

// One at that offset in the page, which is not in the translation yet.
Block* BlockPath::FindNext(int64_t offset, BlockSource& source) const {
  if (static_cast<uint64_t>(offset) >= vmm::kPageSize) return nullptr;
  const uint64_t page = parts_[0].block->phys & kPageMask;
  Block* block = source.FindBlock(page | static_cast<uint64_t>(offset));
  if (!block || block->second_page != 0 || op_count_ + block->op_count > kMaxSteps) return nullptr;
  const bool known =
      std::ranges::any_of(parts(), [block](const Part& part) { return part.block == block; });
  return known ? nullptr : block;
}

}  // namespace bt
