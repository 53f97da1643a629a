// How blocks are linked: what the ways out of one lead to.
#include <utility>

#include "bt/translator/translator.h"
#include "vmm/core/base/check.h"

namespace bt {
namespace {

constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);

// Of a thunk: its last displacements, by their distance from its end.
constexpr unsigned kJumpBytes = 4;
constexpr unsigned kPageBytes = 22;
constexpr size_t kMostThunkBytes = 256;

}  // namespace

void Translator::Link(const Way& way, Translation& to) {
  ++done_.links;
  if (way.kind == Way::Kind::kIndirect) {
    to.elsewhere |= to.linear != Translation::kNoAddress && to.linear != way.linear;
    to.linear = way.linear;
    const uint8_t* code = space_.run(to.from(FlagHome::kMemory));
    return jumps_.Insert(way.linear, way.key, reinterpret_cast<uint64_t>(code));
  }
  Exit& exit = exits_[way.exit];
  if (translations_[exit.from].dead) return;
  if (!exit.InPage()) {
    if (to.page == 0) to.page = PageNumber(to.block->phys & kPageMask);
    jumps_.SetPage(to.page, way.linear & kPageMask, way.key);
  }
  if (exit.to == to.number) return;
  if (exit.to != Numbered<Translation>::kNone) Unlink(way.exit);  // another page is there now
  exit.to = to.number;
  exit.next_incoming = to.incoming;
  to.incoming = way.exit;
  if (exit.InPage() && !exit.back) return space_.PatchJump(exit.jump, to.from(exit.flags));
  if (EmitThunk(way.exit, to)) space_.PatchJump(exit.jump, exit.thunk);
}

// Between two blocks: looks for attention, and proves that another page is still where it was. One
// that is there already gets another target. False: no room.
bool Translator::EmitThunk(uint32_t number, const Translation& to) {
  Assembler &code = space_.thunks(), &cold = space_.thunk_stubs();
  Exit& exit = exits_[number];
  // By a store, in direct code, which leaves the flags alone.
  const bool touches = exit.back && context_.direct;
  const FlagHome flags = touches && exit.InPage() ? exit.flags : FlagHome::kMemory;
  if (exit.thunk != 0) {
    const CodeSpace::Offset end = exit.thunk + exit.thunk_bytes;
    space_.PatchJump(end - kJumpBytes, to.from(flags));
    if (!exit.InPage()) space_.Patch32(end - kPageBytes, PageDisplacement(to.page));
    return true;
  }
  if (!space_.PrepareThunk(kMostThunkBytes)) {
    full_ = true;
    return false;
  }
  exit.thunk = space_.OffsetOf(code);
  const uint32_t accesses = thunk_accesses_.next();
  if (touches) thunk_accesses_.Add(EmitTouchBell(code, context_, space_, exit.stub));
  if (exit.flags != flags) EmitSaveFlags(code, context_);
  // A stub of this exit for flags that are in memory already.
  const CodeSpace::Offset stub = space_.OffsetOf(cold);
  cold.mov(cold.dword[cold.At(context_.state.exit)], number);
  cold.db(0xe9);
  cold.dd(0);
  space_.PatchJump(space_.OffsetOf(cold) - 4, stubs_.leave);
  const auto unless_equal = [&] {
    code.db(0x0f);
    code.db(0x85);
    code.dd(0);
    space_.PatchJump(space_.OffsetOf(code) - 4, stub);
  };
  if (exit.back && !touches) {
    code.cmp(code.dword[code.At(context_.attention)], 0);
    unless_equal();
  }
  if (!exit.InPage()) {
    const auto distance = static_cast<int32_t>(exit.target & static_cast<int64_t>(kPageMask));
    EmitComparePage(code, context_, distance, to.page);
    unless_equal();
    code.mov(code.ptr[code.At(context_.state.page)], code.r10);
  }
  code.db(0xe9);
  code.dd(0);
  const CodeSpace::Offset end = space_.OffsetOf(code);
  exit.thunk_bytes = static_cast<uint8_t>(end - exit.thunk);
  CHECK(exit.thunk + exit.thunk_bytes == end);
  done_.hot_bytes += exit.thunk_bytes;
  const CodeVerifier::Range hot{exit.thunk, end}, stubs{stub, space_.OffsetOf(cold)};
  if (names_) NameCode("thunk to guest", cpu_.r[kRip], cpu_.cpl_ == 3, *to.block, hot, stubs);
  space_.PatchJump(end - kJumpBytes, to.from(flags));
  if (verify_) {
    const uint32_t page = exit.InPage() ? 0 : to.page;
    const std::vector<DirectAccess> own_accesses = thunk_accesses_.Since(accesses);
    Verify({hot,
            stubs,
            {{exit.thunk, exit.flags}},
            {},
            {{to.from(flags), flags, page, exit.target & static_cast<int64_t>(kPageMask)},
             {exit.stub, exit.flags}},
            0,
            own_accesses});
  }
  return true;
}

// Its jump still leads to where it did.
void Translator::Unlink(uint32_t number) {
  constexpr uint32_t kNone = Numbered<Exit>::kNone;
  Exit& exit = exits_[number];
  uint32_t* at = &translations_[exit.to].incoming;
  while (*at != number) at = &exits_[*at].next_incoming;
  *at = std::exchange(exit.next_incoming, kNone);
  exit.to = kNone;
}

void Translator::Kill(Block* block) {
  ++done_.invalidations;
  constexpr uint32_t kNone = Numbered<Part>::kNone;
  for (uint32_t at = std::exchange(PartsOf(*block), kNone); at != kNone; at = parts_[at].next) {
    Translation& translation = translations_[parts_[at].translation];
    if (!translation.dead) Retire(translation);
  }
}

// Nobody enters it again.
void Translator::Retire(Translation& translation) {
  translation.dead = true;
  Block& block = *translation.block;
  for (Translation** of : {&block.translation, &block.plain, &block.direct}) {
    if (*of == &translation) *of = nullptr;
  }
  constexpr uint32_t kNone = Numbered<Exit>::kNone;
  for (uint32_t at = std::exchange(translation.incoming, kNone); at != kNone;) {
    Exit& exit = exits_[at];
    at = std::exchange(exit.next_incoming, kNone);
    exit.to = kNone;
    space_.PatchJump(exit.jump, exit.stub);
  }
  const auto code = reinterpret_cast<uint64_t>(space_.run(translation.from(FlagHome::kMemory)));
  if (translation.elsewhere)
    jumps_.Remove(code);
  else if (translation.linear != Translation::kNoAddress)
    jumps_.Remove(translation.linear, code);
}

}  // namespace bt
