// AVX, AVX2, FMA, F16C and the VEX forms of AES, PCLMULQDQ and GFNI. Plain moves are written out;
// all that computes is the host's own instruction on copies of the operands (native_thunk.h). What
// touches memory element by element is in gather.cc. [SDM 1] 14, [SDM 2A] 2.3, 2.7
#include "bt/interp/vex.h"

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "bt/interp/families.h"
#include "bt/interp/fpu.h"
#include "bt/interp/native_thunk.h"

namespace bt {
namespace {

// aux: facts about a form.
constexpr uint8_t kToMemory = 1;     // the destination is memory
constexpr uint8_t kWritesFlags = 2;  // and no register, but for VPCMPxSTRx
constexpr uint8_t kIndexOut = 4;     // VPCMPxSTRI: ECX
constexpr uint8_t kMaskOut = 8;      // VPCMPxSTRM: XMM0

// A register operand and its place in the NativeContext.
struct Slot {
  RegClass reg_class;  // kNone: no such operand
  uint8_t reg;
  bool written;
};

// The rest of a form, found through Op::imm. Made once, kept for ever with the thunk.
struct VexForm {
  NativeThunk thunk;
  uint8_t memory_bytes;  // 0: no memory operand
  Slot reg, rm, vvvv, is4;
};

void ReadVector(FpuState state, uint8_t number, NativeContext::Vector& to) {
  std::memcpy(to.data(), state.xmm(number), 16);
  std::memcpy(to.data() + 16, state.ymm_high(number), 16);
}

void Fill(const Cpu& cpu, FpuState state, const Slot& slot, NativeContext::Vector& vector,
          uint64_t& general) {
  if (slot.reg_class == RegClass::kGpr)
    general = cpu.r[slot.reg];
  else if (slot.reg_class != RegClass::kNone)
    ReadVector(state, slot.reg, vector);
}

// A 128-bit result comes with a cleared upper half, a 32-bit one with cleared bits 63:32: the host
// did both.
void Keep(Cpu& cpu, FpuState state, const Slot& slot, const NativeContext::Vector& vector,
          uint64_t general) {
  if (!slot.written) return;
  if (slot.reg_class == RegClass::kGpr)
    cpu.r[slot.reg] = general;
  else
    WriteVector(state, slot.reg, vector.data());
}

bool RunVex(Cpu& cpu, const Op& op) {
  if (!VexUsable(cpu)) return false;
  const VexForm& form = *reinterpret_cast<const VexForm*>(op.imm);
  FpuState state(cpu.fpu_);
  NativeContext context;
  uint64_t linear = 0;
  const bool store = op.aux & kToMemory, stack = op.mode & Op::kStack;
  if (form.memory_bytes) {
    if (!cpu.Address(op, form.memory_bytes, store ? Access::kWrite : Access::kRead, linear))
      return false;
    std::memset(context.memory.data(), 0, 32);  // nothing of ours for a guest to read
    if (!store &&
        !cpu.LoadSlow(linear, context.memory.data(), form.memory_bytes, stack, cpu.view_)) {
      return false;
    }
  }
  if (op.aux & (kIndexOut | kMaskOut)) {  // VPCMPESTRx
    context.rax = cpu.r[0];
    context.rdx = cpu.r[2];
  }
  uint64_t unused = 0;
  Fill(cpu, state, form.reg, context.reg, context.rax);
  Fill(cpu, state, form.rm, context.rm, context.rcx);
  Fill(cpu, state, form.vvvv, context.vvvv, unused);
  Fill(cpu, state, form.is4, context.is4, unused);
  // With the guest's own masks: an unmasked exception traps, and only so are its flags exact.
  context.mxcsr = state.mxcsr();
  form.thunk(&context);
  if (context.trapped) {
    if (store && !CheckWrite(cpu, linear, form.memory_bytes, stack)) return false;
    // The result of an unmasked exception is dropped. [SDM 1] 11.5.2
    state.Set(FpuState::kMxcsr, context.mxcsr);
    return cpu.Raise(cpu.cr4_ & cr4::OSXMMEXCPT ? kXM : kUD);
  }
  if (store && !cpu.StoreSlow(linear, context.memory.data(), form.memory_bytes, stack, cpu.view_)) {
    return false;
  }
  state.Set(FpuState::kMxcsr, context.mxcsr);
  Keep(cpu, state, form.reg, context.reg, context.rax);
  Keep(cpu, state, form.rm, context.rm, context.rcx);
  Keep(cpu, state, form.vvvv, context.vvvv, unused);
  if (op.aux & kWritesFlags) cpu.flags_ = static_cast<Flags>(context.flags);
  if (op.aux & kIndexOut) cpu.SetReg<uint32_t>(1 * 8, static_cast<uint32_t>(context.rcx));
  if (op.aux & kMaskOut) WriteVector(state, 0, context.xmm0.data());
  return true;
}

// ---- Moves, written out. dst, src: register numbers.

struct Bytes32 {
  Bytes16 low, high;
};

template <class T, bool kAligned>
bool LoadVector(Cpu& cpu, const Op& op) {
  T value;
  uint64_t linear;
  if (!VexUsable(cpu) || !cpu.Address(op, sizeof(T), Access::kRead, linear)) return false;
  if (kAligned && (linear & (sizeof(T) - 1))) return cpu.Raise(kGP, 0);
  if (!cpu.Load(linear, value, op.mode & Op::kStack)) return false;
  uint8_t wide[32] = {};
  std::memcpy(wide, &value, sizeof(T));
  FpuState state(cpu.fpu_);
  WriteVector(state, op.dst, wide);
  return true;
}

template <class T, bool kAligned>
bool StoreVector(Cpu& cpu, const Op& op) {
  uint64_t linear;
  if (!VexUsable(cpu) || !cpu.Address(op, sizeof(T), Access::kWrite, linear)) return false;
  if (kAligned && (linear & (sizeof(T) - 1))) return cpu.Raise(kGP, 0);
  NativeContext::Vector wide;
  ReadVector(FpuState(cpu.fpu_), op.src, wide);
  T value;
  std::memcpy(&value, wide.data(), sizeof(T));
  return cpu.Store(linear, value, op.mode & Op::kStack);
}

template <class T>
bool CopyVector(Cpu& cpu, const Op& op) {
  if (!VexUsable(cpu)) return false;
  FpuState state(cpu.fpu_);
  NativeContext::Vector wide;
  ReadVector(state, op.src, wide);
  if (sizeof(T) == 16) std::memset(wide.data() + 16, 0, 16);
  WriteVector(state, op.dst, wide.data());
  return true;
}

template <class T, bool kAligned>
Handler MoveHandler(const Insn& insn) {
  if (IsMem(insn.operand[0])) return &StoreVector<T, kAligned>;
  return IsMem(insn.operand[1]) ? &LoadVector<T, kAligned> : &CopyVector<T>;
}

template <bool kAligned>
bool UseMove(const Insn& insn, Op& op) {
  op.dst = insn.operand[0].reg;
  op.src = insn.operand[1].reg;
  return Use(op, insn.vex_256 ? MoveHandler<Bytes32, kAligned>(insn)
                              : MoveHandler<Bytes16, kAligned>(insn));
}

// Outside 64-bit mode only registers 0 to 7 exist. [SDM 2C] VZEROALL, VZEROUPPER
template <bool kAll>
bool ZeroVectors(Cpu& cpu, const Op&) {
  if (!VexUsable(cpu)) return false;
  FpuState state(cpu.fpu_);
  const unsigned bytes = cpu.In64() ? 256 : 128;
  if (kAll) std::memset(state.xmm(0), 0, bytes);
  std::memset(state.ymm_high(0), 0, bytes);
  return true;
}

bool Vldmxcsr(Cpu& cpu, const Op& op) {
  uint32_t value;
  if (!VexUsable(cpu) || !cpu.LoadOperand(op, value)) return false;
  if (value & ~TheHostFpu().mxcsr_mask) return cpu.Raise(kGP, 0);
  FpuState(cpu.fpu_).Set(FpuState::kMxcsr, value);
  return true;
}

bool Vstmxcsr(Cpu& cpu, const Op& op) {
  return VexUsable(cpu) && cpu.StoreOperand<uint32_t>(op, FpuState(cpu.fpu_).mxcsr());
}

uint8_t TraitsOf(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::VCOMISS:
    case Mnemonic::VCOMISD:
    case Mnemonic::VUCOMISS:
    case Mnemonic::VUCOMISD:
    case Mnemonic::VPTEST:
    case Mnemonic::VTESTPS:
    case Mnemonic::VTESTPD:
      return kWritesFlags;
    case Mnemonic::VPCMPESTRI:
    case Mnemonic::VPCMPISTRI:
      return kWritesFlags | kIndexOut;
    case Mnemonic::VPCMPESTRM:
    case Mnemonic::VPCMPISTRM:
      return kWritesFlags | kMaskOut;
    default:
      return IsMem(insn.operand[0]) && insn.operand[0].written ? kToMemory : 0;
  }
}

// Forms are few: one for each combination of thunk and registers that the guests run.
const VexForm* KeepForm(const VexForm& form) {
  static std::mutex& mutex = *new std::mutex;
  static auto& forms = *new std::unordered_map<std::string, std::unique_ptr<const VexForm>>;
  const std::string key(reinterpret_cast<const char*>(&form), sizeof(form));
  std::lock_guard lock(mutex);
  auto [at, added] = forms.try_emplace(key);
  if (added) at->second = std::make_unique<const VexForm>(form);
  return at->second.get();
}

bool UseNative(const Insn& insn, Op& op) {
  op.aux = TraitsOf(insn);
  VexForm form;
  std::memset(&form, 0, sizeof(form));  // padding too: its bytes are the key
  form.thunk = GetNativeThunk(insn, ThunkKind::kVex);
  if (!form.thunk) return false;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.operand[i];
    if (IsMem(operand)) form.memory_bytes = static_cast<uint8_t>(operand.bits / 8);
    if (!IsReg(operand)) continue;
    const Slot slot{operand.reg_class, operand.reg, operand.written};
    if (operand.field == Field::kModrmReg) form.reg = slot;
    if (operand.field == Field::kModrmRm) form.rm = slot;
    if (operand.field == Field::kVexVvvv) form.vvvv = slot;
    if (operand.field == Field::kVexIs4) form.is4 = slot;
  }
  op.imm = reinterpret_cast<uint64_t>(KeepForm(form));
  return Use(op, &RunVex);
}

}  // namespace

bool SelectVex(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::VMOVAPS:
    case Mnemonic::VMOVAPD:
    case Mnemonic::VMOVDQA:
    case Mnemonic::VMOVNTPS:
    case Mnemonic::VMOVNTPD:
    case Mnemonic::VMOVNTDQ:
    case Mnemonic::VMOVNTDQA:
      return UseMove<true>(insn, op);
    case Mnemonic::VMOVUPS:
    case Mnemonic::VMOVUPD:
    case Mnemonic::VMOVDQU:
    case Mnemonic::VLDDQU:
      return UseMove<false>(insn, op);
    case Mnemonic::VZEROUPPER:
      return Use(op, &ZeroVectors<false>);
    case Mnemonic::VZEROALL:
      return Use(op, &ZeroVectors<true>);
    case Mnemonic::VLDMXCSR:
      return Use(op, &Vldmxcsr);
    case Mnemonic::VSTMXCSR:
      return Use(op, &Vstmxcsr);
    case Mnemonic::VMASKMOVDQU:
      return SelectMaskedMove(insn, op);
    case Mnemonic::VMASKMOVPS:
    case Mnemonic::VPMASKMOVD:
      return SelectElementMove(insn, op, 4);
    case Mnemonic::VMASKMOVPD:
    case Mnemonic::VPMASKMOVQ:
      return SelectElementMove(insn, op, 8);
    default:
      return insn.mem.vector_index ? SelectGather(insn, op) : UseNative(insn, op);
  }
}

}  // namespace bt
