#include "bt/translator/translator.h"

#include <sys/mman.h>

#include <cstdlib>
#include <string_view>

#include "bt/interp/interpreter.h"
#include "bt/interp/page_entry.h"
#include "bt/translator/host_registers.h"
#include "bt/translator/lockstep.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"
#include "vmm/core/host/processors.h"

namespace bt {
namespace {

Counting CountingFor(const vmm::VmParts& parts) {
  if (parts.schedule || parts.lockstep) return Counting::kBounded;
  return parts.count_instructions ? Counting::kCount : Counting::kNone;
}

// Whether a thread of its own may translate: as the machine says, or where it leaves that open as
// VMM_TRANSLATE_ASIDE=never|always in the environment does, for tests.
bool IsAside(const vmm::VmParts& parts) {
  if (CountingFor(parts) == Counting::kBounded) return false;
  using When = vmm::TranslateAside;
  if (parts.translate_aside != When::kWorthIt) return parts.translate_aside == When::kAlways;
  const char* value = std::getenv("VMM_TRANSLATE_ASIDE");
  if (value && std::string_view(value) == "never") return false;
  if (value && std::string_view(value) == "always") return true;
  return vmm::UsableProcessors() > parts.cpu_count;
}

CodeState& StateIn(Cpu& cpu) {
  CHECK(mprotect(cpu.Window(), vmm::kPageSize, PROT_READ | PROT_WRITE) == 0);
  return *new (cpu.Window()) CodeState;
}

}  // namespace

Translator::Translator(Cpu& cpu, const Trial& trial)
    : cpu_(cpu),
      names_(cpu.vm_.parts().perf_map ? PerfMap::Get() : nullptr),
      state_(StateIn(cpu)),
      context_{cpu.r,
               cpu.flags_,
               cpu.tlb_,
               cpu.seg_base_,
               cpu.key_,
               cpu.attention_,
               state_,
               state_.jumps,
               cpu.cr0_,
               cpu.cr4_,
               cpu.xcr0_,
               cpu.rflags_,
               cpu.cpl_,
               cpu.fpu_.bytes.data(),
               cpu.msr_,
               cpu.efer_,
               cpu.seg_.data(),
               cpu.view_,
               cpu.views_.data(),
               cpu.keys_.data(),
               cpu.instructions_,
               cpu.turn_end_},
      space_(static_cast<uint8_t*>(cpu.Window()) + kStateBytes, kCodeBytes, names_ != nullptr),
      tables_run_(0),
      counting_(CountingFor(cpu.vm_.parts())),
      trial_(trial),
      lockstep_(cpu.vm_.parts().lockstep ? std::make_unique<Lockstep>(*this) : nullptr),
      block_translator_(space_, context_, stubs_, cpu.vm_.features(), exits_, sites_, accesses_,
                        trial.leave_out, counting_),
      queue_([this](TranslationJob& job) { Translate(job); }, IsAside(cpu.vm_.parts())) {
  static_assert(kStateBytes + kCodeBytes <= Cpu::kWindowBytes && sizeof(CodeState) <= kStateBytes);
  state_.run_site = reinterpret_cast<uint64_t>(&RunSite);
  state_.self = reinterpret_cast<uint64_t>(this);
  state_.apic = reinterpret_cast<uint64_t>(&cpu.apic().attention());
  Clear();
}

Translator::Translator(Cpu& cpu, CodeState& state, const CodeContext& context, uint8_t* write,
                       uint8_t* run, size_t size, JumpTable* tables, ptrdiff_t tables_run)
    : cpu_(cpu),
      names_(nullptr),
      state_(state),
      context_(context),
      space_(write, run, size),
      jumps_(tables),
      tables_run_(tables_run),
      counting_(CountingFor(cpu.vm_.parts())),
      block_translator_(space_, context_, stubs_, cpu.vm_.features(), exits_, sites_, accesses_,
                        trial_.leave_out, counting_),
      queue_([this](TranslationJob& job) { Translate(job); }, false) {}

Translator::~Translator() = default;

void Translator::Clear() {
  queue_.Drop();
  full_ = false;
  space_.Clear();
  exits_.Clear();
  sites_.Clear();
  accesses_.Clear();
  thunk_accesses_.Clear();
  parts_.Clear();
  page_numbers_.clear();
  jumps_.Clear();
  selected_ = {};
  way_ = {};
  if (!translations_.empty()) ++done_.clears;
  translations_.Clear();
  if (lockstep_) lockstep_->Clear();
  stubs_ = EmitStubs();
  if (names_) NameStubs();
}

// The number that stands for the page in JumpTable::pages.
uint16_t Translator::PageNumber(uint64_t page) {
  return page_numbers_.try_emplace(page, static_cast<uint16_t>(page_numbers_.size() + 1))
      .first->second;
}

void Translator::Run(Block* block) {
  const Translation* translation = Prepare(block);
  if (!translation) return;
  ++done_.exits;
  const uint64_t before = cpu_.instructions_, turn_end = cpu_.turn_end_;
  const uint64_t stretch_end = std::min(turn_end, before + BlockPath::kMaxSteps);
  if (lockstep_) {  // so far and no further: what would be longer refuses
    cpu_.turn_end_ = stretch_end;
    lockstep_->Expect(*translation);
  }
  done_.instructions -= before;
  stubs_.enter(space_.run(translation->from(FlagHome::kMemory)));
  done_.instructions += cpu_.instructions_;
  Leave();
  if (lockstep_) {
    CompareInLockstep();
    if (cpu_.turn_end_ == stretch_end) cpu_.turn_end_ = turn_end;  // else nothing is left of it
  }
  // Spans that do not hold lead to code that may be too long for what is left of the turn.
  if (counting_ == Counting::kBounded && cpu_.instructions_ == before &&
      state_.exit == CodeState::kLeft && !cpu_.fault_.active && before < cpu_.turn_end_)
    cpu_.RunCarefully();
}

// Everything that code of the block at RIP needs before it may run. Null: there is none, something
// else was done.
const Translation* Translator::Prepare(Block* block) {
  TakeTranslations();
  // A run may keep a block, and add two pages.
  if (full_ || !cpu_.blocks_.HasRoomToKeep() || page_numbers_.size() + 3 > JumpTable::kPages) {
    cpu_.ForgetCode();
    return nullptr;
  }
  const Way way = std::exchange(way_, {});
  const bool linked =
      way.kind != Way::Kind::kNone && way.linear == cpu_.r[kRip] && way.key == cpu_.key_;
  // Plain code that ends in its page never leaves before its first instruction, which RF is for.
  const bool resumes = cpu_.rflags_ & eflags::RF;
  const bool plain =
      resumes || (linked && way.kind == Way::Kind::kDirect && exits_[way.exit].plain);
  const bool in_page = way.kind == Way::Kind::kDirect && exits_[way.exit].InPage();
  const FlagHome wanted = !linked   ? FlagHome::kHost
                          : in_page ? exits_[way.exit].flags
                                    : FlagHome::kMemory;
  Translation* translation =
      resumes && block->second_page ? nullptr : TranslationOf(block, plain, wanted);
  if (counting_ == Counting::kBounded &&
      (!translation || cpu_.instructions_ + translation->instructions > cpu_.turn_end_)) {
    // Events and the end of the turn come exactly, op by op.
    if (cpu_.instructions_ < cpu_.turn_end_)
      cpu_.RunCarefully();
    else
      cpu_.recheck_ = true;
    return nullptr;
  }
  cpu_.rflags_ &= ~static_cast<uint64_t>(eflags::RF);
  if (!translation) {
    if (cpu_.EnsureOps(*block)) cpu_.Execute(block);
    return nullptr;
  }
  if (linked && !resumes) Link(way, *translation);
  cpu_.last_block_ = nullptr;
  state_.page = cpu_.r[kRip] & kPageMask;
  if (translation->second_page != 0)
    jumps_.SetPage(translation->second_page, state_.page + vmm::kPageSize, cpu_.key_);
  SelectJumps();
  return translation;
}

void Translator::CompareInLockstep() {
  const std::string report = lockstep_->Compare();
  if (report.empty()) return;
  if (trial_.on_difference) return trial_.on_difference(report);
  vmm::Log(vmm::LogLevel::kError, report);
  CHECK(!"translated code and the interpreter agree");
}

// Sets RIP, and remembers the way out for Link().
void Translator::Leave() {
  switch (state_.exit) {
    case CodeState::kLeft:
      return;
    case CodeState::kIndirect:
      ++done_.indirect_misses;
      way_ = {Way::Kind::kIndirect, 0, cpu_.r[kRip], cpu_.key_};
      if (!Canonical(cpu_.r[kRip]) && state_.site != CodeState::kNoSite) FaultAtTarget();
      return;
    default:
      cpu_.r[kRip] = state_.page + static_cast<int64_t>(exits_[state_.exit].target);
      way_ = {Way::Kind::kDirect, state_.exit, cpu_.r[kRip], cpu_.key_};
  }
}

// An indirect jump to where no address is faults before it is made: undone, and done once more by
// the interpreter.
void Translator::FaultAtTarget() {
  const Site& site = sites_[state_.site];
  way_ = {};
  cpu_.r[kRip] = state_.page + site.next;
  if (site.returns) cpu_.r[kGuestRsp] -= 8 + site.op.imm;
  if (site.op.fn(cpu_, site.op) || !cpu_.fault_.active) return;
  cpu_.Rewind(site.op);
  if (counting_ != Counting::kNone) --cpu_.instructions_;
}

// Both tables at once: while one is in use the other must not get another key.
void Translator::SelectJumps() {
  if (cpu_.keys_[0] != selected_[0] || cpu_.keys_[1] != selected_[1]) {
    selected_ = cpu_.keys_;
    for (unsigned user : {0, 1}) {
      const bool ours = user == 0 || user_code_;
      JumpTable* table = ours ? jumps_.Select(selected_[user]) : jumps_.Nowhere();
      state_.tables[user] = reinterpret_cast<uint64_t>(table);
    }
  }
  state_.jumps = state_.tables[cpu_.cpl_ == 3];
}

// Runs one instruction in the interpreter. The count is exact while it runs, and afterwards.
AfterSite Translator::RunSite(Translator* self, uint32_t index) noexcept {
  const Site& site = self->sites_[index];
  const Translation& from = self->translations_[site.from];
  Cpu& cpu = self->cpu_;
  const bool counts = self->counting_ != Counting::kNone;
  if (counts) cpu.instructions_ -= site.behind + 1u;
  cpu.r[kRip] = self->state_.page + site.next;
  if (self->lockstep_) {
    cpu.r[kRip] -= site.op.length;
    self->CompareInLockstep();
    cpu.r[kRip] += site.op.length;
  }
  ++self->done_.sites;
  cpu.incomplete_ = false;
  const bool more = site.op.fn(cpu, site.op);
  self->SelectJumps();
  const bool faulted = cpu.fault_.active;
  if (faulted) {
    cpu.Rewind(site.op);
    if (counts || cpu.careful_ != 0 || !cpu.TryDeliverFault()) return AfterSite::kLeave;
    self->SelectJumps();
  }
  if (counts && !std::exchange(cpu.incomplete_, false)) {
    ++cpu.instructions_;
    --self->done_.instructions;
  }
  if (cpu.CountedStop()) return AfterSite::kLeave;
  if (more && !faulted && !from.dead) {
    if (self->lockstep_) self->lockstep_->ExpectBehind(from, site.next);
    if (counts) cpu.instructions_ += site.behind;
    return AfterSite::kNext;
  }
  if (self->lockstep_) return AfterSite::kLeave;
  const bool plain = cpu.In64() && cpu.careful_ == 0 &&
                     (cpu.rflags_ & (eflags::TF | eflags::RF)) == 0 && Canonical(cpu.r[kRip]);
  return plain ? AfterSite::kAtRip : AfterSite::kLeave;
}

}  // namespace bt
