// What hangs on a condition: CMOVcc, SETcc, Jcc. [SDM 1] appendix B
#include "bt/interp/families.h"

namespace bt {
namespace {

// The low four bits of the opcode are the condition, in every encoding of the three.
unsigned ConditionOf(const Insn& insn) {
  return insn.opcode & 15;
}

template <class F>
Handler ByCondition(unsigned condition, F&& choose) {
  switch (condition) {
#define CASE(n) \
  case n:       \
    return choose(std::integral_constant<unsigned, n>{});
    // clang-format off
    CASE(0) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
    CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14) CASE(15)
    // clang-format on
#undef CASE
  }
  return nullptr;
}

// The memory operand is read, and may fault, whatever the condition says.
template <class T, unsigned kCode, bool kMem>
bool Cmov(Cpu& cpu, const Op& op) {
  T value;
  if (!ReadSource<T, kMem ? Source::kMem : Source::kReg>(cpu, op, value)) return false;
  cpu.SetReg<T>(op.dst, Condition<kCode>(cpu.flags_) ? value : cpu.Reg<T>(op.dst));
  return true;
}

template <unsigned kCode>
bool SetccReg(Cpu& cpu, const Op& op) {
  cpu.SetReg<uint8_t>(op.dst, Condition<kCode>(cpu.flags_));
  return true;
}
template <unsigned kCode>
bool SetccMem(Cpu& cpu, const Op& op) {
  return cpu.StoreOperand<uint8_t>(op, Condition<kCode>(cpu.flags_));
}

// kMask: what of RIP the operand size keeps.
template <unsigned kCode, uint64_t kMask>
bool Jcc(Cpu& cpu, const Op& op) {
  if (!Condition<kCode>(cpu.flags_)) return false;
  const uint64_t target = (cpu.r[kRip] + op.imm) & kMask;
  if (kMask != ~0ull && target > cpu.seg_[1].limit) return cpu.Raise(kGP, 0);
  cpu.r[kRip] = target;
  return false;
}

}  // namespace

bool SelectCmov(const Insn& insn, Op& op) {
  const bool mem = IsMem(insn.operand[1]);
  return Use(op, ByCondition(ConditionOf(insn), [&](auto code) -> Handler {
               using Code = decltype(code);
               return BySize(insn.operand[0].bits, [mem](auto z) -> Handler {
                 using T = decltype(z);
                 return mem ? &Cmov<T, Code::value, true> : &Cmov<T, Code::value, false>;
               });
             }));
}

bool SelectSetcc(const Insn& insn, Op& op) {
  const bool mem = IsMem(insn.operand[0]);
  return Use(op, ByCondition(ConditionOf(insn), [mem](auto code) -> Handler {
               using Code = decltype(code);
               return mem ? &SetccMem<Code::value> : &SetccReg<Code::value>;
             }));
}

bool SelectJcc(const Insn& insn, Op& op) {
  return Use(op, ByCondition(ConditionOf(insn), [&](auto code) -> Handler {
               using Code = decltype(code);
               if (insn.code_size == CodeSize::k64) return &Jcc<Code::value, ~0ull>;
               return insn.operand_bits == 16 ? &Jcc<Code::value, 0xffff>
                                              : &Jcc<Code::value, 0xffffffff>;
             }));
}

}  // namespace bt
