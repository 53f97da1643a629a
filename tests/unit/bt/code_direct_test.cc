// Code of a user that runs where guest memory is at its linear address (bt/cell).
#include <catch2/catch.hpp>

#include "tests/unit/bt/code_workshop.h"

using namespace bt;

namespace {

using Code = std::vector<uint8_t>;

struct Sample {
  const char* what;
  Code code;
  size_t accesses;  // that the host may find a fault in
};

const Sample kSamples[] = {
    {"MOV EAX, [RDI]", {0x8b, 0x07}, 1},
    {"ADD [RDI+RCX*8+8], RAX", {0x48, 0x01, 0x44, 0xcf, 0x08}, 1},
    {"ADC EAX, [RSP+4]", {0x13, 0x44, 0x24, 0x04}, 1},
    {"MOV R10, [R9+R11]", {0x4f, 0x8b, 0x14, 0x19}, 1},
    {"MOV EAX, [RIP+0x10]", {0x8b, 0x05, 0x10, 0, 0, 0}, 1},
    {"MOV RAX, FS:[0x28]", {0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0}, 1},
    {"MOV EAX, [EDI]", {0x67, 0x8b, 0x07}, 1},
    {"MOV [RDI], AH", {0x88, 0x27}, 1},
    {"LOCK XADD [RDI], EAX", {0xf0, 0x0f, 0xc1, 0x07}, 1},
    {"MOVAPS XMM0, [RDI]", {0x0f, 0x28, 0x07}, 1},
    {"FLD QWORD [RDI]", {0xdd, 0x07}, 1},
    {"PUSH RBX; POP RCX", {0x53, 0x59}, 2},
    {"PUSH QWORD [RDI]", {0xff, 0x37}, 1},
    {"LEAVE", {0xc9}, 1},
    {"BT [RDI], RAX; LOCK BTS [RIP+256], R9D",
     {0x48, 0x0f, 0xa3, 0x07, 0xf0, 0x44, 0x0f, 0xab, 0x0d, 0, 1, 0, 0},
     2},
    {"DIV QWORD [RDI]", {0x48, 0xf7, 0x37}, 1},
    {"REP MOVSB", {0xf3, 0xa4}, 1},
    {"DIV QWORD [RDI]; REP MOVSB", {0x48, 0xf7, 0x37, 0xf3, 0xa4}, 2},
    {"CALL [RDI]", {0xff, 0x17}, 2},
    {"RET", {0xc3}, 1},
    {"LDMXCSR [RDI]; STMXCSR [RDI]", {0x0f, 0xae, 0x17, 0x0f, 0xae, 0x1f}, 2},
    {"CMP EAX, EBX; MOV ECX, [RDI]; JZ", {0x39, 0xd8, 0x8b, 0x0f, 0x74, 0x10}, 1},
    {"INC EAX; JMP to it", {0xff, 0xc0, 0xeb, 0xfc}, 1},
    {"DEC ECX; JNZ to it", {0xff, 0xc9, 0x75, 0xfc}, 1},
    {"JNZ back", {0x75, 0xc0}, 1},
    {"ADD R9D, EAX; JC to it", {0x41, 0x01, 0xc1, 0x72, 0xfb}, 1},
    {"ADC R10, [R11]; JC to it", {0x4d, 0x13, 0x13, 0x72, 0xfb}, 2},
    {"ADC R10, [R11]; MOV RAX, FS:[0x28]; JC to the first",
     {0x4d, 0x13, 0x13, 0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0, 0x72, 0xf2},
     3},
    {"MOV R10, [R9]; RET", {0x4d, 0x8b, 0x11, 0xc3}, 2},
    {"MOV [RDI], R11; CALL", {0x4c, 0x89, 0x1f, 0xe8, 0, 0x20, 0, 0}, 2},
    {"MOV [RDI], R11; JMP R11", {0x4c, 0x89, 0x1f, 0x41, 0xff, 0xe3}, 1},
    {"MOV R11, [RDI]; FLD [R11]", {0x4c, 0x8b, 0x1f, 0x41, 0xdd, 0x03}, 2},
    {"MOV R11, [RDI]; CPUID", {0x4c, 0x8b, 0x1f, 0x0f, 0xa2}, 1},
};

}  // namespace

TEST_CASE("accesses of direct code lead to the interpreter when they fault", "[verifier]") {
  CodeWorkshop workshop(LeaveOut::kNothing, true);
  for (const Sample& sample : kSamples) {
    INFO(sample.what);
    CodeWorkshop::Emitted emitted = workshop.Translate(sample.code);
    CHECK(workshop.Verify(emitted) == "");
    CHECK(emitted.translation.plain);
    REQUIRE(emitted.accesses.size() >= 1);
    size_t faults = 0;
    for (const DirectAccess& access : emitted.accesses.Since(0)) {
      CHECK(access.begin < access.end);
      CHECK(emitted.cold.Contains(access.stub));
      ++faults;
    }
    CHECK(faults >= sample.accesses);
    emitted.accesses.Clear();
    CHECK(workshop.Verify(emitted) != "");
  }
}

TEST_CASE("direct code leaves for what only the interpreter does, and does not come back",
          "[verifier]") {
  CodeWorkshop workshop(LeaveOut::kNothing, true);
  const Code cpuid_and_load = {0x0f, 0xa2, 0x8b, 0x07};
  for (const Code& code : {cpuid_and_load, Code{0x0f, 0x05}, Code{0xfa}, Code{0x0f, 0x01, 0xf8}}) {
    const CodeWorkshop::Emitted emitted = workshop.Translate(code);
    CHECK(workshop.Verify(emitted) == "");
    CHECK(emitted.accesses.empty());
    CHECK(emitted.exits.empty());
  }
}

TEST_CASE("a fault of direct code that loses the flags is noticed", "[verifier]") {
  CodeWorkshop workshop(LeaveOut::kNothing, true);
  CodeWorkshop::Emitted emitted = workshop.Translate({0x39, 0xd8, 0x8b, 0x0f, 0x74, 0x10});
  REQUIRE(emitted.accesses.size() == 1);
  constexpr CodeSpace::Offset kSaveFlags = 3 + 1 + 3 + 7 + 3;  // what the stub begins with
  emitted.accesses[0].stub += kSaveFlags;
  CHECK(workshop.Verify(emitted) != "");
}

TEST_CASE("a register that is at home in one of ours and was not brought there is noticed",
          "[verifier]") {
  CodeWorkshop workshop(LeaveOut::kNothing, true);
  for (const Code& code : {Code{0x4d, 0x03, 0x13},               // ADD R10, [R11]
                           Code{0x4d, 0x89, 0x11, 0xc3},         // MOV [R9], R10; RET
                           Code{0x4c, 0x89, 0x1f, 0x0f, 0xa2}})  // MOV [RDI], R11; CPUID
    CHECK(workshop.Verify(workshop.Translate(code, LeaveOut::kBorrow)) != "");
}

TEST_CASE("MXCSR is loaded behind a look at its masks", "[verifier]") {
  CodeWorkshop workshop;
  const CodeWorkshop::Emitted emitted = workshop.Translate({0x0f, 0xae, 0x17, 0x0f, 0xae, 0x1f});
  CHECK(workshop.Verify(emitted) == "");
}
