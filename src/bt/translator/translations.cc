// How translations are asked for, made, and taken into use.
#include <algorithm>
#include <tuple>
#include <utility>

#include "bt/interp/interpreter.h"
#include "bt/translator/lockstep.h"
#include "bt/translator/translator.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"

namespace bt {
namespace {

constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);

}  // namespace

Block* Translator::FindBlock(uint64_t phys) {
  Block* block = cpu_.blocks_.Find(phys, CodeSize::k64);
  return block && block->kept && !block->untranslatable ? block : nullptr;
}

// A copy: another vCPU may write there while they are decoded.
bool Translator::FetchBytes(const Block& block, uint8_t* to) {
  const uint64_t size = block.bytes;
  const uint64_t first = block.second_page ? vmm::kPageSize - (block.phys & ~kPageMask) : size;
  const uint8_t* head = cpu_.memory_.Host(vmm::GuestPhys(block.phys), first);
  if (!head || size < first) return false;
  to = std::copy_n(head, first, to);
  if (size == first) return true;
  const uint8_t* tail = cpu_.memory_.Host(vmm::GuestPhys(block.second_page), size - first);
  if (tail) std::copy_n(tail, size - first, to);
  return tail != nullptr;
}

Glimpse Translator::Look() const {
  Glimpse glimpse{};
  std::copy_n(context_.r, kSlots, glimpse.r.begin());
  std::copy_n(context_.seg_base, glimpse.seg_base.size(), glimpse.seg_base.begin());
  if (context_.tlb) std::ranges::copy(context_.tlb->ranges, glimpse.ranges.begin());
  return glimpse;
}

Translation* Translator::Find(const Block& block, bool plain) const {
  if (block.translation && (!plain || block.translation->plain)) return block.translation;
  return plain ? block.plain : nullptr;
}

void Translator::Keep(Block& block, bool plain, Translation* translation) const {
  (plain ? block.plain : block.translation) = translation;
}

// `plain`: without spans. `wanted`: where the flags are on the way that it is for. The block may
// get another place. Null: none, or not yet.
Translation* Translator::TranslationOf(Block*& block, bool plain, FlagHome wanted) {
  if (Translation* known = Find(*block, plain)) return known;
  if (block->runs < (queue_.aside() ? kHotRunsAside : kHotRuns)) {
    if (++block->runs >= kWarmRuns) block = cpu_.blocks_.Keep(block);
    return nullptr;
  }
  block = cpu_.blocks_.Keep(block);
  if (!queue_.Has(*block, plain) && !Ask(*block, plain, wanted)) return nullptr;
  const bool helps = !queue_.aside() || block->runs >= kTooManyRuns;
  while (helps && !Find(*block, plain) && queue_.Help()) TakeTranslations();
  if (!helps) ++block->runs;
  return Find(*block, plain);
}

// False: it can't be translated.
bool Translator::Ask(Block& block, bool plain, FlagHome wanted) {
  block.untranslatable |= block.code_size != CodeSize::k64 || block.bytes == 0;
  if (block.untranslatable || !cpu_.EnsureOps(block)) return false;
  if (queue_.full()) return true;  // later
  TranslationJob& job = queue_.next();
  const bool alone = block.second_page != 0;
  if (!job.path.Choose(block, *this, cpu_.vm_.features(), context_.direct, alone)) {
    block.untranslatable = true;
    return false;
  }
  job.plain = plain;
  job.wanted = wanted;
  job.linear = cpu_.r[kRip];
  job.user = cpu_.cpl_ == 3;
  job.translation = {};
  job.translation.block = &block;
  job.translation.number = translations_.next() + queue_.under_way();
  if (alone) job.translation.second_page = PageNumber(block.second_page);
  queue_.Ask(block);
  return true;
}

void Translator::Translate(TranslationJob& job) {
  if (!space_.Prepare(BlockTranslator::kMaxCode)) {
    job.result = TranslationJob::Result::kNoRoom;
    return;
  }
  const auto ends = [this] {
    return std::pair(space_.OffsetOf(space_.hot()), space_.OffsetOf(space_.cold()));
  };
  const uint32_t exits = exits_.next(), accesses = accesses_.next();
  std::tie(job.hot.begin, job.cold.begin) = ends();
  const bool good = block_translator_.Translate(job.path, job.plain, job.translation, job.wanted);
  std::tie(job.hot.end, job.cold.end) = ends();
  job.count_bytes = block_translator_.count_bytes();
  job.result = good ? TranslationJob::Result::kGood : TranslationJob::Result::kImpossible;
  if (!good || !verify_) return;
  const Translation& made = job.translation;
  const std::vector<Exit> own_exits = exits_.Since(exits);
  const std::vector<DirectAccess> own_accesses = accesses_.Since(accesses);
  Verify({job.hot,
          job.cold,
          {{made.from(FlagHome::kHost), FlagHome::kHost},
           {made.from(FlagHome::kMemory), FlagHome::kMemory}},
          own_exits,
          {},
          made.second_page,
          own_accesses});
}

void Translator::TakeTranslations() {
  while (TranslationJob* job = queue_.done()) {
    Take(*job);
    queue_.Take();
  }
}

// From now on it is entered, unless the guest has written to what it is made of since it was asked
// for.
void Translator::Take(TranslationJob& job) {
  using Result = TranslationJob::Result;
  Translation& made = job.translation;
  Block& block = *made.block;
  const std::span<const BlockPath::Part> parts = job.path.parts();
  made.dead = job.result != Result::kGood ||
              std::ranges::any_of(parts, [](const auto& part) { return part.block->dead; });
  full_ |= job.result == Result::kNoRoom;
  if (job.result == Result::kImpossible) block.untranslatable = true;
  CHECK(translations_.Add(made) == made.number);
  if (job.result != Result::kGood) return;
  if (names_) NameCode("guest", job.linear, job.user, block, job.hot, job.cold);
  ++done_.blocks;
  done_.hot_bytes += job.hot.end - job.hot.begin - job.count_bytes;
  done_.cold_bytes += job.cold.end - job.cold.begin;
  for (const BlockPath::Part& part : parts) {
    done_.guest_bytes += part.bytes;
    if (made.dead) continue;
    uint32_t& known = PartsOf(*part.block);
    known = parts_.Add({made.number, known});
  }
  if (made.dead) return;
  Translation& kept = translations_.back();
  Keep(block, job.plain, &kept);
  if (lockstep_) lockstep_->Note(kept, parts, job.hot, job.cold);
}

void Translator::Verify(const CodeVerifier::Code& code) {
  const std::string fault = CodeVerifier(space_, context_, stubs_).Verify(code);
  if (!fault.empty()) vmm::Log(vmm::LogLevel::kError, "translated code is wrong: " + fault);
  CHECK(fault.empty());
}

}  // namespace bt
