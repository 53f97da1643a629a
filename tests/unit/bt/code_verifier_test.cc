// The verifier of translated code finds what is wrong: each check that is left out, and bytes that
// are not as they were emitted.
#include "bt/translator/code_verifier.h"

#include <sys/mman.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "tests/unit/bt/code_workshop.h"

using namespace bt;

namespace {

using Code = std::vector<uint8_t>;

const Code kLoad = {0x8b, 0x07};                                     // MOV EAX, [RDI]
const Code kStore = {0x48, 0x89, 0x47, 0x08};                        // MOV [RDI+8], RAX
const Code kAligned = {0x66, 0x0f, 0x6f, 0x07};                      // MOVDQA XMM0, [RDI]
const Code kVector = {0x66, 0x0f, 0xef, 0xc1};                       // PXOR XMM0, XMM1
const Code kX87 = {0xd8, 0xc1};                                      // FADD ST, ST(1)
const Code kCompareLoadJump = {0x39, 0xc8, 0x8b, 0x17, 0x74, 0x10};  // CMP; MOV EDX, [RDI]; JZ
const Code kMultiplyLoadJump = {0x48, 0x0f, 0xaf, 0xf8,
                                0x8b, 0x17, 0x72, 0x10};  // IMUL RDI, RAX; MOV; JB
const Code kCallIndirect = {0xff, 0x10};                  // CALL [RAX]
const Code kSpan = {0x8b, 0x47, 0x08, 0x48, 0x89, 0x0f};  // MOV EAX, [RDI+8]; MOV [RDI], RCX
// MOVUPS XMM0, [RDI+4]; MOVAPS XMM1, [RDI+16]
const Code kAlignedSpan = {0x0f, 0x10, 0x47, 0x04, 0x0f, 0x28, 0x4f, 0x10};
// MOV EAX, [RDI]; MOV EDX, [RSI]; MOV ECX, [RDI+4]
const Code kSpans = {0x8b, 0x07, 0x8b, 0x16, 0x8b, 0x4f, 0x04};
// PUSH RBX; PUSH RBP; POP RAX
const Code kStackSpan = {0x53, 0x55, 0x58};

// The translator's buffer is never writable where it runs: changes go through a private copy.
class Changed {
 public:
  Changed(CodeWorkshop& workshop, CodeSpace::Offset at, const Code& bytes)
      : at_(workshop.space.run(at) - (reinterpret_cast<uintptr_t>(workshop.space.run(at)) & 4095)),
        size_(2 * vmm::kPageSize),
        before_(at_, at_ + size_) {
    Code after = before_;
    std::copy(bytes.begin(), bytes.end(), after.begin() + (workshop.space.run(at) - at_));
    Put(after);
  }
  ~Changed() { Put(before_); }

 private:
  void Put(const Code& bytes) {
    REQUIRE(mmap(at_, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                 0) == at_);
    std::memcpy(at_, bytes.data(), size_);
  }
  uint8_t* at_;
  size_t size_;
  Code before_;
};

const Code kBit = {0x48, 0x0f, 0xa3, 0x07, 0x72, 0x10};              // BT [RDI], RAX; JC
const Code kLockedBit = {0xf0, 0x0f, 0xb3, 0x47, 0x08, 0x73, 0x10};  // LOCK BTR [RDI+8], EAX; JNC

}  // namespace

TEST_CASE("translated code of every kind is accepted", "[verifier]") {
  CodeWorkshop workshop;
  for (const Code& code :
       {kLoad, kStore, kAligned, kVector, kX87, kCompareLoadJump, kCallIndirect,
        Code{0x4d, 0x01, 0xd1},                          // ADD R9, R10
        Code{0x4c, 0x39, 0xd0, 0x8b, 0x17, 0x74, 0x10},  // CMP RAX, R10; MOV EDX, [RDI]; JZ
        Code{0x13, 0x07},                                // ADC EAX, [RDI]
        Code{0xf0, 0x48, 0x0f, 0xb1, 0x0f},              // LOCK CMPXCHG [RDI], RCX
        Code{0x53, 0x5b, 0xc9},                          // PUSH RBX; POP RBX; LEAVE
        Code{0xf7, 0xf1},                                // DIV ECX
        Code{0x48, 0xf7, 0x3f},                          // IDIV QWORD [RDI]
        Code{0x0f, 0xa2},                                // CPUID
        Code{0xc3}, Code{0xe8, 0, 1, 0, 0}, Code{0xff, 0xe0}, Code{0xeb, 0xfe},
        Code{0x41, 0xff, 0xcd, 0x75, 0xfb},  // DEC R13D; JNZ to it
        Code{0xdd, 0x07, 0x66, 0x0f, 0x6f, 0x07, 0xdd, 0x1f}, kSpan, kAlignedSpan, kSpans, kBit,
        kLockedBit, Code{0x66, 0x0f, 0xbb, 0x3f},  // BTC [RDI], DI
        Code{0x4c, 0x0f, 0xab, 0x54, 0x24, 0x08},  // BTS [RSP+8], R10
        Code{0x48, 0x0f, 0xa3, 0x25, 0, 1, 0, 0},  // BT [RIP+256], RSP
        // MOV EAX, [RDI]; LOCK BTS [RSI], RCX; MOV [RDI+8], EAX
        Code{0x8b, 0x07, 0xf0, 0x48, 0x0f, 0xab, 0x0e, 0x89, 0x47, 0x08},
        Code{0xff, 0x74, 0x24, 0x08},     // PUSH [RSP+8]
        Code{0xff, 0x54, 0x24, 0x08}}) {  // CALL [RSP+8]
    for (const Counting counting : {Counting::kNone, Counting::kCount, Counting::kBounded}) {
      for (const bool plain : {false, true}) {
        CHECK(workshop.Verify(workshop.Translate(code, LeaveOut::kNothing, plain, 0, counting)) ==
              "");
      }
    }
  }
}

TEST_CASE("every check that is left out is noticed", "[verifier]") {
  CodeWorkshop workshop;
  const auto fault = [&](const Code& code, LeaveOut leave_out) {
    const std::string text = workshop.Verify(workshop.Translate(code, leave_out));
    return text.substr(0, text.find(" at 0x"));
  };
  CHECK(fault(kLoad, LeaveOut::kRead) == "memory without a check");
  CHECK(fault(kStore, LeaveOut::kWrite) == "a write that was checked as a read");
  CHECK(fault({0x53}, LeaveOut::kWrite) == "a write that was checked as a read");
  CHECK(fault({0x5b}, LeaveOut::kRead) == "memory without a check");
  CHECK(fault(kLoad, LeaveOut::kCrossing) == "more memory than was checked");
  CHECK(fault(kStore, LeaveOut::kCrossing) == "more memory than was checked");
  CHECK(fault({0x4d, 0x01, 0xd1}, LeaveOut::kBorrow) ==  // ADD R9, R10, which stays in memory
        "a register that was not borrowed is another one's value");
  CHECK(fault({0x4d, 0x8b, 0x0a}, LeaveOut::kBorrow) ==  // MOV R9, [R10]
        "a register that was not borrowed is another one's value");
  CHECK(fault(kBit, LeaveOut::kRead) == "memory without a check");
  CHECK(fault(kBit, LeaveOut::kCrossing) == "more memory than was checked");
  CHECK(fault(kLockedBit, LeaveOut::kWrite) == "a write that was checked as a read");
  CHECK(fault(kLockedBit, LeaveOut::kCrossing) == "more memory than was checked");
  CHECK(fault(kLockedBit, LeaveOut::kBitNumber) == "a bit that may be elsewhere");
  CHECK(fault(kAligned, LeaveOut::kAlignment) == "a misaligned operand");
  CHECK(fault(kMultiplyLoadJump, LeaveOut::kFlags) == "the guest's flags are lost");
  CHECK(fault(kAlignedSpan, LeaveOut::kAlignment) == "a misaligned operand");
  CHECK(fault(kSpan, LeaveOut::kSpanEnd) == "more memory than was checked");
  CHECK(fault(kStackSpan, LeaveOut::kSpanEnd) == "more memory than was checked");
  CHECK(fault(kSpan, LeaveOut::kSpanWrite) == "a write that was checked as a read");
  CHECK(fault(kStackSpan, LeaveOut::kSpanWrite) == "a write that was checked as a read");
  CHECK(fault(kSpans, LeaveOut::kSpanKept) == "memory without a check");
  CHECK(fault(kVector, LeaveOut::kRegisters) == "vector registers that are not there");
  CHECK(fault(kX87, LeaveOut::kRegisters) == "x87 registers that are not there");
  for (const Code& code :
       {Code{0x89, 0xc8}, kLoad, Code{0xff, 0xe0}, Code{0x0f, 0xa2}, Code{0x4d, 0x01, 0xd1}}) {
    const auto across = [&](LeaveOut leave_out) {
      return workshop.Verify(workshop.Translate(code, leave_out, false, 7));
    };
    CHECK(across(LeaveOut::kNothing) == "");
    CHECK(across(LeaveOut::kTail).starts_with("a page that nobody has looked for"));
  }
  for (const Code& code : {Code{0xc3}, Code{0xff, 0xe0}, kCallIndirect})
    CHECK(fault(code, LeaveOut::kTarget) == "a jump to where nobody has looked");
}

TEST_CASE("instructions that translated code never has are refused", "[verifier]") {
  CodeWorkshop workshop;
  const CodeWorkshop::Emitted emitted = workshop.Translate(Code(16, 0xf8));  // CLC
  REQUIRE(workshop.Verify(emitted) == "");
  // Sixteen of them, and a jump of five bytes.
  const CodeSpace::Offset at = emitted.hot.end - 5 - 16;
  const std::vector<Code> kForbidden = {
      {0x0f, 0x05},                          // SYSCALL
      {0x0f, 0x34},                          // SYSENTER
      {0xcd, 0x80},                          // INT 80
      {0xcc},                                // INT3
      {0xf4},                                // HLT
      {0x0f, 0x01, 0xef},                    // WRPKRU
      {0xf3, 0x48, 0x0f, 0xae, 0xd0},        // WRFSBASE RAX
      {0xf3, 0x48, 0x0f, 0xae, 0xd8},        // WRGSBASE RAX
      {0x0f, 0x30},                          // WRMSR
      {0x0f, 0x22, 0xd8},                    // MOV CR3, RAX
      {0x8e, 0xe0},                          // MOV FS, EAX
      {0xe4, 0x60},                          // IN AL, 60
      {0x0f, 0xa2},                          // CPUID
      {0x0f, 0x31},                          // RDTSC
      {0x9c},                                // PUSHF
      {0x9d},                                // POPF
      {0x50},                                // PUSH RAX
      {0x58},                                // POP RAX
      {0xc3},                                // RET
      {0xcf},                                // IRET
      {0xfd},                                // STD
      {0xa4},                                // MOVSB
      {0xf3, 0xaa},                          // REP STOSB
      {0xd7},                                // XLATB
      {0xff, 0xe0},                          // JMP RAX
      {0xff, 0xd0},                          // CALL RAX
      {0xe8, 0x00, 0x00, 0x00, 0x00},        // CALL to no stub
      {0xe9, 0x00, 0x00, 0x10, 0x00},        // JMP out of the block
      {0xeb, 0x7f},                          // the same
      {0x8b, 0x07},                          // MOV EAX, [RDI]
      {0x41, 0x8b, 0x02},                    // MOV EAX, [R10]
      {0x41, 0x8b, 0x03},                    // MOV EAX, [R11]
      {0x8b, 0x04, 0x24},                    // MOV EAX, [RSP]
      {0x48, 0x89, 0xe0},                    // MOV RAX, RSP
      {0x48, 0x89, 0xc4},                    // MOV RSP, RAX
      {0x65, 0x8b, 0x04, 0x25, 0, 0, 0, 0},  // MOV EAX, GS:[0]
      {0x8b, 0x04, 0x25, 0, 0, 0, 0},        // MOV EAX, [0]
      {0x8b, 0x05, 0, 0, 0, 0},              // MOV EAX, [RIP]: the code itself
      {0x89, 0x05, 0, 0, 0, 0},              // MOV [RIP], EAX
      {0x66, 0x0f, 0xef, 0xc0},              // PXOR XMM0, XMM0, which nobody has loaded
      {0xd9, 0xe8},                          // FLD1, the same
      {0xf7, 0xf1},                          // DIV ECX
      {0x49, 0xff, 0xc2},                    // INC R10: the guest's flags
      {0x06},                                // nothing
  };
  {
    const Changed changed(workshop, at, {0xf9});  // STC may stand there
    CHECK(workshop.Verify(emitted) == "");
  }
  for (const Code& forbidden : kForbidden) {
    CAPTURE(forbidden);
    const Changed changed(workshop, at, forbidden);
    CHECK(workshop.Verify(emitted) != "");
  }
}

TEST_CASE("a look-up that is not as it was emitted is refused", "[verifier]") {
  CodeWorkshop workshop;
  const CodeWorkshop::Emitted emitted = workshop.Translate(kLoad);
  const uint8_t* code = workshop.space.run(0);
  const auto find = [&](const Code& bytes) {
    const uint8_t* end = code + emitted.hot.end;
    const uint8_t* found = std::search(code + emitted.hot.begin, end, bytes.begin(), bytes.end());
    REQUIRE(found != end);
    return static_cast<CodeSpace::Offset>(found - code);
  };
  const CodeSpace::Offset compare = find({0x49, 0x81, 0xfa}), jump = find({0x0f, 0x87}),
                          load = find({0x41, 0x8b, 0x02}), mask = find({0x41, 0x81, 0xe3});
  const auto refused = [&](CodeSpace::Offset at, const Code& bytes) {
    const Changed changed(workshop, at, bytes);
    return workshop.Verify(emitted) != "";
  };
  CHECK(refused(compare + 3, {0xfd, 0x0f, 0, 0}));  // one byte too many
  CHECK(refused(compare + 2, {0xfb}));              // CMP R11
  CHECK(refused(compare, {0x41}));                  // CMP R10D
  CHECK(refused(jump + 1, {0x83}));                 // JAE
  CHECK(refused(jump + 1, {0x86}));                 // JBE
  CHECK(refused(jump, {0x0f, 0x1f, 0x80}));         // NOP
  CHECK(refused(load, {0x41, 0x89, 0x02}));         // a store
  CHECK(refused(load, {0x49, 0x8b, 0x02}));         // eight bytes
  CHECK(refused(load, {0x41, 0x8b, 0x00}));         // [R8]
  CHECK(refused(load, {0x41, 0x8b, 0x03}));         // [R11]
  CHECK(refused(mask + 3, {0xf0, 0xff, 0x7, 0}));   // past the end of the bank
  CHECK(refused(mask + 3, {0xf8, 0xff, 0x3, 0}));   // between entries
  CHECK_FALSE(refused(load, {0x41, 0x8b, 0x02}));   // as it was
}

TEST_CASE("flags that are not all made are seen by nobody, or it is noticed", "[verifier]") {
  CodeWorkshop workshop;
  // MOV EAX, [RDI]; BTS EAX, ECX; ADD EAX, ECX
  const CodeWorkshop::Emitted emitted =
      workshop.Translate({0x8b, 0x07, 0x0f, 0xab, 0xc8, 0x01, 0xc8});
  CHECK(workshop.Verify(emitted) == "");
  const uint8_t* code = workshop.space.run(0);
  const uint8_t* end = code + emitted.hot.end;
  const Code both = {0x0f, 0xab, 0xc8, 0x01, 0xc8};
  const uint8_t* found = std::search(code + emitted.hot.begin, end, both.begin(), both.end());
  REQUIRE(found != end);  // and no flags are brought back between the two
  const auto add = static_cast<CodeSpace::Offset>(found + 3 - code);
  for (const Code& instead : {Code{0x89, 0xc8}, Code{0x11, 0xc8}, Code{0xff, 0xc0}}) {
    const Changed changed(workshop, add, instead);  // MOV, ADC; INC, which keeps the carry
    CHECK(workshop.Verify(emitted) != "");
  }
}

TEST_CASE("an indirect jump that is not as it was emitted is refused", "[verifier]") {
  CodeWorkshop workshop;
  const CodeWorkshop::Emitted emitted = workshop.Translate({0xff, 0xe0});  // JMP RAX
  const uint8_t* code = workshop.space.run(0);
  const auto find = [&](const Code& bytes) {
    const uint8_t* end = code + emitted.hot.end;
    const uint8_t* found = std::search(code + emitted.hot.begin, end, bytes.begin(), bytes.end());
    REQUIRE(found != end);
    return static_cast<CodeSpace::Offset>(found - code);
  };
  const CodeSpace::Offset mask = find({0x41, 0x81, 0xe3}), table = find({0x4c, 0x03, 0x1d}),
                          compare = find({0x4d, 0x3b, 0x13}), unequal = find({0x0f, 0x85}),
                          page = find({0x49, 0x81, 0xe2}), store = find({0x4c, 0x89, 0x15}),
                          jump = find({0x41, 0xff, 0x63, 0x08});
  const auto refused = [&](CodeSpace::Offset at, const Code& bytes) {
    const Changed changed(workshop, at, bytes);
    return workshop.Verify(emitted) != "";
  };
  constexpr uint32_t kPast = JumpTable::kIndexMask * 2, kBetween = JumpTable::kIndexMask + 8;
  CHECK(refused(mask + 3, {kPast & 0xff, kPast >> 8 & 0xff, kPast >> 16 & 0xff, 0}));
  CHECK(refused(mask + 3, {kBetween & 0xff, kBetween >> 8 & 0xff, kBetween >> 16 & 0xff, 0}));
  CHECK(refused(mask, {0x0f, 0x1f, 0x80}));              // NOP
  CHECK(refused(table + 1, {0x33}));                     // XOR R11, [the table]
  CHECK(refused(table + 3, {0, 0, 0, 0}));               // the table of the code's choice
  CHECK(refused(compare, {0x45}));                       // CMP R10D
  CHECK(refused(compare + 1, {0x39}));                   // CMP [R11], R10
  CHECK(refused(compare + 1, {0x3b, 0x1b}));             // CMP R11
  CHECK(refused(unequal + 1, {0x84}));                   // JZ
  CHECK(refused(unequal + 1, {0x86}));                   // JBE
  CHECK(refused(unequal, {0x0f, 0x1f, 0x80}));           // NOP
  CHECK(refused(page, {0x49, 0x0f, 0xba, 0xe2, 0x0c}));  // BT R10, 12, and more
  CHECK(refused(page + 3, {0x00, 0xe0, 0xff, 0xff}));    // another page
  CHECK(refused(store, {0x4c, 0x8b}));                   // MOV R10, [page]
  CHECK(refused(store, {0x4c, 0x89, 0x1d}));             // R11 is the page
  CHECK(refused(store, {0x0f, 0x1f, 0x80}));             // NOP
  CHECK(refused(jump + 3, {0x00}));                      // JMP [R11]
  CHECK(refused(jump + 3, {0x10}));                      // JMP [R11 + 16]
  CHECK(refused(jump + 2, {0x62}));                      // JMP [R10 + 8]
  CHECK(refused(jump + 2, {0x53}));                      // CALL [R11 + 8]
  CHECK_FALSE(refused(jump, {0x41, 0xff, 0x63, 0x08}));  // as it was
}
