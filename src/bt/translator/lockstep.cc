#include "bt/translator/lockstep.h"

#include <algorithm>
#include <cstring>

#include "bt/isa/decoder.h"
#include "bt/translator/repeat_stubs.h"

namespace bt {
namespace {

constexpr unsigned kRcx = 1, kRbp = 5, kRsi = 6, kRdi = 7;

bool Same(const vmm::SegmentState& a, const vmm::SegmentState& b) {
  return a.selector == b.selector && a.access == b.access && a.limit == b.limit && a.base == b.base;
}

// In pieces that are moved by vector registers: as a whole it becomes a REP MOVS, which takes
// longer to start than all of this.
void CopySlots(const uint64_t* from, uint64_t* to) {
  constexpr size_t kPiece = 6;
  static_assert(kSlots % kPiece == 0);
  for (size_t i = 0; i < kSlots; i += kPiece) {
    std::memcpy(to + i, from + i, kPiece * sizeof(uint64_t));
  }
}

// From the operand of `size` bytes to the one of the same size that has the bit.
uint64_t BitOffset(const Cpu& cpu, const Op& op, unsigned size) {
  int64_t bit = static_cast<int64_t>(cpu.Reg<uint64_t>(op.src));
  if (size == 4) bit = static_cast<int32_t>(bit);
  if (size == 2) bit = static_cast<int16_t>(bit);
  return static_cast<uint64_t>(bit >> 3) & ~uint64_t{size - 1};
}

}  // namespace

Translator::Lockstep::Lockstep(Translator& translator)
    : translator_(translator), cpu_(translator.cpu_) {}

void Translator::Lockstep::Note(const Translation& translation,
                                std::span<const BlockPath::Part> parts, CodeVerifier::Range hot,
                                CodeVerifier::Range cold) {
  Place& place = places_[&translation];
  place = {{}, hot, cold};
  for (const BlockPath::Part& part : parts) place.blocks.push_back(part.block);
}

void Translator::Lockstep::Clear() {
  Forget();
  recent_.fill({});
  steps_.clear();
  places_.clear();
}

Translator::Lockstep::Step Translator::Lockstep::StepOf(const Op& op, const Insn& insn) {
  constexpr auto kWord = static_cast<uint8_t>(sizeof(uint64_t));
  const InsnUse& use = UseOf(insn);
  Step step{.op = &op, .expected = true};
  step.flags_read = use.flags_read;
  step.flags_written = use.flags_kept_sometimes ? 0 : use.flags_written;
  step.undefined = insn.undefined_flags;
  const auto name = [&] {
    if (!HasMemory(insn)) return;
    step.named = static_cast<uint8_t>(MemoryBytes(insn));
    step.named_written = use.memory_written;
    step.expected = (op.mode & (Op::kPlain64 | Op::kDisp64)) == Op::kPlain64 && step.named != 0;
  };
  switch (TreatmentOf(insn, use)) {
    case Treatment::kNothing:
    case Treatment::kAddress:
    case Treatment::kSelector:
    case Treatment::kJump:
    case Treatment::kJumpIf:
      break;
    case Treatment::kCopy:
    case Treatment::kMemory:
      step.vector = VectorUseOf(insn, use) != VectorUse::kNone || X87UseOf(insn) != X87Use::kNone;
      name();
      break;
    case Treatment::kDivide:
    case Treatment::kJumpIndirect:
      name();
      break;
    case Treatment::kBitString:
      name();
      step.bits = true;
      break;
    case Treatment::kPush:
    case Treatment::kPushFlags:
    case Treatment::kCall:
    case Treatment::kCallIndirect:
      name();
      step.stack = kWord;
      step.pushes = true;
      break;
    case Treatment::kPop:
    case Treatment::kReturn:
      step.stack = kWord;
      break;
    case Treatment::kLeave:
      step.stack = kWord;
      step.frame = true;
      break;
    case Treatment::kClearIf:
    case Treatment::kSetIf:
    case Treatment::kSwapGs:
    case Treatment::kSetAc:
    case Treatment::kClearAc:
    case Treatment::kSystemCall:
    case Treatment::kSystemReturn:
      step.system = true;
      break;
    case Treatment::kRepeat:
      step.repeats = static_cast<uint8_t>(1u << (*RepeatIndex(insn) % 4));
      step.moves = *RepeatIndex(insn) >= 4;
      break;
    default:
      step.expected = false;
  }
  return step;
}

// As long as it is decoded: none, if there is no memory.
const std::vector<Translator::Lockstep::Step>& Translator::Lockstep::StepsOf(const Block& block) {
  Recent& recent = recent_[reinterpret_cast<uintptr_t>(&block) / sizeof(Block) % recent_.size()];
  if (recent.block == &block) return *recent.steps;
  const auto [found, made] = steps_.try_emplace(&block);
  recent = {&block, &found->second};
  std::vector<Step>& steps = found->second;
  std::array<uint8_t, BlockCache::kMaxBytes> bytes;
  if (!made || !translator_.FetchBytes(block, bytes.data())) return steps;
  unsigned offset = 0;
  for (const Op* op = block.ops; op->length != 0 && offset < block.bytes; ++op) {
    Insn insn;
    const size_t most = std::min<size_t>(15, block.bytes - offset);
    if (bt::Decode({&bytes[offset], most}, CodeSize::k64, insn) != DecodeStatus::kOk ||
        insn.length != op->length)
      break;
    steps.push_back(StepOf(*op, insn));
    offset += op->length;
  }
  return steps;
}

// By an entry of either kind, as a span may be, or in a range, where the code may find it and the
// interpreter changes nothing but the TLB.
bool Translator::Lockstep::Reads(uint64_t linear, uint64_t size) const {
  const uint64_t last = vmm::kPageSize - size;
  const LinearRange& range = cpu_.tlb_->ranges[TlbBank::RangeOf(linear)];
  return (range.Holds(linear) && range.Holds(linear + size - 1)) ||
         (linear ^ cpu_.tlb_->read.At(linear).tag) <= last ||
         (linear ^ cpu_.tlb_->write.At(linear).tag) <= last;
}

bool Translator::Lockstep::Writes(uint64_t linear, uint64_t size) {
  auto* const host = static_cast<uint8_t*>(cpu_.WritePointer(linear, static_cast<unsigned>(size)));
  if (!host) return false;
  const size_t data = data_.size();
  data_.resize(data + 2 * size);
  std::memcpy(&data_[data], host, size);
  writes_.push_back({host, linear, static_cast<uint32_t>(size), data});
  return true;
}

Translator::Lockstep::Ahead Translator::Lockstep::PrepareRepeat(const Step& step) {
  const uint64_t count = cpu_.r[kRcx];
  if (count > vmm::kPageSize / step.repeats || (cpu_.rflags_ & eflags::DF)) return Ahead::kUnknown;
  const uint64_t size = count * step.repeats;
  if (size == 0) return Ahead::kYes;
  const bool fits = (!step.moves || Reads(cpu_.r[kRsi], size)) && Writes(cpu_.r[kRdi], size);
  return fits ? Ahead::kYes : Ahead::kUnknown;
}

// RIP stands behind the instruction.
Translator::Lockstep::Ahead Translator::Lockstep::Prepare(const Step& step) {
  if (!step.expected || (step.flags_read & points_.back().undefined)) return Ahead::kUnknown;
  if (step.repeats) return PrepareRepeat(step);
  if (step.named) {
    uint64_t linear = cpu_.Effective(*step.op) + cpu_.seg_base_[step.op->seg];
    if (step.bits) linear += BitOffset(cpu_, *step.op, step.named);
    if (!(step.named_written ? Writes(linear, step.named) : Reads(linear, step.named)))
      return Ahead::kNo;
  }
  if (step.stack) {
    const uint64_t linear = step.frame ? cpu_.r[kRbp] : cpu_.r[kGuestRsp];
    if (!(step.pushes ? Writes(linear - step.stack, step.stack) : Reads(linear, step.stack)))
      return Ahead::kNo;
  }
  return Ahead::kYes;
}

Translator::Lockstep::System Translator::Lockstep::SystemNow() const {
  System system{cpu_.rflags_, cpu_.msr_.kernel_gs_base, cpu_.key_, cpu_.tlb_, cpu_.cpl_,
                cpu_.view_,   cpu_.code_size_,          {},        cpu_.seg_};
  std::ranges::copy(cpu_.seg_base_, system.seg_base.begin());
  return system;
}

bool Translator::Lockstep::FlagsAre(const Point& want) const {
  const auto different = static_cast<Flags>(want.flags ^ cpu_.flags_);
  return (FlagsToEflags(different) & ~want.undefined) == 0;
}

bool Translator::Lockstep::SystemIs(const System& want) const {
  const System now = SystemNow();
  return now.rflags == want.rflags && now.kernel_gs_base == want.kernel_gs_base &&
         now.key == want.key && now.tlb == want.tlb && now.cpl == want.cpl &&
         now.view == want.view && now.code_size == want.code_size &&
         now.seg_base == want.seg_base && std::ranges::equal(now.seg, want.seg, Same);
}

Translator::Lockstep::Fpu Translator::Lockstep::FpuNow() const {
  Fpu fpu;
  std::memcpy(fpu.data(), cpu_.fpu_.bytes.data(), fpu.size());
  return fpu;
}

// But for what no instruction sets: the mask of MXCSR, bytes for software, the header.
bool Translator::Lockstep::FpuIs(const Fpu& want) const {
  const uint8_t* now = cpu_.fpu_.bytes.data();
  const auto same = [&](size_t from, size_t to) {
    return std::memcmp(now + from, want.data() + from, to - from) == 0;
  };
  return same(0, 28) && same(32, 416) && same(576, kFpuBytes);
}

// After the instruction of `step`; null: at the beginning.
void Translator::Lockstep::AddPoint(const Step* step) {
  if (!step || step->system) systems_.push_back(SystemNow());
  if (!step || step->vector) fpus_.push_back(FpuNow());
  const uint32_t undefined =
      step ? (points_.back().undefined & ~step->flags_written) | step->undefined : 0;
  const size_t noted = points_.empty() ? 0 : points_.back().writes;
  Point& point = points_.emplace_back();
  CopySlots(cpu_.r, point.r.data());
  point.flags = cpu_.flags_;
  point.undefined = undefined;
  point.system = systems_.size() - 1;
  point.fpu = fpus_.size() - 1;
  point.writes = writes_.size();
  for (size_t i = noted; i < writes_.size(); ++i) {
    Write& write = writes_[i];
    std::memcpy(&data_[write.data + write.size], write.host, write.size);
  }
}

// Memory is as before the first of the writes.
void Translator::Lockstep::Undo() {
  for (size_t i = writes_.size(); i-- > 0;)
    std::memcpy(writes_[i].host, &data_[writes_[i].data], writes_[i].size);
}

// What the run loop would run next, if that is known without a walk. `before` is in the page with
// linear address `page`.
const Block* Translator::Lockstep::BlockAt(uint64_t linear, const Block& before,
                                           uint64_t page) const {
  constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);
  if ((linear & kPageMask) == page && before.second_page == 0 &&
      cpu_.key_ == systems_.front().key) {
    const Block* block =
        cpu_.blocks_.Find((before.phys & kPageMask) | (linear & ~kPageMask), CodeSize::k64);
    if (block) return block;
  }
  const Cpu::JumpCacheEntry& entry =
      cpu_.jump_cache_[(linear ^ (linear >> 12)) & (Cpu::kJumpCacheSize - 1)];
  const bool known = entry.linear == linear && entry.key == cpu_.key_ && entry.block &&
                     !entry.block->dead && entry.block->code_size == CodeSize::k64;
  return known ? entry.block : nullptr;
}

// Adds a point for each instruction that the interpreter can do, from that of the block on.
void Translator::Lockstep::RunAhead(const Block* block, size_t index) {
  uint64_t page = cpu_.r[kRip] & ~(vmm::kPageSize - 1);
  const std::vector<Step>* steps = &StepsOf(*block);
  end_ = Ahead::kUnknown;
  while (cpu_.instructions_ + points_.size() <= cpu_.turn_end_) {
    if (index >= steps->size() || (*steps)[index].op->length == 0) {
      block = BlockAt(cpu_.r[kRip], *block, page);
      if (!block) return;
      page = cpu_.r[kRip] & ~(vmm::kPageSize - 1);
      steps = &StepsOf(*block);
      index = 0;
      if (steps->empty()) return;
    }
    const Step& step = (*steps)[index++];
    cpu_.r[kRip] += step.op->length;
    end_ = Prepare(step);
    if (end_ != Ahead::kYes) return;
    const bool more = step.op->fn(cpu_, *step.op);
    if (cpu_.fault_.active || cpu_.incomplete_) {
      end_ = cpu_.incomplete_ ? Ahead::kUnknown : Ahead::kNo;
      return;
    }
    AddPoint(&step);
    end_ = Ahead::kUnknown;
    if (!more) index = steps->size();
  }
}

void Translator::Lockstep::Expect(const Translation& translation) {
  ExpectFrom(translation, translation.block, 0);
}

void Translator::Lockstep::ExpectBehind(const Translation& translation, uint16_t next) {
  const auto place = places_.find(&translation);
  if (place == places_.end()) return Forget();
  for (const Block* part : place->second.blocks) {
    size_t end = part->phys & (vmm::kPageSize - 1);
    for (size_t i = 0; i < part->op_count; ++i) {
      end += part->ops[i].length;
      if (end == next) return ExpectFrom(translation, part, i + 1);
    }
  }
  Forget();
}

void Translator::Lockstep::ExpectFrom(const Translation& translation, const Block* block,
                                      size_t index) {
  Forget();
  systems_.clear();
  fpus_.clear();
  writes_.clear();
  data_.clear();
  from_ = &translation;
  first_ = cpu_.instructions_;
  AddPoint(nullptr);
  const Fault fault = cpu_.fault_;
  const std::array<uint64_t, 2> keys = cpu_.keys_;
  const uint64_t cr2 = cpu_.cr2_, sp_mask = cpu_.sp_mask_;
  const bool recheck = cpu_.recheck_, sti = cpu_.sti_shadow_, mov_ss = cpu_.mov_ss_shadow_,
             incomplete = cpu_.incomplete_;
  const uint8_t careful = cpu_.careful_;
  cpu_.incomplete_ = false;
  RunAhead(block, index);
  Undo();
  writes_.resize(points_.back().writes);  // without those of an instruction that was not done
  const System& system = systems_.front();
  std::ranges::copy(points_.front().r, cpu_.r);
  cpu_.flags_ = points_.front().flags;
  std::memcpy(cpu_.fpu_.bytes.data(), fpus_.front().data(), kFpuBytes);
  cpu_.rflags_ = system.rflags;
  cpu_.msr_.kernel_gs_base = system.kernel_gs_base;
  cpu_.key_ = system.key;
  cpu_.tlb_ = system.tlb;
  cpu_.cpl_ = system.cpl;
  cpu_.view_ = system.view;
  cpu_.code_size_ = system.code_size;
  std::ranges::copy(system.seg_base, cpu_.seg_base_);
  cpu_.seg_ = system.seg;
  cpu_.fault_ = fault;
  cpu_.keys_ = keys;
  cpu_.cr2_ = cr2;
  cpu_.sp_mask_ = sp_mask;
  cpu_.recheck_ = recheck;
  cpu_.sti_shadow_ = sti;
  cpu_.mov_ss_shadow_ = mov_ss;
  cpu_.incomplete_ = incomplete;
  cpu_.careful_ = careful;
}

// Whether memory is as after the first `writes` of what was expected. Where they overlap, that is
// made, looked at, and what there is put back.
bool Translator::Lockstep::MemoryIs(size_t writes) {
  bool same = true;
  for (size_t i = 0; i < writes_.size() && same; ++i) {
    const Write& write = writes_[i];
    const uint8_t* want = &data_[write.data + (i < writes ? write.size : 0)];
    same = std::memcmp(write.host, want, write.size) == 0;
  }
  if (same) return true;
  std::vector<std::vector<uint8_t>> now;
  for (const Write& write : writes_) now.emplace_back(write.host, write.host + write.size);
  Undo();
  for (size_t i = 0; i < writes; ++i)
    std::memcpy(writes_[i].host, &data_[writes_[i].data + writes_[i].size], writes_[i].size);
  same = true;
  for (size_t i = 0; i < writes_.size(); ++i) {
    Write& write = writes_[i];
    same = same && std::memcmp(write.host, now[i].data(), write.size) == 0;
    std::memcpy(&data_[write.data], write.host, write.size);  // for a report
  }
  for (size_t i = 0; i < writes_.size(); ++i)
    std::memcpy(writes_[i].host, now[i].data(), now[i].size());
  return same;
}

std::string Translator::Lockstep::Compare() {
  if (points_.empty()) return {};
  const size_t done = cpu_.instructions_ - first_;
  const bool passed = done >= points_.size();
  if (passed && end_ == Ahead::kUnknown && cpu_.instructions_ >= first_) {
    Forget();
    return {};
  }
  const Point& want = points_[passed ? points_.size() - 1 : done];
  const bool same = !passed && std::ranges::equal(want.r, cpu_.r) && FlagsAre(want) &&
                    SystemIs(systems_[want.system]) && FpuIs(fpus_[want.fpu]) &&
                    MemoryIs(want.writes);
  std::string report;
  if (same)
    compared_ += done;
  else
    report = Report(want, done, passed);
  Forget();
  return report;
}

}  // namespace bt
