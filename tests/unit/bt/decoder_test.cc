#include "bt/isa/decoder.h"

#include <catch2/catch.hpp>
#include <vector>

using namespace bt;

namespace {

Insn Decoded(std::vector<uint8_t> bytes, CodeSize size = CodeSize::k64) {
  Insn insn;
  REQUIRE(Decode(bytes, size, insn) == DecodeStatus::kOk);
  return insn;
}

}  // namespace

TEST_CASE("an instruction that runs past the bytes asks for more") {
  Insn insn;
  const std::vector<uint8_t> head = {0x48, 0xb8, 1, 2, 3};  // MOV RAX, imm64
  CHECK(Decode(head, CodeSize::k64, insn) == DecodeStatus::kNeedMoreBytes);
}

TEST_CASE("what is not on the list is invalid") {
  Insn insn;
  const std::vector<uint8_t> evex_vaddps = {0x62, 0xf1, 0x74, 0x48, 0x58, 0xc1};  // AVX-512
  CHECK(Decode(evex_vaddps, CodeSize::k64, insn) == DecodeStatus::kInvalid);
  const std::vector<uint8_t> aaa = {0x37};
  CHECK(Decode(aaa, CodeSize::k64, insn) == DecodeStatus::kInvalid);
  CHECK(Decode(aaa, CodeSize::k32, insn) == DecodeStatus::kOk);
}

TEST_CASE("MOVSD and CMPSD are told apart from the string instructions of the same name") {
  CHECK(Decoded({0xa5}).mnemonic == Mnemonic::MOVS_D);
  CHECK(Decoded({0xf2, 0x0f, 0x10, 0xc1}).mnemonic == Mnemonic::MOVSD);
  CHECK(Decoded({0xa7}).mnemonic == Mnemonic::CMPS_D);
  CHECK(Decoded({0xf2, 0x0f, 0xc2, 0xc1, 0}).mnemonic == Mnemonic::CMPSD);
}

TEST_CASE("a SIB base of 101 with mod 00 is a displacement, whatever REX.B says") {
  // LEA R14, [R13D*4 + disp32] with a 32-bit address. [SDM 2A] table 2-5
  const Insn insn = Decoded({0x67, 0x4f, 0x8d, 0x34, 0xad, 0xb2, 0x84, 0x63, 0x23});
  CHECK(insn.mem.base == MemoryOperand::kNoReg);
  CHECK(insn.mem.index == 13);
  CHECK(insn.mem.shift == 2);
  CHECK(insn.mem.disp == 0x236384b2);
}

TEST_CASE("F3 90 is PAUSE, but with REX.B it exchanges R8") {
  CHECK(Decoded({0xf3, 0x90}).mnemonic == Mnemonic::PAUSE);
  const Insn insn = Decoded({0xf3, 0x4d, 0x90});
  CHECK(insn.mnemonic == Mnemonic::XCHG);
  CHECK(insn.operand[0].reg == 8);
  CHECK(insn.operand[1].reg == 0);
  CHECK(insn.operand[0].bits == 64);
  CHECK(insn.operand[0].written);
  CHECK(insn.operand[1].written);
}

TEST_CASE("the last of F2 and F3 repeats a string instruction") {
  CHECK(Decoded({0xf2, 0xf3, 0xaa}).rep);
  CHECK_FALSE(Decoded({0xf3, 0xf2, 0xaa}).rep);
  CHECK(Decoded({0xf3, 0xf2, 0xaa}).repne);
}
