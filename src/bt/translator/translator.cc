#include "bt/translator/translator.h"

#include <sys/mman.h>

#include "bt/interp/interpreter.h"
#include "bt/translator/host_registers.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"

namespace bt {
namespace {

constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);

bool Canonical(uint64_t linear) {
  return static_cast<uint64_t>(static_cast<int64_t>(linear << 16) >> 16) == linear;
}

CodeState& StateIn(Cpu& cpu) {
  CHECK(mprotect(cpu.Window(), vmm::kPageSize, PROT_READ | PROT_WRITE) == 0);
  return *new (cpu.Window()) CodeState;
}

}  // namespace

Translator::Translator(Cpu& cpu)
    : cpu_(cpu),
      state_(StateIn(cpu)),
      context_{
          cpu.r,    cpu.flags_, cpu.tlb_,  cpu.seg_base_, cpu.key_, cpu.attention_,       state_,
          cpu.cr0_, cpu.cr4_,   cpu.xcr0_, cpu.rflags_,   cpu.cpl_, cpu.fpu_.bytes.data()},
      space_(static_cast<uint8_t*>(cpu.Window()) + kStateBytes, kCodeBytes) {
  static_assert(kStateBytes + kCodeBytes <= Cpu::kWindowBytes && sizeof(CodeState) <= kStateBytes);
  state_.run_site = reinterpret_cast<uint64_t>(&RunSite);
  state_.self = reinterpret_cast<uint64_t>(this);
  state_.apic = reinterpret_cast<uint64_t>(&cpu.apic().attention());
  Clear();
}

void Translator::Clear() {
  space_.Clear();
  exits_.clear();
  sites_.clear();
  translations_.clear();
  jumps_.Clear();
  way_ = {};
  stubs_ = Stubs::Emit(space_, context_);
}

// `plain`: without spans.
Translation* Translator::TranslationOf(Block* block, bool plain) {
  if (block->translation && (!plain || block->translation->plain)) return block->translation;
  if (plain && block->plain) return block->plain;
  if (block->runs < kHotRuns) {
    ++block->runs;
    return nullptr;
  }
  if (block->code_size != CodeSize::k64 || block->second_page || block->untranslatable ||
      block->bytes == 0) {
    return nullptr;
  }
  const uint8_t* host = cpu_.memory_.Host(vmm::GuestPhys(block->phys), block->bytes);
  auto translation = std::make_unique<Translation>();
  translation->block = block;
  const CodeSpace::Offset hot = space_.OffsetOf(space_.hot()),
                          cold = space_.OffsetOf(space_.cold());
  const size_t exits = exits_.size();
  BlockTranslator translator(space_, context_, stubs_, cpu_.vm_.features(), exits_, sites_);
  if (!host || !translator.Translate(*block, host, plain, *translation)) {
    block->untranslatable = true;
    return nullptr;
  }
  if (verify_) {
    Verify(hot, cold, std::span(exits_).subspan(exits),
           {{translation->from(FlagHome::kHost), FlagHome::kHost},
            {translation->from(FlagHome::kMemory), FlagHome::kMemory}},
           {});
  }
  (plain ? block->plain : block->translation) = translation.get();
  translations_.push_back(std::move(translation));
  return translations_.back().get();
}

void Translator::Run(Block* block) {
  if (!space_.HasRoom(BlockTranslator::kMaxCode)) return cpu_.ForgetCode();
  const Way way = std::exchange(way_, {});
  const bool linked =
      way.kind != Way::Kind::kNone && way.linear == cpu_.r[kRip] && way.key == cpu_.key_;
  const bool plain = linked && way.kind == Way::Kind::kDirect && exits_[way.exit].plain;
  Translation* translation = TranslationOf(block, plain);
  if (!translation) return cpu_.Execute(block);
  if (linked) Link(way, *translation);
  cpu_.last_block_ = nullptr;
  state_.page = cpu_.r[kRip] & kPageMask;
  state_.jumps = jumps_.Select(cpu_.key_);
  stubs_.enter(space_.run(translation->from(FlagHome::kMemory)));
  Leave();
}

// Sets RIP, and remembers the way out for Link().
void Translator::Leave() {
  switch (state_.exit) {
    case CodeState::kLeft:
      return;
    case CodeState::kIndirect:
      way_ = {Way::Kind::kIndirect, 0, cpu_.r[kRip], cpu_.key_};
      if (!Canonical(cpu_.r[kRip])) FaultAtTarget();
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
  cpu_.r[kGuestRsp] -= static_cast<int64_t>(site.stack);
  if (!site.op->fn(cpu_, *site.op) && cpu_.fault_.active) cpu_.Rewind(*site.op);
}

// Runs one instruction in the interpreter. False: leave the code.
bool Translator::RunSite(Translator* self, uint32_t index) noexcept {
  const Site site = self->sites_[index];
  Cpu& cpu = self->cpu_;
  cpu.r[kRip] = self->state_.page + site.next;
  const bool more = site.op->fn(cpu, *site.op);
  self->state_.jumps = self->jumps_.Select(cpu.key_);
  if (cpu.fault_.active) {
    cpu.Rewind(*site.op);
    return false;
  }
  return more && !site.block->dead && !cpu.recheck_ &&
         cpu.attention_.load(std::memory_order_relaxed) == 0;
}

void Translator::Link(const Way& way, Translation& to) {
  if (way.kind == Way::Kind::kIndirect) {
    const uint8_t* code = space_.run(to.from(FlagHome::kMemory));
    return jumps_.Insert(way.linear, way.key, reinterpret_cast<uint64_t>(code));
  }
  // A thunk looks for the page where only the walk of a look-up, long ago maybe, has put it.
  cpu_.tlb_->SetExec(way.linear, to.block->phys & kPageMask);
  Exit& exit = exits_[way.exit];
  if (exit.to || exit.from->block->dead || !space_.HasRoom(BlockTranslator::kMaxCode)) return;
  const Block& from_block = *exit.from->block;
  const uint32_t offset = from_block.phys & ~kPageMask;
  const bool same_page = static_cast<uint32_t>(exit.target) < vmm::kPageSize;
  // Code without spans goes on with other code: no loop.
  const bool forward = exit.target > static_cast<int64_t>(offset) || exit.plain;
  if (!same_page && (to.block->phys >> 31)) return;  // a thunk compares 31 bits
  exit.to = &to;
  exit.next_incoming = to.incoming;
  to.incoming = way.exit;
  space_.PatchJump(exit.jump, same_page && forward ? to.from(exit.flags) : EmitThunk(exit, to));
}

// Between two blocks: looks for attention, and proves that another page is still where it was.
CodeSpace::Offset Translator::EmitThunk(const Exit& exit, const Translation& to) {
  Assembler& code = space_.hot();
  const CodeSpace::Offset thunk = space_.OffsetOf(code);
  if (exit.flags == FlagHome::kHost) EmitSaveFlags(code, context_);
  // A stub of this exit for flags that are in memory already.
  Assembler& cold = space_.cold();
  const CodeSpace::Offset stub = space_.OffsetOf(cold);
  cold.mov(cold.dword[cold.At(state_.exit)], static_cast<uint32_t>(&exit - exits_.data()));
  cold.db(0xe9);
  cold.dd(0);
  space_.PatchJump(space_.OffsetOf(cold) - 4, stubs_.leave);
  const auto unless_equal = [&] {
    code.db(0x0f);
    code.db(0x85);
    code.dd(0);
    space_.PatchJump(space_.OffsetOf(code) - 4, stub);
  };
  code.cmp(code.dword[code.At(context_.attention)], 0);
  unless_equal();
  const auto page = static_cast<int32_t>(exit.target & static_cast<int64_t>(kPageMask));
  if (page != 0) {
    constexpr int kExec = offsetof(TlbBank, exec.entries);
    code.mov(code.r10, code.ptr[code.At(state_.page)]);
    code.add(code.r10, static_cast<uint32_t>(page));
    code.mov(code.r11d, code.r10d);
    code.shr(code.r11d, 8);
    code.and_(code.r11d, (decltype(TlbBank::exec)::kEntries - 1) << 4);
    code.add(code.r11, code.ptr[code.At(context_.tlb)]);
    code.cmp(code.r10, code.ptr[code.r11 + kExec]);
    unless_equal();
    code.cmp(code.qword[code.r11 + kExec + static_cast<int>(offsetof(TlbEntry, page))],
             static_cast<uint32_t>(to.block->phys & kPageMask));
    unless_equal();
    code.mov(code.ptr[code.At(state_.page)], code.r10);
  }
  code.db(0xe9);
  code.dd(0);
  space_.PatchJump(space_.OffsetOf(code) - 4, to.from(FlagHome::kMemory));
  if (verify_) {
    Verify(thunk, stub, {}, {{thunk, exit.flags}},
           {{to.from(FlagHome::kMemory), FlagHome::kMemory}});
  }
  return thunk;
}

void Translator::Verify(CodeSpace::Offset hot, CodeSpace::Offset cold, std::span<const Exit> exits,
                        std::vector<CodeVerifier::Entry> entries,
                        std::vector<CodeVerifier::Entry> others) {
  const std::string fault = CodeVerifier(space_, context_, stubs_)
                                .Verify({{hot, space_.OffsetOf(space_.hot())},
                                         {cold, space_.OffsetOf(space_.cold())},
                                         entries,
                                         exits,
                                         std::move(others)});
  if (!fault.empty()) vmm::Log(vmm::LogLevel::kError, "translated code is wrong: " + fault);
  CHECK(fault.empty());
}

void Translator::Kill(Block* block) {
  Unlink(block->translation);
  Unlink(block->plain);
}

void Translator::Unlink(Translation* translation) {
  if (!translation) return;
  for (uint32_t at = translation->incoming; at != ~0u;) {
    Exit& exit = exits_[at];
    at = std::exchange(exit.next_incoming, ~0u);
    exit.to = nullptr;
    space_.PatchJump(exit.jump, exit.stub);
  }
  translation->incoming = ~0u;
}

}  // namespace bt
