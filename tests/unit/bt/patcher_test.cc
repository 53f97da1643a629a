// The corners of the encoding, byte for byte.
#include "bt/translator/patcher.h"

#include <catch2/catch.hpp>
#include <initializer_list>
#include <utility>
#include <vector>

#include "bt/isa/decoder.h"

using namespace bt;

namespace {

using Code = std::vector<uint8_t>;
enum Gpr : uint8_t { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

Insn Decoded(const Code& code, CodeSize size = CodeSize::k64) {
  Insn insn;
  REQUIRE(Decode(code, size, insn) == DecodeStatus::kOk);
  REQUIRE(insn.length == code.size());
  return insn;
}

PatchPlan Moving(std::initializer_list<std::pair<Gpr, Gpr>> moves) {
  PatchPlan plan;
  for (const auto& [guest, host] : moves) plan.gpr[guest] = host;
  return plan;
}

PatchPlan Replacing(Gpr base, std::initializer_list<std::pair<Gpr, Gpr>> moves = {}) {
  PatchPlan plan = Moving(moves);
  plan.replace_memory = true;
  plan.memory_base = base;
  return plan;
}

Code Patched(const Code& code, const PatchPlan& plan) {
  std::array<uint8_t, kMaxPatched> out{};
  const unsigned length = PatchInsn(Decoded(code), plan, out.data());
  return {out.begin(), out.begin() + length};
}

Code Address(const Code& code, Gpr destination, const PatchPlan& plan = {}) {
  std::array<uint8_t, kMaxPatched> out{};
  const unsigned length = EmitAddress(Decoded(code), plan, destination, out.data());
  return {out.begin(), out.begin() + length};
}

const Code kRefused;

}  // namespace

TEST_CASE("a plan that moves nothing copies the instruction", "[patcher]") {
  for (const Code& code : {Code{0x48, 0x01, 0xc8},                             // ADD RAX, RCX
                           Code{0xf0, 0x48, 0x0f, 0xb1, 0x0c, 0x24},           // LOCK CMPXCHG
                           Code{0x40, 0x88, 0xc1},                             // a REX without use
                           Code{0x65, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0},  // GS:[28h]
                           Code{0xc5, 0xf8, 0x58, 0x44, 0x8b, 0x10},           // VADDPS
                           Code{0x66, 0x0f, 0x3a, 0x0f, 0xc1, 0x08},           // PALIGNR
                           Code{0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8},           // MOV RAX, imm64
                           Code{0xf3, 0xa4},                                   // REP MOVSB
                           Code{0xe8, 1, 2, 3, 4}})                            // CALL
    CHECK(Patched(code, {}) == code);
}

TEST_CASE("a register above RDI asks for REX, and one below gives it back", "[patcher]") {
  CHECK(Patched({0x01, 0xc8}, Moving({{RAX, R9}})) == Code{0x41, 0x01, 0xc9});
  CHECK(Patched({0x01, 0xc8}, Moving({{RCX, R15}})) == Code{0x44, 0x01, 0xf8});
  CHECK(Patched({0x45, 0x01, 0xc8}, Moving({{R8, RDX}, {R9, RBX}})) == Code{0x01, 0xda});
}

TEST_CASE("REX.W stays when the other bits go", "[patcher]") {
  CHECK(Patched({0x4d, 0x01, 0xc8}, Moving({{R8, RDX}, {R9, RBX}})) == Code{0x48, 0x01, 0xda});
}

TEST_CASE("REX comes after the legacy prefixes", "[patcher]") {
  // ADD [RAX], CX, locked; POPCNT
  CHECK(Patched({0xf0, 0x66, 0x01, 0x08}, Moving({{RCX, R8}})) ==
        Code{0xf0, 0x66, 0x44, 0x01, 0x00});
  CHECK(Patched({0xf3, 0x0f, 0xb8, 0xc1}, Moving({{RCX, R8}})) ==
        Code{0xf3, 0x41, 0x0f, 0xb8, 0xc0});
}

TEST_CASE("a REX before a legacy prefix does nothing and never begins to", "[patcher]") {
  // REX.W and then FS: MOV EAX, FS:[RAX] stays 32 bits wide without the FS. [SDM 2A] 2.2.1
  CHECK(Patched({0x48, 0x64, 0x8b, 0x00}, Replacing(RDI)) == Code{0x8b, 0x07});
}

TEST_CASE("SPL, BPL, SIL and DIL ask for REX", "[patcher]") {
  CHECK(Patched({0x88, 0xc8}, Moving({{RAX, RSI}})) == Code{0x40, 0x88, 0xce});
  CHECK(Patched({0x0f, 0xb6, 0xc1}, Moving({{RCX, RDI}})) == Code{0x40, 0x0f, 0xb6, 0xc7});
  CHECK(Patched({0xb1, 0x05}, Moving({{RCX, RBP}})) == Code{0x40, 0xb5, 0x05});
  // CRC32 EAX, CL
  CHECK(Patched({0xf2, 0x0f, 0x38, 0xf0, 0xc1}, Moving({{RCX, RSI}})) ==
        Code{0xf2, 0x40, 0x0f, 0x38, 0xf0, 0xc6});
  // 16 and 32 bits do not.
  CHECK(Patched({0x89, 0xc8}, Moving({{RAX, RSI}})) == Code{0x89, 0xce});
}

TEST_CASE("AH to BH move among AX to BX only", "[patcher]") {
  CHECK(Patched({0x88, 0xe0}, Moving({{RAX, RBX}})) == Code{0x88, 0xfb});  // MOV BL, BH
  CHECK(Patched({0x88, 0xe1}, Moving({{RAX, RSI}})) == kRefused);
  CHECK(Patched({0x88, 0xe1}, Moving({{RAX, R8}})) == kRefused);
}

TEST_CASE("AH to BH cannot stand beside anything that needs REX", "[patcher]") {
  CHECK(Patched({0x88, 0xe1}, Moving({{RCX, R8}})) == kRefused);
  CHECK(Patched({0x88, 0xe1}, Moving({{RCX, RSI}})) == kRefused);  // SIL
  CHECK(Patched({0x88, 0x21}, Moving({{RCX, R8}})) == kRefused);   // MOV [RCX], AH
  CHECK(Patched({0x88, 0x21}, Replacing(R8)) == kRefused);
  CHECK(Patched({0x88, 0x21}, Replacing(RSI)) == Code{0x88, 0x26});
}

TEST_CASE("a base of RSP or R12 takes a SIB", "[patcher]") {
  CHECK(Patched({0x8b, 0x07}, Moving({{RDI, RSP}})) == Code{0x8b, 0x04, 0x24});
  CHECK(Patched({0x8b, 0x07}, Moving({{RDI, R12}})) == Code{0x41, 0x8b, 0x04, 0x24});
  CHECK(Patched({0x8b, 0x47, 0x08}, Moving({{RDI, R12}})) == Code{0x41, 0x8b, 0x44, 0x24, 0x08});
  CHECK(Patched({0x8b, 0x07}, Replacing(R12)) == Code{0x41, 0x8b, 0x04, 0x24});
  CHECK(Patched({0x41, 0x8b, 0x04, 0x24}, Moving({{R12, RDI}})) == Code{0x8b, 0x07});
}

TEST_CASE("a base of RBP or R13 takes a displacement", "[patcher]") {
  CHECK(Patched({0x8b, 0x07}, Moving({{RDI, RBP}})) == Code{0x8b, 0x45, 0x00});
  CHECK(Patched({0x8b, 0x07}, Replacing(R13)) == Code{0x41, 0x8b, 0x45, 0x00});
  CHECK(Patched({0x8b, 0x04, 0x37}, Moving({{RDI, R13}})) == Code{0x41, 0x8b, 0x44, 0x35, 0x00});
}

TEST_CASE("RSP is no index, R12 is one", "[patcher]") {
  const Code load = {0x8b, 0x04, 0xb7};  // MOV EAX, [RDI+RSI*4]
  CHECK(Patched(load, Moving({{RSI, RSP}})) == kRefused);
  CHECK(Patched(load, Moving({{RSI, R12}})) == Code{0x42, 0x8b, 0x04, 0xa7});
}

TEST_CASE("an address without a base stays without one", "[patcher]") {
  CHECK(Patched({0x8b, 0x04, 0x25, 4, 3, 2, 1}, Moving({{RAX, R8}})) ==
        Code{0x44, 0x8b, 0x04, 0x25, 4, 3, 2, 1});
  CHECK(Patched({0x8b, 0x04, 0xb5, 4, 0, 0, 0}, Moving({{RSI, R13}})) ==
        Code{0x42, 0x8b, 0x04, 0xad, 4, 0, 0, 0});
}

TEST_CASE("REX.X without a SIB does not become an index with one", "[patcher]") {
  // MOV EAX, [RDI] with REX.X; [R12] needs a SIB, whose index must be none.
  CHECK(Patched({0x42, 0x8b, 0x07}, Moving({{RDI, R12}})) == Code{0x41, 0x8b, 0x04, 0x24});
}

TEST_CASE("a replaced memory operand loses segment, address size, index and displacement",
          "[patcher]") {
  CHECK(Patched({0x64, 0x67, 0x8b, 0x84, 0xb7, 4, 3, 2, 1}, Replacing(RCX)) == Code{0x8b, 0x01});
  CHECK(Patched({0x43, 0x8b, 0x44, 0xa5, 0x10}, Replacing(RCX)) == Code{0x8b, 0x01});
}

TEST_CASE("a replaced memory operand keeps LOCK, 66, F2, F3 and the immediate", "[patcher]") {
  CHECK(Patched({0x65, 0xf0, 0x66, 0x81, 0x44, 0x24, 0x08, 0x34, 0x12}, Replacing(RDX)) ==
        Code{0xf0, 0x66, 0x81, 0x02, 0x34, 0x12});
  CHECK(Patched({0xf2, 0x0f, 0x10, 0x45, 0xf8}, Replacing(RDX)) == Code{0xf2, 0x0f, 0x10, 0x02});
  CHECK(Patched({0xf3, 0x0f, 0xb8, 0x45, 0xf8}, Replacing(RDX)) == Code{0xf3, 0x0f, 0xb8, 0x02});
}

TEST_CASE("an operand relative to RIP can be replaced, not kept", "[patcher]") {
  const Code compare = {0x83, 0x3d, 4, 3, 2, 1, 0x7f};  // CMP DWORD [RIP+1020304h], 7Fh
  CHECK(Patched(compare, {}) == kRefused);
  CHECK(Patched(compare, Replacing(RBX)) == Code{0x83, 0x3b, 0x7f});
  CHECK(Address(compare, RBX) == kRefused);
}

TEST_CASE("MOV with an absolute address has no operand that could be replaced", "[patcher]") {
  CHECK(Patched({0xa1, 8, 7, 6, 5, 4, 3, 2, 1}, Replacing(RBX)) == kRefused);
  CHECK(Patched({0xa1, 8, 7, 6, 5, 4, 3, 2, 1}, {}) == kRefused);
}

TEST_CASE("a vector index cannot be replaced, its base moves", "[patcher]") {
  const Code gather = {0xc4, 0xe2, 0x69, 0x92, 0x04, 0x8f};  // VGATHERDPS XMM0, [RDI+XMM1*4], XMM2
  CHECK(Patched(gather, Replacing(RBX)) == kRefused);
  CHECK(Address(gather, RBX) == kRefused);
  CHECK(Patched(gather, Moving({{RDI, R8}, {RCX, RAX}})) ==
        Code{0xc4, 0xc2, 0x69, 0x92, 0x04, 0x88});
  // XMM4 is an index, RSP is none.
  CHECK(Patched({0xc4, 0xe2, 0x69, 0x92, 0x04, 0xa7}, Moving({{RDI, R8}})) ==
        Code{0xc4, 0xc2, 0x69, 0x92, 0x04, 0xa0});
}

TEST_CASE("the register in an opcode moves", "[patcher]") {
  CHECK(Patched({0x0f, 0xc9}, Moving({{RCX, R10}})) == Code{0x41, 0x0f, 0xca});  // BSWAP
  CHECK(Patched({0x51}, Moving({{RCX, R10}})) == Code{0x41, 0x52});              // PUSH
  CHECK(Patched({0x41, 0x5a}, Moving({{R10, RCX}})) == Code{0x59});              // POP
  CHECK(Patched({0x49, 0xba, 1, 2, 3, 4, 5, 6, 7, 8}, Moving({{R10, RCX}})) ==
        Code{0x48, 0xb9, 1, 2, 3, 4, 5, 6, 7, 8});
}

TEST_CASE("XCHG with RAX moves its other register, but not onto RAX", "[patcher]") {
  CHECK(Patched({0x91}, Moving({{RCX, R8}})) == Code{0x41, 0x90});
  CHECK(Patched({0x49, 0x90}, Moving({{R8, RCX}})) == Code{0x48, 0x91});
  // 90 is NOP: it would leave the upper half of RAX.
  CHECK(Patched({0x91}, Moving({{RCX, RAX}})) == kRefused);
  CHECK(Patched({0x91}, Moving({{RAX, RCX}})) == kRefused);
}

TEST_CASE("NOP and PAUSE name no register", "[patcher]") {
  CHECK(Patched({0x90}, Moving({{RAX, R8}})) == Code{0x90});
  CHECK(Patched({0xf3, 0x90}, Moving({{RAX, R8}})) == Code{0xf3, 0x90});
}

TEST_CASE("a register that an encoding implies cannot move", "[patcher]") {
  CHECK(Patched({0xd3, 0xe0}, Moving({{RCX, R8}})) == kRefused);           // SHL EAX, CL
  CHECK(Patched({0xd3, 0xe0}, Moving({{RAX, RDX}})) == Code{0xd3, 0xe2});  // SHL EDX, CL
  CHECK(Patched({0xf7, 0xe1}, Moving({{RDX, R8}})) == kRefused);           // MUL ECX
  CHECK(Patched({0xf7, 0xe1}, Moving({{RCX, R8}})) == Code{0x41, 0xf7, 0xe0});
  CHECK(Patched({0xa4}, Moving({{RSI, R8}})) == kRefused);              // MOVSB
  CHECK(Patched({0x05, 1, 0, 0, 0}, Moving({{RAX, R8}})) == kRefused);  // ADD EAX, 1
  CHECK(Patched({0x0f, 0xb1, 0x0b}, Moving({{RAX, R8}})) == kRefused);  // CMPXCHG
  CHECK(Patched({0x50}, Moving({{RSP, R8}})) == kRefused);              // PUSH RAX
}

TEST_CASE("the extension of an opcode is no register", "[patcher]") {
  // ADD ECX, 5 is 83 /0: RAX has the number 0. SHL ECX, 1 is D1 /4.
  CHECK(Patched({0x83, 0xc1, 0x05}, Moving({{RAX, R15}})) == Code{0x83, 0xc1, 0x05});
  CHECK(Patched({0xd1, 0xe1}, Moving({{RSP, R15}})) == Code{0xd1, 0xe1});
}

TEST_CASE("vector, MMX, segment and control registers keep their numbers", "[patcher]") {
  const PatchPlan plan = Moving({{RAX, R8}, {RCX, R9}, {R8, RAX}, {R9, RCX}});
  CHECK(Patched({0x0f, 0x58, 0xc1}, plan) == Code{0x0f, 0x58, 0xc1});              // ADDPS
  CHECK(Patched({0x45, 0x0f, 0x58, 0xc1}, plan) == Code{0x45, 0x0f, 0x58, 0xc1});  // XMM8, XMM9
  CHECK(Patched({0x0f, 0xfc, 0xc1}, plan) == Code{0x0f, 0xfc, 0xc1});              // PADDB MM0, MM1
  CHECK(Patched({0x8e, 0xc1}, plan) == Code{0x41, 0x8e, 0xc1});                    // MOV ES, R9
  CHECK(Patched({0x0f, 0x22, 0xd8}, plan) == Code{0x41, 0x0f, 0x22, 0xd8});        // MOV CR3, R8
  CHECK(Patched({0xd8, 0xc1}, plan) == Code{0xd8, 0xc1});                          // FADD ST0, ST1
}

TEST_CASE("of MOVD, CVTSI2SD, PINSR, PEXTR and MOVMSK the general register moves", "[patcher]") {
  const PatchPlan plan = Moving({{RAX, R8}, {RCX, R9}});
  CHECK(Patched({0x66, 0x0f, 0x6e, 0xc1}, plan) == Code{0x66, 0x41, 0x0f, 0x6e, 0xc1});
  CHECK(Patched({0x66, 0x48, 0x0f, 0x7e, 0xc1}, plan) == Code{0x66, 0x49, 0x0f, 0x7e, 0xc1});
  CHECK(Patched({0xf2, 0x0f, 0x2a, 0xc1}, plan) == Code{0xf2, 0x41, 0x0f, 0x2a, 0xc1});
  CHECK(Patched({0x66, 0x0f, 0x3a, 0x20, 0xc1, 5}, plan) ==
        Code{0x66, 0x41, 0x0f, 0x3a, 0x20, 0xc1, 5});
  CHECK(Patched({0x66, 0x0f, 0x3a, 0x14, 0xc1, 5}, plan) ==
        Code{0x66, 0x41, 0x0f, 0x3a, 0x14, 0xc1, 5});
  CHECK(Patched({0x0f, 0x50, 0xc1}, plan) == Code{0x44, 0x0f, 0x50, 0xc1});
  CHECK(Patched({0xc5, 0xf9, 0x6e, 0xc1}, plan) == Code{0xc4, 0xc1, 0x79, 0x6e, 0xc1});  // VMOVD
}

TEST_CASE("PINSRB from ESP takes no REX, for it reads 32 bits", "[patcher]") {
  CHECK(Patched({0x66, 0x0f, 0x3a, 0x20, 0xc1, 5}, Moving({{RCX, RSI}})) ==
        Code{0x66, 0x0f, 0x3a, 0x20, 0xc6, 5});
}

TEST_CASE("VEX of two bytes grows to three for X or B", "[patcher]") {
  // VADDPS XMM0, XMM0, [RDI] and [RDI+RSI]
  CHECK(Patched({0xc5, 0xf8, 0x58, 0x07}, Moving({{RDI, R9}})) ==
        Code{0xc4, 0xc1, 0x78, 0x58, 0x01});
  CHECK(Patched({0xc5, 0xf8, 0x58, 0x04, 0x37}, Moving({{RSI, R9}})) ==
        Code{0xc4, 0xa1, 0x78, 0x58, 0x04, 0x0f});
  CHECK(Patched({0xc5, 0x78, 0x58, 0x07}, Replacing(R9)) ==
        Code{0xc4, 0x41, 0x78, 0x58, 0x01});  // R stays
  CHECK(Patched({0xc5, 0xf8, 0x58, 0x07}, Replacing(RCX)) == Code{0xc5, 0xf8, 0x58, 0x01});
}

TEST_CASE("VEX.vvvv moves where it names a general register", "[patcher]") {
  // ANDN EAX, ECX, EDX; PEXT RAX, RCX, RDX; SHLX EAX, EDX, ECX; BLSR ECX, EDX
  CHECK(Patched({0xc4, 0xe2, 0x70, 0xf2, 0xc2}, Moving({{RCX, R15}})) ==
        Code{0xc4, 0xe2, 0x00, 0xf2, 0xc2});
  CHECK(Patched({0xc4, 0xe2, 0xf2, 0xf5, 0xc2}, Moving({{RCX, RSI}, {RDX, R8}})) ==
        Code{0xc4, 0xc2, 0xca, 0xf5, 0xc0});
  CHECK(Patched({0xc4, 0xe2, 0x71, 0xf7, 0xc2}, Moving({{RAX, R8}})) ==
        Code{0xc4, 0x62, 0x71, 0xf7, 0xc2});
  CHECK(Patched({0xc4, 0xe2, 0x70, 0xf3, 0xca}, Moving({{RCX, R8}})) ==
        Code{0xc4, 0xe2, 0x38, 0xf3, 0xca});
  // VADDPS XMM0, XMM1, XMM2 names none.
  CHECK(Patched({0xc5, 0xf0, 0x58, 0xc2}, Moving({{RCX, R15}})) == Code{0xc5, 0xf0, 0x58, 0xc2});
}

TEST_CASE("MULX implies RDX", "[patcher]") {
  const Code mulx = {0xc4, 0xe2, 0x73, 0xf6, 0xc3};  // MULX EAX, ECX, EBX
  CHECK(Patched(mulx, Moving({{RDX, R8}})) == kRefused);
  CHECK(Patched(mulx, Moving({{RBX, R8}})) == Code{0xc4, 0xc2, 0x73, 0xf6, 0xc0});
}

TEST_CASE("a displacement is written as short as it can be", "[patcher]") {
  CHECK(Patched({0x8b, 0x87, 8, 0, 0, 0}, {}) == Code{0x8b, 0x47, 8});
  CHECK(Patched({0x8b, 0x87, 0x80, 0xff, 0xff, 0xff}, {}) == Code{0x8b, 0x47, 0x80});
  CHECK(Patched({0x8b, 0x87, 0x80, 0, 0, 0}, {}) == Code{0x8b, 0x87, 0x80, 0, 0, 0});
}

TEST_CASE("an instruction that would grow beyond 15 bytes is refused", "[patcher]") {
  Code load(13, 0x3e);  // prefixes
  load.insert(load.end(), {0x8b, 0x07});
  CHECK(Patched(load, {}) == load);
  CHECK(Patched(load, Moving({{RDI, R8}})) == kRefused);
  CHECK(Patched(load, Replacing(R12)) == Code{0x41, 0x8b, 0x04, 0x24});
}

TEST_CASE("16-bit and 32-bit code is refused", "[patcher]") {
  std::array<uint8_t, kMaxPatched> out{};
  CHECK(PatchInsn(Decoded({0x8b, 0x07}, CodeSize::k32), {}, out.data()) == 0);
  CHECK(EmitAddress(Decoded({0x8b, 0x07}, CodeSize::k32), {}, RAX, out.data()) == 0);
}

TEST_CASE("the address of an operand is LEA, or MOV where there is nothing to add", "[patcher]") {
  CHECK(Address({0x8b, 0x44, 0xb7, 0x10}, RBX) == Code{0x48, 0x8d, 0x5c, 0xb7, 0x10});
  CHECK(Address({0x8b, 0x44, 0xb7, 0x10}, R9, Moving({{RDI, R13}, {RSI, R12}})) ==
        Code{0x4f, 0x8d, 0x4c, 0xa5, 0x10});
  CHECK(Address({0x8b, 0x07}, RBX) == Code{0x48, 0x8b, 0xdf});
  CHECK(Address({0x8b, 0x04, 0x24}, R9, Moving({{RSP, R15}})) == Code{0x4d, 0x8b, 0xcf});
}

TEST_CASE("a register that is in memory is read from there", "[patcher]") {
  PatchPlan plan = Moving({{RSP, R9}});
  plan.in_memory = 1 << R10 | 1 << R11;
  plan.slot_disp = 0x11223344;
  const auto slot = [](Code code, Code tail = {}) {
    code.insert(code.end(), {0x44, 0x33, 0x22, 0x11});
    code.insert(code.end(), tail.begin(), tail.end());
    return code;
  };
  CHECK(Patched({0x4c, 0x01, 0xd0}, plan) == slot({0x48, 0x03, 0x05}));  // ADD RAX, R10
  CHECK(Patched({0x49, 0x03, 0xc2}, plan) == slot({0x48, 0x03, 0x05}));  // the other way round
  CHECK(Patched({0x4c, 0x01, 0xdc}, plan) == slot({0x4c, 0x03, 0x0d}));  // ADD RSP, R11
  CHECK(Patched({0x45, 0x39, 0xd0}, plan) == slot({0x44, 0x3b, 0x05}));  // CMP R8D, R10D
  CHECK(Patched({0x45, 0x85, 0xdf}, plan) == slot({0x44, 0x85, 0x3d}));  // TEST R15D, R11D
  CHECK(Patched({0x49, 0x0f, 0xaf, 0xca}, plan) == slot({0x48, 0x0f, 0xaf, 0x0d}));  // IMUL
  CHECK(Patched({0x49, 0x6b, 0xc2, 7}, plan) == slot({0x48, 0x6b, 0x05}, {7}));  // IMUL RAX, R10, 7
  CHECK(Patched({0x48, 0x01, 0xc8}, plan) == Code{0x48, 0x01, 0xc8});            // names neither
  for (const Code& code : {Code{0x49, 0x01, 0xc2},                               // ADD R10, RAX
                           Code{0x4d, 0x01, 0xda},                               // ADD R10, R11
                           Code{0x4d, 0x85, 0xd2},                               // TEST R10, R10
                           Code{0x44, 0x00, 0xd0},                               // ADD AL, R10B
                           Code{0x66, 0x44, 0x01, 0xd0},                         // ADD AX, R10W
                           Code{0x4c, 0x03, 0x50, 0x08},                         // ADD R10, [RAX+8]
                           Code{0x49, 0x03, 0x42, 0x08},                         // ADD RAX, [R10+8]
                           Code{0x4c, 0x01, 0x10},                               // ADD [RAX], R10
                           Code{0x4c, 0x89, 0xd0},                               // MOV RAX, R10
                           Code{0x4c, 0x0f, 0xa3, 0xd0},                         // BT RAX, R10
                           Code{0x49, 0xf7, 0xea}, Code{0x41, 0x52},  // IMUL R10; PUSH R10
                           Code{0x4a, 0x8d, 0x04, 0x10}})             // LEA RAX, [RAX+R10]
    CHECK(Patched(code, plan) == kRefused);
}

TEST_CASE("a segment is left to the caller", "[patcher]") {
  CHECK(Address({0x65, 0x8b, 0x47, 0x08}, RBX) == Code{0x48, 0x8d, 0x5f, 0x08});
}

TEST_CASE("a 32-bit address is cut to 32 bits", "[patcher]") {
  CHECK(Address({0x67, 0x8b, 0x47, 0x08}, RBX) == Code{0x8d, 0x5f, 0x08});
  CHECK(Address({0x67, 0x8b, 0x07}, R9) == Code{0x44, 0x8b, 0xcf});
  CHECK(Address({0x67, 0x8b, 0x04, 0x25, 0xff, 0xff, 0xff, 0xff}, RBX) ==
        Code{0xbb, 0xff, 0xff, 0xff, 0xff});
}

TEST_CASE("an absolute address is a constant, sign-extended from 32 bits or of 64", "[patcher]") {
  CHECK(Address({0x8b, 0x04, 0x25, 4, 3, 2, 1}, RBX) == Code{0xbb, 4, 3, 2, 1});
  CHECK(Address({0x8b, 0x04, 0x25, 0xf0, 0xff, 0xff, 0xff}, R9) ==
        Code{0x49, 0xb9, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
  CHECK(Address({0xa1, 8, 7, 6, 5, 4, 3, 2, 1}, RBX) == Code{0x48, 0xbb, 8, 7, 6, 5, 4, 3, 2, 1});
}

TEST_CASE("an address with an index moved to RSP is refused", "[patcher]") {
  CHECK(Address({0x8b, 0x04, 0xb7}, RBX, Moving({{RSI, RSP}})) == kRefused);
}
