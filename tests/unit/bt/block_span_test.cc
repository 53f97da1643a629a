// Which accesses of a block share one look-up.
#include "bt/translator/block_span.h"

#include <catch2/catch.hpp>
#include <vector>

#include "bt/isa/decoder.h"

using namespace bt;

namespace {

using Code = std::vector<uint8_t>;

struct Found {
  std::vector<BlockStep> steps;
  std::vector<Span> spans;
};

Found Find(const Code& code) {
  Found found;
  for (size_t at = 0; at < code.size();) {
    BlockStep step{};
    REQUIRE(Decode({code.data() + at, code.size() - at}, CodeSize::k64, step.insn) ==
            DecodeStatus::kOk);
    at += step.insn.length;
    step.use = UseOf(step.insn);
    step.how = TreatmentOf(step.insn, step.use);
    step.next = static_cast<uint16_t>(0x100 + at);
    found.steps.push_back(step);
  }
  found.spans = FindSpans(found.steps);
  return found;
}

constexpr uint16_t kNone = SpanMember::kNone;

}  // namespace

TEST_CASE("accesses through one base share a look-up, the widest that is needed", "[spans]") {
  // MOV EAX, [RDI+8]; MOV [RDI-2], CL; MOV RDX, [RDI]
  const Found found = Find({0x8b, 0x47, 0x08, 0x88, 0x4f, 0xfe, 0x48, 0x8b, 0x17});
  REQUIRE(found.spans.size() == 1);
  const Span& span = found.spans[0];
  CHECK(span.bytes == 14);
  CHECK(span.write);
  CHECK(span.alignment == 1);
  CHECK(span.members == 3);
  CHECK(span.first == 0);
  CHECK(span.last == 2);
  CHECK(found.steps[0].memory.at == 10);
  CHECK(found.steps[1].memory.at == 0);
  CHECK(found.steps[2].memory.at == 2);
}

TEST_CASE("one access alone is no span", "[spans]") {
  CHECK(Find({0x8b, 0x07}).spans.empty());
  CHECK(Find({0x8b, 0x07, 0x8b, 0x16}).spans.empty());              // [RDI]; [RSI]
  CHECK(Find({0x8b, 0x07, 0x65, 0x8b, 0x0f}).spans.empty());        // [RDI]; GS:[RDI]
  CHECK(Find({0x8b, 0x04, 0x77, 0x8b, 0x04, 0xb7}).spans.empty());  // [RDI+RSI*2]; [RDI+RSI*4]
  CHECK(Find({0x8b, 0x07, 0x67, 0x8b, 0x0f}).spans.empty());        // [RDI]; [EDI]
}

TEST_CASE("a span that only loads is not checked for writing", "[spans]") {
  const Found found = Find({0x8b, 0x07, 0x3b, 0x47, 0x04});  // MOV EAX, [RDI]; CMP EAX, [RDI+4]
  REQUIRE(found.spans.size() == 1);
  CHECK_FALSE(found.spans[0].write);
}

TEST_CASE("known changes of a register move the place, unknown ones end it", "[spans]") {
  const auto joins = [](const Code& between) {
    Code code = {0x8b, 0x07};  // MOV EAX, [RDI]
    code.insert(code.end(), between.begin(), between.end());
    code.insert(code.end(), {0x8b, 0x0f});  // MOV ECX, [RDI]
    const Found found = Find(code);
    return found.spans.empty() ? -1 : found.steps.back().memory.at - found.steps[0].memory.at;
  };
  CHECK(joins({}) == 0);
  CHECK(joins({0x48, 0x83, 0xc7, 0x10}) == 16);                   // ADD RDI, 16
  CHECK(joins({0x48, 0x83, 0xef, 0x80}) == 128);                  // SUB RDI, -128
  CHECK(joins({0x48, 0xff, 0xc7}) == 1);                          // INC RDI
  CHECK(joins({0x48, 0x8d, 0x7f, 0x20}) == 32);                   // LEA RDI, [RDI+32]
  CHECK(joins({0x48, 0x89, 0xfa, 0x48, 0x8d, 0x7a, 0x04}) == 4);  // MOV RDX, RDI; LEA RDI, [RDX+4]
  CHECK(joins({0x83, 0xc7, 0x10}) == -1);                         // ADD EDI, 16
  CHECK(joins({0x66, 0x83, 0xc7, 0x10}) == -1);                   // ADD DI, 16
  CHECK(joins({0x67, 0x48, 0x8d, 0x7f, 0x20}) == -1);             // LEA RDI, [EDI+32]
  CHECK(joins({0x48, 0x8d, 0x3c, 0x37}) == -1);                   // LEA RDI, [RDI+RSI]
  CHECK(joins({0x48, 0x01, 0xf7}) == -1);                         // ADD RDI, RSI
  CHECK(joins({0x0f, 0x44, 0xfe}) == -1);                         // CMOVZ EDI, ESI
  CHECK(joins({0x5f}) == -1);                                     // POP RDI
}

TEST_CASE("an index counts with its scale", "[spans]") {
  // MOV EAX, [RDI+RSI*4]; INC RSI; MOV ECX, [RDI+RSI*4+1]
  const Found found = Find({0x8b, 0x04, 0xb7, 0x48, 0xff, 0xc6, 0x8b, 0x4c, 0xb7, 0x01});
  REQUIRE(found.spans.size() == 1);
  CHECK(found.steps[2].memory.at == 5);
}

TEST_CASE("the stack is memory through RSP", "[spans]") {
  // PUSH RBX; MOV RAX, [RSP+16]; SUB RSP, 24; MOV [RSP], RAX; POP RCX; CALL
  const Found found = Find({0x53, 0x48, 0x8b, 0x44, 0x24, 0x10, 0x48, 0x83, 0xec, 0x18,
                            0x48, 0x89, 0x04, 0x24, 0x59, 0xe8, 0,    0,    0,    0});
  REQUIRE(found.spans.size() == 1);
  CHECK(found.spans[0].members == 5);
  CHECK(found.spans[0].bytes == 48);
  CHECK(found.steps[0].stack.at == 24);   // RSP-8
  CHECK(found.steps[1].memory.at == 40);  // RSP+8
  CHECK(found.steps[3].memory.at == 0);   // RSP-32
  CHECK(found.steps[4].stack.at == 0);
  CHECK(found.steps[5].stack.at == 0);  // RSP-24, less 8
}

TEST_CASE("LEAVE makes RSP what RBP was", "[spans]") {
  const Found found = Find({0x8b, 0x45, 0xfc, 0xc9, 0xc3});  // MOV EAX, [RBP-4]; LEAVE; RET
  REQUIRE(found.spans.size() == 1);
  CHECK(found.steps[1].stack.at == 4);
  CHECK(found.steps[2].stack.at == 12);
  // What it loads to RBP is something else.
  CHECK(Find({0x8b, 0x45, 0xfc, 0xc9, 0x8b, 0x45, 0xfc}).steps[2].memory.span == kNone);
}

TEST_CASE("one instruction may have both of a span's accesses", "[spans]") {
  const Found found = Find({0xff, 0x74, 0x24, 0x08});  // PUSH [RSP+8]: the address before it
  REQUIRE(found.spans.size() == 1);
  CHECK(found.steps[0].memory.at == 16);
  CHECK(found.steps[0].stack.at == 0);
}

TEST_CASE("memory relative to RIP is one region, and absolute memory of a segment", "[spans]") {
  // MOV EAX, [RIP+16]; MOV ECX, [RIP+32]
  const Found found = Find({0x8b, 0x05, 0x10, 0, 0, 0, 0x8b, 0x0d, 0x20, 0, 0, 0});
  REQUIRE(found.spans.size() == 1);
  CHECK(found.steps[1].memory.at == 22);
  // MOV RAX, GS:[40]; MOV RCX, GS:[48]
  const Found of_gs = Find({0x65, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0,  //
                            0x65, 0x48, 0x8b, 0x0c, 0x25, 0x30, 0, 0, 0});
  REQUIRE(of_gs.spans.size() == 1);
  CHECK(of_gs.steps[1].memory.at == 8);
}

TEST_CASE("a span ends where C++ runs, and may not begin behind an STI", "[spans]") {
  CHECK(Find({0x8b, 0x07, 0x0f, 0xa2, 0x8b, 0x0f}).spans.empty());  // CPUID between
  CHECK(Find({0x8b, 0x07, 0xfb, 0x8b, 0x0f}).spans.empty());        // STI between
  CHECK(Find({0x8b, 0x07, 0xfa, 0x8b, 0x0f}).spans.size() == 1);    // CLI
  const Found found = Find({0xfb, 0x8b, 0x07, 0x8b, 0x0f, 0x8b, 0x17});
  REQUIRE(found.spans.size() == 1);
  CHECK(found.steps[1].memory.span == kNone);
}

TEST_CASE("a span stays short, and there are not more at a time than slots", "[spans]") {
  CHECK(Find({0x8b, 0x07, 0x8b, 0x8f, 0, 1, 0, 0}).spans.size() == 1);  // [RDI+0x100]
  CHECK(Find({0x8b, 0x07, 0x8b, 0x8f, 0, 2, 0, 0}).spans.empty());      // [RDI+0x200]
  Code code;
  for (int turn = 0; turn < 2; ++turn) {
    for (uint8_t rex : {0x40, 0x41}) {
      for (uint8_t base : {1, 2, 3, 5, 6, 7})  // MOV AL, [base+0]
        code.insert(code.end(), {rex, 0x8a, static_cast<uint8_t>(0x40 | base), 0});
    }
  }
  CHECK(Find(code).spans.size() == kSpanSlots);
}

TEST_CASE("a look-up goes back to where the flags are in memory anyway", "[spans]") {
  // MOV EAX, [RDI]; ADD EAX, ECX; ADD RSI, 4; MOV EDX, [RSI+RAX]
  Found found = Find({0x8b, 0x07, 0x01, 0xc8, 0x48, 0x83, 0xc6, 0x04, 0x8b, 0x14, 0x06});
  CHECK(found.spans.empty());  // RAX is not known before
  // The same, and MOV EDX, [RSI+RBX*2]
  found = Find({0x8b, 0x07, 0x01, 0xc8, 0x48, 0x83, 0xc6, 0x04, 0x8b, 0x14, 0x5e});
  REQUIRE(found.spans.size() == 1);
  CHECK(found.spans[0].first == 0);
  CHECK(found.spans[0].last == 3);
  CHECK(found.spans[0].members == 1);
  CHECK(found.spans[0].begin.base == 6);
  CHECK(found.spans[0].begin.index == 3);
  CHECK(found.spans[0].begin.shift == 1);
  CHECK(found.spans[0].begin.disp == 4);
  // MOV EAX, [RDI]; LEA ECX, [RAX+1]; MOV EDX, [RSI]: nothing has changed the flags
  CHECK(Find({0x8b, 0x07, 0x8d, 0x48, 0x01, 0x8b, 0x16}).spans.empty());
  // ADD EAX, ECX; MOV EDX, [RSI]: to the beginning only if the flags are used behind it
  CHECK(Find({0x01, 0xc8, 0x8b, 0x16}).spans.empty());
  CHECK(Find({0x01, 0xc8, 0x8b, 0x16, 0x39, 0xd0, 0x74, 0x10}).spans.empty());  // CMP; JZ
  CHECK(Find({0x01, 0xc8, 0x8b, 0x16, 0x74, 0x10}).spans.size() == 1);          // JZ
  CHECK(Find({0x01, 0xc8, 0x8b, 0x16, 0x13, 0xc2}).spans.size() == 1);          // ADC EAX, EDX
  // ADD EAX, ECX; POP RBX; RET: or if it serves several
  found = Find({0x01, 0xc8, 0x5b, 0xc3});
  REQUIRE(found.spans.size() == 1);
  CHECK(found.spans[0].first == 0);
  // CPUID; ADD EAX, ECX; MOV EDX, [RSI]: not before what C++ runs
  found = Find({0x0f, 0xa2, 0x01, 0xc8, 0x8b, 0x16});
  REQUIRE(found.spans.size() == 1);
  CHECK(found.spans[0].first == 1);
}

TEST_CASE("a span begins where those that must be aligned can be so", "[spans]") {
  // MOVUPS XMM0, [RDI+4]; MOVAPS XMM1, [RDI+16]; MOVAPS XMM2, [RDI+32]
  const Found found =
      Find({0x0f, 0x10, 0x47, 0x04, 0x0f, 0x28, 0x4f, 0x10, 0x0f, 0x28, 0x57, 0x20});
  REQUIRE(found.spans.size() == 1);
  CHECK(found.spans[0].alignment == 16);
  CHECK(found.spans[0].bytes == 48);
  CHECK(found.steps[0].memory.at == 4);
  CHECK(found.steps[1].memory.at == 16);
  // MOVAPS XMM0, [RDI]; MOVAPS XMM1, [RDI+8]: one of them must fault
  CHECK(Find({0x0f, 0x28, 0x07, 0x0f, 0x28, 0x4f, 0x08}).spans.empty());
}
