// MMX, SSE to SSE4.2, AES, PCLMULQDQ, SHA and GFNI. What moves data is written out, since it is
// frequent; all that computes is the host's own instruction on copies of the operands
// (native_thunk.h). [SDM 2A-2B], [SDM 1] 10-12
#include <mutex>
#include <string>
#include <unordered_map>

#include "bt/interp/families.h"
#include "bt/interp/fpu.h"
#include "bt/interp/interpreter.h"
#include "bt/interp/native_thunk.h"

namespace bt {
namespace {

// Facts about an instruction form that its Op carries in `aux`.
constexpr uint8_t kMmx = 1;       // uses MM registers: x87 state, no CR4.OSFXSR
constexpr uint8_t kToMemory = 2;  // the destination is memory
constexpr uint8_t kWritesFlags = 4;
constexpr uint8_t kArithmetic = 8;  // raises SIMD floating-point exceptions
constexpr uint8_t kAligned = 16;    // 16-byte memory operand that must be aligned
constexpr uint8_t kImplicit = 32;   // XMM0, RAX, RDX in, XMM0 and RCX out (PCMPxSTRx, BLENDV)

// The rest of it, found through Op::imm. Made once with the Op, kept for ever with the thunk.
struct Form {
  NativeThunk thunk;
  Mnemonic mnemonic;
  uint8_t memory_bytes;          // 0: no memory operand
  uint8_t store_bits;            // width of a general destination
  RegClass reg_class, rm_class;  // of the operands that ModRM names; kNone when absent
  uint8_t reg, rm;
  bool writes_reg, writes_rm;
};

uint8_t* VectorRegister(FpuState& state, RegClass reg_class, uint8_t number) {
  return reg_class == RegClass::kMmx ? state.mm(number) : state.xmm(number);
}
unsigned VectorSize(RegClass reg_class) {
  return reg_class == RegClass::kMmx ? 8 : 16;
}

// A write to an MM register: TOP becomes 0, all tags valid, bits 79:64 all ones. [SDM 1] 9.5.1
void EnterMmx(FpuState& state) {
  if (const unsigned top =
          state.top()) {  // ST(i) moves to where physical register i is with TOP = 0
    uint8_t rotated[128];
    for (unsigned physical = 0; physical < 8; ++physical) {
      std::memcpy(rotated + 16 * physical,
                  state.data() + FpuState::kSt0 + 16 * ((physical - top) & 7), 16);
    }
    std::memcpy(state.data() + FpuState::kSt0, rotated, sizeof(rotated));
    state.Set<uint16_t>(FpuState::kFsw, state.fsw() & ~0x3800);
  }
  state.Set<uint8_t>(FpuState::kFtw, 0xff);
}

bool Usable(Cpu& cpu, const Op& op) {
  if (!(op.aux & kMmx)) return SseUsable(cpu);
  if (cpu.cr0_ & cr0::EM) return cpu.Raise(kUD);
  if (cpu.cr0_ & cr0::TS) return cpu.Raise(kNM);
  if (FpuState(cpu.fpu_).fsw() & 0x80) return cpu.Raise(kMF);
  return true;
}

bool RunNative(Cpu& cpu, const Op& op) {
  if (!Usable(cpu, op)) return false;
  const Form& form = *reinterpret_cast<const Form*>(op.imm);
  FpuState state(cpu.fpu_);
  NativeContext context;
  uint64_t linear = 0;
  if (form.memory_bytes) {
    const bool store = op.aux & kToMemory;
    if (!cpu.Address(op, form.memory_bytes, store ? Access::kWrite : Access::kRead, linear))
      return false;
    if ((op.aux & kAligned) && (linear & 15)) {
      // With AMD's MM only alignment checking looks. [APM 1] 4.2.2
      if (!(state.mxcsr() & kMxcsrMm)) return cpu.Raise(kGP, 0);
      if (cpu.view_ == View::kUserAligned) return cpu.Raise(kAC, 0);
    }
    if (!store && !cpu.LoadSlow(linear, context.memory.data(), form.memory_bytes,
                                op.mode & Op::kStack, cpu.view_)) {
      return false;
    }
  }
  const auto fill = [&](RegClass reg_class, uint8_t number, NativeContext::Vector& vector,
                        uint64_t& general) {
    if (reg_class == RegClass::kGpr)
      general = cpu.r[number];
    else if (reg_class != RegClass::kNone)
      std::memcpy(vector.data(), VectorRegister(state, reg_class, number), VectorSize(reg_class));
  };
  if (op.aux & kImplicit) {
    context.rax = cpu.r[0];
    context.rdx = cpu.r[2];
    std::memcpy(context.xmm0.data(), state.xmm(0), 16);
  }
  fill(form.reg_class, form.reg, context.reg, context.rax);
  fill(form.rm_class, form.rm, context.rm, context.rcx);
  // With the guest's own masks: an unmasked exception traps, and only so are its flags exact.
  context.mxcsr = state.mxcsr();
  form.thunk(&context);
  if ((op.aux & kMmx) && !(op.aux & kToMemory)) EnterMmx(state);  // also when #XM follows
  if (op.aux & kArithmetic) {
    state.Set(FpuState::kMxcsr, context.mxcsr);
    // The result of an unmasked exception is dropped. [SDM 1] 11.5.2
    if (context.trapped) return cpu.Raise(cpu.cr4_ & cr4::OSXMMEXCPT ? kXM : kUD);
  }
  if ((op.aux & kToMemory) && !cpu.StoreSlow(linear, context.memory.data(), form.memory_bytes,
                                             op.mode & Op::kStack, cpu.view_)) {
    return false;
  }
  if ((op.aux & kMmx) && (op.aux & kToMemory)) EnterMmx(state);
  const auto keep = [&](RegClass reg_class, uint8_t number, const NativeContext::Vector& vector,
                        uint64_t general) {
    if (reg_class == RegClass::kGpr) {
      const auto offset = static_cast<uint8_t>(number * 8);
      if (form.store_bits == 64)
        cpu.SetReg<uint64_t>(offset, general);
      else
        cpu.SetReg<uint32_t>(offset, static_cast<uint32_t>(general));
    } else if (reg_class != RegClass::kNone) {
      uint8_t* to = VectorRegister(state, reg_class, number);
      std::memcpy(to, vector.data(), VectorSize(reg_class));
      if (reg_class == RegClass::kMmx) to[8] = to[9] = 0xff;
    }
  };
  if (form.writes_reg) keep(form.reg_class, form.reg, context.reg, context.rax);
  if (form.writes_rm) keep(form.rm_class, form.rm, context.rm, context.rcx);
  if (op.aux & kWritesFlags) cpu.flags_ = static_cast<Flags>(context.flags);
  switch (form.mnemonic) {
    case Mnemonic::PCMPESTRI:
    case Mnemonic::PCMPISTRI:
      cpu.SetReg<uint32_t>(1 * 8, static_cast<uint32_t>(context.rcx));
      break;
    case Mnemonic::PCMPESTRM:
    case Mnemonic::PCMPISTRM:
      std::memcpy(state.xmm(0), context.xmm0.data(), 16);
      break;
    default:
      break;
  }
  return true;
}

// ---- Moves, written out. imm: not used; dst, src: XMM numbers.

template <bool kAlignedForm>
bool LoadVector(Cpu& cpu, const Op& op) {
  Bytes16 value;
  uint64_t linear;
  if (!SseUsable(cpu) || !cpu.Address(op, 16, Access::kRead, linear)) return false;
  if (kAlignedForm && (linear & 15)) return cpu.Raise(kGP, 0);
  if (!cpu.Load(linear, value, op.mode & Op::kStack)) return false;
  std::memcpy(FpuState(cpu.fpu_).xmm(op.dst), &value, 16);
  return true;
}

template <bool kAlignedForm>
bool StoreVector(Cpu& cpu, const Op& op) {
  Bytes16 value;
  uint64_t linear;
  if (!SseUsable(cpu) || !cpu.Address(op, 16, Access::kWrite, linear)) return false;
  if (kAlignedForm && (linear & 15)) return cpu.Raise(kGP, 0);
  std::memcpy(&value, FpuState(cpu.fpu_).xmm(op.src), 16);
  return cpu.Store(linear, value, op.mode & Op::kStack);
}

bool CopyVector(Cpu& cpu, const Op& op) {
  if (!SseUsable(cpu)) return false;
  FpuState state(cpu.fpu_);
  std::memcpy(state.xmm(op.dst), state.xmm(op.src), 16);
  return true;
}

template <bool kAlignedForm>
Handler ChooseMove(const Insn& insn, Op& op) {
  if (IsMem(insn.operand[0])) {
    op.src = insn.operand[1].reg;
    return &StoreVector<kAlignedForm>;
  }
  op.dst = insn.operand[0].reg;
  if (IsMem(insn.operand[1])) return &LoadVector<kAlignedForm>;
  op.src = insn.operand[1].reg;
  return &CopyVector;
}

// MASKMOVDQU, MASKMOVQ, VMASKMOVDQU (src2 = 1): bytes under a mask to DS:rDI.
bool MaskedMove(Cpu& cpu, const Op& op) {
  if (op.src2 ? !VexUsable(cpu) : !Usable(cpu, op)) return false;
  FpuState state(cpu.fpu_);
  const RegClass reg_class = op.aux & kMmx ? RegClass::kMmx : RegClass::kXmm;
  const unsigned size = VectorSize(reg_class);
  uint8_t data[16], mask[16];
  std::memcpy(data, VectorRegister(state, reg_class, op.dst), size);
  std::memcpy(mask, VectorRegister(state, reg_class, op.src), size);
  uint64_t linear;
  if (!cpu.AddressAt(op, cpu.Effective(op), size, Access::kWrite, linear)) {
    // AMD's processors look at the segment when they have entered MMX state: seen on family 19h
    // with CS, which cannot be written. Other faults come before.
    if ((op.aux & kMmx) && !cpu.In64() && !cpu.vm_.parts().cpuid.intel_style()) EnterMmx(state);
    return false;
  }
  for (unsigned i = 0; i < size; ++i) {
    if ((mask[i] & 0x80) && !cpu.Store<uint8_t>(linear + i, data[i])) return false;
  }
  if (op.aux & kMmx) EnterMmx(state);
  return true;
}

bool Emms(Cpu& cpu, const Op& op) {
  if (!Usable(cpu, op)) return false;
  FpuState state(cpu.fpu_);
  EnterMmx(state);
  state.Set<uint8_t>(FpuState::kFtw, 0);
  return true;
}

// ---- What is known of a form

bool IsCompareString(Mnemonic m) {
  return m == Mnemonic::PCMPESTRI || m == Mnemonic::PCMPESTRM || m == Mnemonic::PCMPISTRI ||
         m == Mnemonic::PCMPISTRM;
}
bool ReadsXmm0(Mnemonic m) {
  return m == Mnemonic::BLENDVPS || m == Mnemonic::BLENDVPD || m == Mnemonic::PBLENDVB ||
         m == Mnemonic::SHA256RNDS2;
}
bool IsScalarCompare(Mnemonic m) {
  return m == Mnemonic::COMISS || m == Mnemonic::COMISD || m == Mnemonic::UCOMISS ||
         m == Mnemonic::UCOMISD;
}
bool Unaligned(Mnemonic m) {
  switch (m) {
    case Mnemonic::MOVUPS:
    case Mnemonic::MOVUPD:
    case Mnemonic::MOVDQU:
    case Mnemonic::LDDQU:
      return true;
    default:
      return IsCompareString(m);
  }
}

// Integer, logic and move instructions raise no SIMD exception; by opcode, map 0F. [SDM 2D]
// appendix C
bool RaisesExceptions(const Insn& insn) {
  const uint8_t op = insn.opcode;
  switch (insn.opcode_map) {
    case 1:
      return op == 0x2a || (op >= 0x2c && op <= 0x2f) || op == 0x51 || (op >= 0x58 && op <= 0x5f) ||
             op == 0x7c || op == 0x7d || op == 0xc2 || op == 0xd0 || op == 0xe6;
    case 3:
      return (op >= 0x08 && op <= 0x0b) || op == 0x40 || op == 0x41;
    default:
      return false;
  }
}

uint8_t TraitsOf(const Insn& insn) {
  uint8_t aux = 0;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.operand[i];
    if (operand.reg_class == RegClass::kMmx) aux |= kMmx;
    if (IsMem(operand) && operand.bits == 128 && !Unaligned(insn.mnemonic)) aux |= kAligned;
  }
  if (insn.operand_count > 0 && IsMem(insn.operand[0]) && !IsScalarCompare(insn.mnemonic))
    aux |= kToMemory;
  if (RaisesExceptions(insn)) aux |= kArithmetic;
  if (IsScalarCompare(insn.mnemonic) || insn.mnemonic == Mnemonic::PTEST ||
      IsCompareString(insn.mnemonic)) {
    aux |= kWritesFlags;
  }
  if (IsCompareString(insn.mnemonic) || ReadsXmm0(insn.mnemonic)) aux |= kImplicit;
  return aux;
}

// Forms are few: one for each combination of thunk and registers that the guests run.
const Form* KeepForm(const Form& form) {
  static std::mutex& mutex = *new std::mutex;
  static auto& forms = *new std::unordered_map<std::string, std::unique_ptr<const Form>>;
  const std::string key(reinterpret_cast<const char*>(&form), sizeof(form));
  std::lock_guard lock(mutex);
  auto [at, added] = forms.try_emplace(key);
  if (added) at->second = std::make_unique<const Form>(form);
  return at->second.get();
}

bool UseNative(const Insn& insn, Op& op) {
  const ThunkKind kind = op.aux & kMmx          ? ThunkKind::kMmx
                         : op.aux & kArithmetic ? ThunkKind::kSseArithmetic
                                                : ThunkKind::kSse;
  Form form;
  std::memset(&form, 0, sizeof(form));  // padding too: its bytes are the key
  form.thunk = GetNativeThunk(insn, kind);
  if (!form.thunk) return false;
  form.mnemonic = insn.mnemonic;
  const bool writes = !(op.aux & kWritesFlags);
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.operand[i];
    if (IsMem(operand)) form.memory_bytes = static_cast<uint8_t>(operand.bits / 8);
    if (!IsReg(operand)) continue;
    if (operand.field == Field::kModrmReg) {
      form.reg_class = operand.reg_class;
      form.reg = operand.reg;
      form.writes_reg = writes && i == 0;
    } else if (operand.field == Field::kModrmRm) {
      form.rm_class = operand.reg_class;
      form.rm = operand.reg;
      form.writes_rm = writes && i == 0;
    }
    if (i == 0) form.store_bits = insn.rex_w ? 64 : 32;
  }
  op.imm = reinterpret_cast<uint64_t>(KeepForm(form));
  return Use(op, &RunNative);
}

}  // namespace

// The address is DS:rDI, or with another segment by prefix; ModRM names two registers.
bool SelectMaskedMove(const Insn& insn, Op& op) {
  op.aux = insn.mnemonic == Mnemonic::MASKMOVQ ? kMmx : 0;
  op.dst = insn.operand[0].reg;
  op.src = insn.operand[1].reg;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    if (!IsReg(insn.operand[i])) continue;
    if (insn.operand[i].field == Field::kModrmReg) op.dst = insn.operand[i].reg;
    if (insn.operand[i].field == Field::kModrmRm) op.src = insn.operand[i].reg;
  }
  FillImplicitAddress(insn, 7, op);
  op.src2 = insn.has_vex;
  return Use(op, &MaskedMove);
}

bool SelectSse(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::MOVAPS:
    case Mnemonic::MOVAPD:
    case Mnemonic::MOVDQA:
    case Mnemonic::MOVNTPS:
    case Mnemonic::MOVNTPD:
    case Mnemonic::MOVNTDQ:
    case Mnemonic::MOVNTDQA:
      return Use(op, ChooseMove<true>(insn, op));
    case Mnemonic::MOVUPS:
    case Mnemonic::MOVUPD:
    case Mnemonic::MOVDQU:
    case Mnemonic::LDDQU:
      return Use(op, ChooseMove<false>(insn, op));
    case Mnemonic::MASKMOVDQU:
    case Mnemonic::MASKMOVQ:
      return SelectMaskedMove(insn, op);
    case Mnemonic::EMMS:
      op.aux = kMmx;
      return Use(op, &Emms);
    default:
      break;
  }
  op.aux = TraitsOf(insn);
  return UseNative(insn, op);
}

}  // namespace bt
