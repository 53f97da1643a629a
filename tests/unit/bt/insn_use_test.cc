// What the manual says of an instruction's operands. That UseOf() holds on the processor is proved
// for every form by the differential test.
#include "bt/isa/insn_use.h"

#include <catch2/catch.hpp>
#include <vector>

#include "bt/isa/decoder.h"

using namespace bt;

namespace {

constexpr unsigned kRax = 1 << 0, kRcx = 1 << 1, kRdx = 1 << 2, kRbx = 1 << 3, kRsp = 1 << 4,
                   kRbp = 1 << 5, kRsi = 1 << 6, kRdi = 1 << 7, kR8 = 1 << 8, kR11 = 1 << 11;
constexpr uint32_t kCf = 1, kZf = 0x40, kDf = 0x400, kOf = 0x800;

InsnUse Use(const std::vector<uint8_t>& code, CodeSize size = CodeSize::k64) {
  Insn insn;
  REQUIRE(Decode(code, size, insn) == DecodeStatus::kOk);
  return UseOf(insn);
}

}  // namespace

TEST_CASE("operands of ModRM are read and written as the instruction says", "[insn_use]") {
  const InsnUse add = Use({0x48, 0x01, 0xc8});  // ADD RAX, RCX
  CHECK(add.gpr_read == (kRax | kRcx));
  CHECK(add.gpr_written == kRax);
  CHECK(add.gpr_implicit == 0);
  CHECK(add.flags_read == 0);
  CHECK(add.flags_written == kArithmeticFlags);
  const InsnUse mov = Use({0x89, 0xc8});  // MOV EAX, ECX
  CHECK(mov.gpr_read == kRcx);
  CHECK(mov.gpr_written == kRax);
  CHECK(mov.flags_written == 0);
}

TEST_CASE("a register of which a part stays counts as read", "[insn_use]") {
  CHECK(Use({0xb0, 5}).gpr_read == kRax);                           // MOV AL, 5
  CHECK(Use({0xb4, 5}).gpr_read == kRax);                           // MOV AH, 5
  CHECK(Use({0x66, 0xb8, 5, 0}).gpr_read == kRax);                  // MOV AX, 5
  CHECK(Use({0xb8, 5, 0, 0, 0}).gpr_read == 0);                     // MOV EAX, 5
  CHECK(Use({0x0f, 0x94, 0xc0}).gpr_read == kRax);                  // SETZ AL
  CHECK(Use({0x0f, 0x44, 0xc1}).gpr_read == (kRax | kRcx));         // CMOVZ EAX, ECX
  CHECK(Use({0x0f, 0xbc, 0xc1}).gpr_read == (kRax | kRcx));         // BSF EAX, ECX
  CHECK(Use({0xf3, 0x48, 0xad}).gpr_read == (kRax | kRcx | kRsi));  // REP LODSQ
  CHECK(Use({0x48, 0xad}).gpr_read == kRsi);                        // LODSQ
}

TEST_CASE("AH is a part of RAX and no fourth register", "[insn_use]") {
  CHECK(Use({0x88, 0xe1}).gpr_read == (kRax | kRcx));        // MOV CL, AH
  CHECK(Use({0x9f}).gpr_written == kRax);                    // LAHF
  CHECK(Use({0x40, 0x88, 0xe1}).gpr_read == (kRsp | kRcx));  // MOV CL, SPL
}

TEST_CASE("registers that no field names are implicit", "[insn_use]") {
  CHECK(Use({0xd3, 0xe0}).gpr_implicit == kRcx);           // SHL EAX, CL
  CHECK(Use({0xf7, 0xe3}).gpr_implicit == (kRax | kRdx));  // MUL EBX
  CHECK(Use({0xf7, 0xe3}).gpr_written == (kRax | kRdx));
  CHECK(Use({0xf3, 0xa4}).gpr_implicit == (kRcx | kRsi | kRdi));  // REP MOVSB
  CHECK(Use({0x51}).gpr_implicit == kRsp);                        // PUSH RCX
  CHECK(Use({0x51}).gpr_read == (kRcx | kRsp));
  CHECK(Use({0x91}).gpr_implicit == kRax);                                     // XCHG ECX, EAX
  CHECK(Use({0x0f, 0xa2}).gpr_written == (kRax | kRcx | kRdx | kRbx));         // CPUID
  CHECK(Use({0xd7}).gpr_read == (kRax | kRbx));                                // XLAT
  CHECK(Use({0xc9}).gpr_implicit == (kRsp | kRbp));                            // LEAVE
  CHECK(Use({0x0f, 0x05}).gpr_written == (kRcx | kR11));                       // SYSCALL
  CHECK(Use({0x0f, 0xc7, 0x0f}).gpr_implicit == (kRax | kRcx | kRdx | kRbx));  // CMPXCHG8B [RDI]
}

TEST_CASE("the registers of an address are read and not implicit", "[insn_use]") {
  const InsnUse load = Use({0x8b, 0x04, 0xb7});  // MOV EAX, [RDI+RSI*4]
  CHECK(load.gpr_read == (kRsi | kRdi));
  CHECK(load.gpr_implicit == 0);
  // A vector index is no general register.
  CHECK(Use({0xc4, 0xe2, 0x69, 0x92, 0x04, 0x8f}).gpr_read == kRdi);
}

TEST_CASE("REX.B makes no base of a displacement alone", "[insn_use]") {
  // LEA R14, [R13D*4 + disp32]: Zydis sees a base of R13 in more than one place.
  CHECK(Use({0x67, 0x4b, 0x8d, 0x04, 0x8d, 0, 0, 0, 0}).gpr_read == 1 << 9);
}

TEST_CASE("F3 90 with REX.B exchanges R8 and RAX", "[insn_use]") {
  const InsnUse use = Use({0xf3, 0x49, 0x90});
  CHECK(use.gpr_read == (kRax | kR8));
  CHECK(use.gpr_written == (kRax | kR8));
  CHECK(use.gpr_implicit == kRax);
  CHECK(Use({0xf3, 0x90}).gpr_written == 0);
}

TEST_CASE("undefined flags count as written", "[insn_use]") {
  CHECK(Use({0x21, 0xc8}).flags_written == kArithmeticFlags);        // AND: AF
  CHECK(Use({0x0f, 0xaf, 0xc1}).flags_written == kArithmeticFlags);  // IMUL: SF ZF AF PF
}

TEST_CASE("VPTEST, VTESTPS and VTESTPD clear what they do not set", "[insn_use]") {
  CHECK(Use({0xc4, 0xe2, 0x79, 0x17, 0xc1}).flags_written == kArithmeticFlags);
  CHECK(Use({0xc4, 0xe2, 0x79, 0x0e, 0xc1}).flags_written == kArithmeticFlags);
  CHECK(Use({0xc4, 0xe2, 0x79, 0x0f, 0xc1}).flags_written == kArithmeticFlags);
}

TEST_CASE("string instructions advance their pointers", "[insn_use]") {
  CHECK(Use({0xa6}).gpr_written == (kRsi | kRdi));  // CMPSB
  CHECK(Use({0xae}).gpr_written == kRdi);           // SCASB
  CHECK(Use({0xa4}).gpr_written == (kRsi | kRdi));  // MOVSB
  CHECK(Use({0xf3, 0xa6}).gpr_written == (kRcx | kRsi | kRdi));
}

TEST_CASE("flags that an instruction leaves alone are not written", "[insn_use]") {
  CHECK(Use({0xff, 0xc0}).flags_written == (kArithmeticFlags & ~kCf));  // INC
  CHECK(Use({0xd1, 0xc0}).flags_written == (kCf | kOf));                // ROL EAX, 1
  CHECK(Use({0x66, 0x0f, 0x38, 0xf6, 0xc1}).flags_written == kCf);      // ADCX
  CHECK(Use({0x66, 0x0f, 0x38, 0xf6, 0xc1}).flags_read == kCf);
  CHECK(Use({0x0f, 0x02, 0xc1}).flags_written == kZf);  // LAR
}

TEST_CASE("conditions read their flags", "[insn_use]") {
  CHECK(Use({0x74, 0}).flags_read == kZf);                                 // JZ
  CHECK(Use({0x0f, 0x46, 0xc1}).flags_read == (kCf | kZf));                // CMOVBE
  CHECK(Use({0x11, 0xc8}).flags_read == kCf);                              // ADC
  CHECK(Use({0xa4}).flags_read == kDf);                                    // MOVSB
  CHECK((Use({0x9c}).flags_read & kArithmeticFlags) == kArithmeticFlags);  // PUSHFQ
}

TEST_CASE("whatever stores the flags reads them", "[insn_use]") {
  CHECK((Use({0x0f, 0x05}).flags_read & kArithmeticFlags) == kArithmeticFlags);  // SYSCALL: R11
  CHECK((Use({0xcd, 0x80}).flags_read & kArithmeticFlags) == kArithmeticFlags);  // INT 80h
}

TEST_CASE("a count of zero keeps the flags", "[insn_use]") {
  CHECK(Use({0xd3, 0xe0}).flags_kept_sometimes);                    // SHL EAX, CL
  CHECK(Use({0xc1, 0xe0, 0x20}).flags_kept_sometimes);              // SHL EAX, 32
  CHECK_FALSE(Use({0x48, 0xc1, 0xe0, 0x20}).flags_kept_sometimes);  // SHL RAX, 32
  CHECK_FALSE(Use({0xc1, 0xe0, 0x03}).flags_kept_sometimes);
  CHECK_FALSE(Use({0xd1, 0xe0}).flags_kept_sometimes);
  CHECK(Use({0x0f, 0xa5, 0xc8}).flags_kept_sometimes);  // SHLD EAX, ECX, CL
  CHECK_FALSE(Use({0x0f, 0xa4, 0xc8, 4}).flags_kept_sometimes);
  CHECK(Use({0xf3, 0xa6}).flags_kept_sometimes);  // REPE CMPSB
  CHECK_FALSE(Use({0xa6}).flags_kept_sometimes);
}

TEST_CASE("explicit memory is told from implicit memory", "[insn_use]") {
  const InsnUse push = Use({0xff, 0x30});  // PUSH [RAX]
  CHECK(push.memory_read);
  CHECK_FALSE(push.memory_written);
  CHECK(push.implicit_memory);
  const InsnUse add = Use({0x01, 0x08});  // ADD [RAX], ECX
  CHECK(add.memory_read);
  CHECK(add.memory_written);
  CHECK_FALSE(add.implicit_memory);
  const InsnUse movs = Use({0xa4});
  CHECK_FALSE(movs.memory_read);
  CHECK_FALSE(movs.memory_written);
  CHECK(movs.implicit_memory);
  CHECK(Use({0x89, 0x08}).memory_written);
  CHECK_FALSE(Use({0x89, 0x08}).memory_read);
  CHECK(Use({0x66, 0x0f, 0xf7, 0xc1}).implicit_memory);  // MASKMOVDQU
  CHECK(Use({0xa1, 8, 7, 6, 5, 4, 3, 2, 1}).memory_read);
}

TEST_CASE("an address that is not accessed is no memory", "[insn_use]") {
  for (const std::vector<uint8_t>& code :
       {std::vector<uint8_t>{0x8d, 0x04, 0x24}, {0x0f, 0x1f, 0x00}, {0x0f, 0x18, 0x08}}) {
    const InsnUse use = Use(code);
    CHECK_FALSE(use.memory_read);
    CHECK_FALSE(use.memory_written);
    CHECK_FALSE(use.implicit_memory);
  }
}

TEST_CASE("BT with its bit number in a register reaches beyond its operand", "[insn_use]") {
  CHECK(Use({0x0f, 0xa3, 0x08}).implicit_memory);
  CHECK_FALSE(Use({0x0f, 0xba, 0x20, 5}).implicit_memory);
  CHECK_FALSE(Use({0x0f, 0xa3, 0xc8}).implicit_memory);
}

TEST_CASE("vector and x87 state are told apart", "[insn_use]") {
  const auto state = [](const std::vector<uint8_t>& code) {
    const InsnUse use = Use(code);
    return (use.vector ? 1 : 0) | (use.x87 ? 2 : 0);
  };
  CHECK(state({0x01, 0xc8}) == 0);
  CHECK(state({0x0f, 0x58, 0xc1}) == 1);              // ADDPS
  CHECK(state({0xc5, 0xf8, 0x77}) == 1);              // VZEROUPPER
  CHECK(state({0xc4, 0xe2, 0x70, 0xf2, 0xc2}) == 0);  // ANDN: VEX, but general registers
  CHECK(state({0x0f, 0xae, 0x10}) == 1);              // LDMXCSR
  CHECK(state({0xd8, 0xc1}) == 2);                    // FADD
  CHECK(state({0x0f, 0xfc, 0xc1}) == 2);              // PADDB MM0, MM1
  CHECK(state({0x0f, 0x77}) == 2);                    // EMMS
  CHECK(state({0x0f, 0x2a, 0xc1}) == 3);              // CVTPI2PS XMM0, MM1
  CHECK(state({0x0f, 0x2d, 0x00}) == 3);              // CVTPS2PI MM0, [RAX]: MXCSR
  CHECK(state({0x0f, 0xae, 0x00}) == 3);              // FXSAVE
  CHECK(state({0x9b}) == 2);                          // FWAIT
}

TEST_CASE("16-bit and 32-bit code is told as well", "[insn_use]") {
  CHECK(Use({0x40}, CodeSize::k32).gpr_written == kRax);                     // INC EAX
  CHECK(Use({0x8b, 0x00}, CodeSize::k16).gpr_read == (kRbx | kRsi | kRax));  // MOV AX, [BX+SI]
  CHECK(Use({0x60}, CodeSize::k32).gpr_read == 0xff);                        // PUSHAD
}
