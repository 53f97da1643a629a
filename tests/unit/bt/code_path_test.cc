// Which blocks one translation consists of, and that the verifier follows all of them.
#include <array>
#include <catch2/catch.hpp>
#include <random>
#include <span>

#include "bt/translator/treatment.h"
#include "tests/unit/bt/code_workshop.h"

using namespace bt;

namespace {

using Code = std::vector<uint8_t>;
using Blocks = CodeWorkshop::Blocks;

const Code kJumpIf = {0x74, 0x10};                         // JZ, 18 bytes from its beginning
const Code kRet = {0xc3};                                  // RET
const Code kCall = {0xe8, 0x1b, 0, 0, 0};                  // CALL, 32 bytes from its beginning
const Code kJump = {0xeb, 0x3e};                           // JMP, 64 bytes from its beginning
const Code kLoad = {0x8b, 0x07};                           // MOV EAX, [RDI]
const Code kStoreReturn = {0x48, 0x89, 0x4f, 0x08, 0xc3};  // MOV [RDI+8], RCX; RET

size_t BlocksIn(CodeWorkshop& workshop, const Blocks& blocks) {
  const CodeWorkshop::Emitted emitted = workshop.Translate(blocks);
  CHECK(workshop.Verify(emitted) == "");
  CHECK(workshop.Verify(workshop.Translate(blocks, LeaveOut::kNothing, true)) == "");
  for (const Counting counting : {Counting::kCount, Counting::kBounded}) {
    CHECK(workshop.Verify(workshop.Translate(blocks, LeaveOut::kNothing, false, 0, counting)) ==
          "");
  }
  return emitted.blocks;
}

Code Joined(Code first, const Code& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

}  // namespace

TEST_CASE("a translation goes on with what usually follows in the page", "[verifier]") {
  CodeWorkshop workshop;
  CHECK(BlocksIn(workshop, {{0x5100, kJumpIf}}) == 1);
  CHECK(BlocksIn(workshop, {{0x5100, kJumpIf}, {0x5102, kRet}}) == 2);
  CHECK(BlocksIn(workshop, {{0x5100, kJumpIf}, {0x5112, kRet}}) == 2);
  CHECK(BlocksIn(workshop, {{0x5100, kJumpIf}, {0x5102, kRet}, {0x5112, kRet}}) == 2);
  CHECK(BlocksIn(workshop, {{0x5100, kJump}, {0x5140, kRet}}) == 2);
  CHECK(BlocksIn(workshop, {{0x5100, kJump}, {0x5102, kRet}}) == 1);
  CHECK(BlocksIn(workshop, {{0x5100, kCall}, {0x5120, kRet}, {0x5105, kLoad}}) == 3);
  // No call, no return that could be told.
  CHECK(BlocksIn(workshop, {{0x5100, kRet}, {0x5101, kRet}}) == 1);
}

TEST_CASE("a translation ends at loops, at the end of the page and when it is long", "[verifier]") {
  CodeWorkshop workshop;
  CHECK(BlocksIn(workshop, {{0x5100, {0x74, 0xfe}}, {0x5102, kRet}}) == 1);   // JZ to itself
  CHECK(BlocksIn(workshop, {{0x5100, kJump}, {0x5140, {0xeb, 0xbe}}}) == 2);  // and JMP back
  CHECK(BlocksIn(workshop, {{0x5ffe, kJumpIf}, {0x6000, kRet}}) == 1);
  CHECK(BlocksIn(workshop, {{0x5fe0, kJump}, {0x6020, kRet}}) == 1);
  Blocks many = {{0x5100, kJumpIf}};
  for (unsigned i = 1; i < 20; ++i) many.push_back({0x5100 + 2 * i, kJumpIf});
  CHECK(BlocksIn(workshop, many) == BlockPath::kMaxBlocks);
  const Code some = Joined(Code(40, 0x90), kJumpIf);
  CHECK(BlocksIn(workshop, {{0x5100, some}, {0x512a, some}}) == 1);
}

TEST_CASE("what a path leaves by looks at attention where a loop may come by", "[verifier]") {
  CodeWorkshop workshop;
  // JMP forward, then JMP back to between them, where JZ has two ways out.
  const Blocks blocks = {{0x5100, kJump}, {0x5140, {0xeb, 0xd0}}, {0x5112, kJumpIf}};
  const CodeWorkshop::Emitted emitted = workshop.Translate(blocks);
  REQUIRE(emitted.blocks == 3);
  REQUIRE(emitted.exits.size() == 2);
  CHECK(emitted.exits[0].back);        // to behind it: the thunk looks
  CHECK_FALSE(emitted.exits[1].back);  // to where it leads: looked at before the jump
  // Without a way back there is nothing to look at.
  for (const Exit& exit : workshop.Translate(Blocks{{0x5112, kJumpIf}}).exits.Since(0))
    CHECK_FALSE(exit.back);
}

TEST_CASE("a check that is left out is noticed in every block of a path", "[verifier]") {
  CodeWorkshop workshop;
  const auto fault = [&](const Blocks& blocks, LeaveOut leave_out) {
    const std::string text = workshop.Verify(workshop.Translate(blocks, leave_out));
    return text.substr(0, text.find(" at 0x"));
  };
  const Blocks loads = {{0x5100, kJumpIf}, {0x5102, kLoad}};
  const Blocks span = {{0x5100, Joined(kLoad, kJumpIf)}, {0x5104, kStoreReturn}};
  CHECK(fault(loads, LeaveOut::kNothing) == "");
  CHECK(fault(span, LeaveOut::kNothing) == "");
  CHECK(fault(loads, LeaveOut::kRead) == "memory without a check");
  CHECK(fault(loads, LeaveOut::kCrossing) == "more memory than was checked");
  CHECK(fault(span, LeaveOut::kSpanEnd) == "more memory than was checked");
  CHECK(fault(span, LeaveOut::kSpanWrite) == "a write that was checked as a read");
  // DEC RAX; JZ; MOV EAX, [RDI]: the flags live on into the second block.
  const Blocks flags = {{0x5100, Joined({0x48, 0xff, 0xc8}, kJumpIf)}, {0x5105, kLoad}};
  CHECK(fault(flags, LeaveOut::kFlags) == "the guest's flags are lost");
  // CMP RDX, RCX; AND EDX, ECX; ADD RDX, RCX; SUB EDX, ECX; ADD RDX, 8; SUB EDX, 8; SHR RDX, 3;
  // SAR EDX, 3: they are made once more where the look-up fails.
  for (const Code& code : {Code{0x48, 0x39, 0xca}, Code{0x21, 0xca, 0x90}, Code{0x48, 0x01, 0xca},
                           Code{0x29, 0xca, 0x90}, Code{0x48, 0x83, 0xc2, 8}, Code{0x83, 0xea, 8},
                           Code{0x48, 0xc1, 0xea, 3}, Code{0xc1, 0xfa, 3}}) {
    const uint64_t next = 0x5100 + code.size() + kJumpIf.size();
    const Blocks recipe = {{0x5100, Joined(code, kJumpIf)}, {next, Joined(kLoad, {0x31, 0xc0})}};
    CHECK(fault(recipe, LeaveOut::kNothing) == "");
    CHECK(fault(recipe, LeaveOut::kFlags) == "");  // nobody saves them
    CHECK(fault(recipe, LeaveOut::kRecipe) == "flags that are not there");
  }
  const Blocks call = {{0x5100, kCall}, {0x5120, kRet}, {0x5105, kRet}};
  CHECK(fault(call, LeaveOut::kTarget) == "a jump to where nobody has looked");
}

TEST_CASE("what a block ends with is told without the decoder as with it", "[interp]") {
  std::mt19937 random(7);
  unsigned told = 0;
  for (unsigned i = 0; i < 200'000; ++i) {
    std::array<uint8_t, 15> bytes;
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    const uint8_t kFirst[] = {0xc3, 0xeb, 0xe8, 0xe9, 0x0f, 0x75, bytes[0]};
    bytes[0] = kFirst[random() % std::size(kFirst)];
    bt::Insn insn;
    if (bt::Decode(bytes, bt::CodeSize::k64, insn) != bt::DecodeStatus::kOk) continue;
    bt::BlockEnding ending;
    if (!bt::IsPlainEnding(std::span(bytes).first(insn.length), ending)) continue;
    ++told;
    CHECK(ending.how == bt::TreatmentOf(insn, bt::UseOf(insn)));
    if (ending.how != bt::Treatment::kReturn)
      CHECK(ending.displacement == static_cast<int64_t>(insn.operand[0].imm));
  }
  CHECK(told > 50'000);
}
