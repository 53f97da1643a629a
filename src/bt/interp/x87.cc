// The x87, by the host's own: the FXSAVE image is loaded, the instruction run on a copy of its
// memory operand, the image stored. What the host would leave of its own addresses is put right.
#include "bt/interp/families.h"
#include "bt/interp/fpu.h"
#include "bt/interp/native_thunk.h"
#include "bt/interp/page_entry.h"

namespace bt {

bool CheckWrite(Cpu& cpu, uint64_t linear, unsigned size, bool stack) {
  const uint64_t last = linear + size - 1;
  if (cpu.In64() && (!Canonical(linear) || !Canonical(last)))
    return cpu.Raise(stack ? kSS : kGP, 0);
  uint64_t phys;
  if (!cpu.Translate(linear, Access::kWrite, cpu.view_, &phys, nullptr)) return false;
  const uint64_t last_page = last & ~(vmm::kPageSize - 1);
  return linear >= last_page || cpu.Translate(last_page, Access::kWrite, cpu.view_, &phys, nullptr);
}

bool X87Usable(Cpu& cpu, bool waiting) {
  if (cpu.cr0_ & (cr0::EM | cr0::TS)) return cpu.Raise(kNM);
  // FSW.ES; with CR0.NE clear the exception goes out as FERR# on IRQ 13, which boards of our age
  // turn into #MF.
  if (waiting && FpuState(cpu.fpu_).ExceptionPending()) return cpu.Raise(kMF);
  return true;
}

namespace {

// aux: what kind of instruction it is.
constexpr uint8_t kStores = 1;          // writes its memory operand
constexpr uint8_t kNoWait = 2;          // does not look for pending exceptions
constexpr uint8_t kControl = 4;         // leaves FIP, FDP and FOP alone
constexpr uint8_t kEnvironment = 8;     // stores FIP and FDP in memory
constexpr uint8_t kLoadsPointers = 16;  // from where kEnvironment stores them
constexpr uint8_t kClearsPointers = 32;

// FNSTENV and FNSAVE put the pointers at these offsets of the 32- and the 16-bit format. [SDM
// 1] 8.1.10
void FixEnvironment(const FpuState& state, std::span<uint8_t> memory, bool wide) {
  const auto fip = state.Get<uint64_t>(FpuState::kFip), fdp = state.Get<uint64_t>(FpuState::kFdp);
  const auto put = [&memory](unsigned offset, uint64_t value, unsigned size) {
    std::memcpy(memory.data() + offset, &value, size);
  };
  if (wide) {
    put(12, fip, 4);
    put(16, static_cast<uint64_t>(state.Get<uint16_t>(FpuState::kFop) & 0x7ff) << 16, 4);
    put(20, fdp, 4);
    put(24, 0, 2);
  } else {
    put(6, fip, 2);
    put(8, 0, 2);
    put(10, fdp, 2);
    put(12, 0, 2);
  }
}

void LoadPointers(FpuState& state, std::span<const uint8_t> memory, bool wide) {
  const auto get = [&memory](unsigned offset, unsigned size) {
    uint32_t value = 0;
    std::memcpy(&value, memory.data() + offset, size);
    return value;
  };
  state.Set<uint64_t>(FpuState::kFip, wide ? get(12, 4) : get(6, 2));
  state.Set<uint64_t>(FpuState::kFdp, wide ? get(20, 4) : get(10, 2));
  state.Set<uint16_t>(FpuState::kFop, wide ? get(18, 2) & 0x7ff : 0);
}

// An unmasked exception other than precision leaves the destination as it was. [SDM 1] 8.6
bool Withheld(const FpuState& before, const NativeContext& context) {
  uint16_t fcw, fsw;
  std::memcpy(&fcw, context.fx.data() + FpuState::kFcw, 2);
  std::memcpy(&fsw, context.fx.data() + FpuState::kFsw, 2);
  return !before.ExceptionPending() && (fsw & ~fcw & 0x1f);
}

// src2: bytes of the memory operand, 0 = none. imm: the thunk.
bool RunX87(Cpu& cpu, const Op& op) {
  if (!X87Usable(cpu, !(op.aux & kNoWait))) return false;
  NativeContext context;
  context.memory = {};
  FpuState state(cpu.fpu_);
  std::memcpy(context.fx.data(), state.data(), 512);
  std::memset(context.fx.data() + 464, 0, 48);
  const uint32_t safe_mxcsr = 0x1f80;  // the thunk's XMM state is nobody's
  std::memcpy(context.fx.data() + FpuState::kMxcsr, &safe_mxcsr, 4);
  uint64_t linear = 0;
  const unsigned size = op.src2;
  if (size) {
    const Access access = op.aux & kStores ? Access::kWrite : Access::kRead;
    if (!cpu.Address(op, size, access, linear)) return false;
    if (!(op.aux & kStores) &&
        !cpu.LoadSlow(linear, context.memory.data(), size, op.mode & Op::kStack, cpu.view_)) {
      return false;
    }
  }
  context.flags = cpu.flags_;  // FCMOVcc looks at them, FCOMI sets them
  reinterpret_cast<NativeThunk>(op.imm)(&context);
  cpu.flags_ = static_cast<Flags>(context.flags);
  if (op.aux & kEnvironment) FixEnvironment(state, context.memory, op.dst == 32);
  if (op.aux & kStores) {
    const bool stack = op.mode & Op::kStack;
    const bool done = Withheld(state, context)
                          ? CheckWrite(cpu, linear, size, stack)
                          : cpu.StoreSlow(linear, context.memory.data(), size, stack, cpu.view_);
    if (!done) return false;
  }
  // Registers, control words and the opcode of an exception come back; pointers are the guest's,
  // MXCSR and XMM were not ours.
  std::memcpy(state.data(), context.fx.data(), 6);
  std::memcpy(state.data() + FpuState::kSt0, context.fx.data() + FpuState::kSt0, 128);
  if (!(op.aux & kControl)) {
    state.Set<uint64_t>(FpuState::kFip, cpu.r[kRip] - op.length);
    if (size) state.Set<uint64_t>(FpuState::kFdp, cpu.Effective(op));
    if (state.ExceptionPending())
      std::memcpy(state.data() + FpuState::kFop, context.fx.data() + FpuState::kFop, 2);
  }
  if (op.aux & kLoadsPointers) LoadPointers(state, context.memory, op.dst == 32);
  if (op.aux & kClearsPointers)
    std::memset(state.data() + FpuState::kFop, 0, kX87HeaderSize - FpuState::kFop);
  return true;
}

bool Wait(Cpu& cpu, const Op&) {
  if ((cpu.cr0_ & (cr0::MP | cr0::TS)) == (cr0::MP | cr0::TS)) return cpu.Raise(kNM);
  if (FpuState(cpu.fpu_).ExceptionPending()) return cpu.Raise(kMF);
  return true;
}

bool StoreStatusAx(Cpu& cpu, const Op&) {
  if (!X87Usable(cpu, false)) return false;
  cpu.SetReg<uint16_t>(0, FpuState(cpu.fpu_).fsw());
  return true;
}

uint8_t Traits(Mnemonic mnemonic) {
  switch (mnemonic) {
    case Mnemonic::FST:
    case Mnemonic::FSTP:
    case Mnemonic::FIST:
    case Mnemonic::FISTP:
    case Mnemonic::FISTTP:
    case Mnemonic::FBSTP:
      return kStores;
    case Mnemonic::FNSTCW:
    case Mnemonic::FNSTSW:
      return kStores | kNoWait | kControl;
    case Mnemonic::FNSTENV:
      return kStores | kNoWait | kControl | kEnvironment;
    case Mnemonic::FNSAVE:
      return kStores | kNoWait | kControl | kEnvironment | kClearsPointers;
    case Mnemonic::FNINIT:
      return kNoWait | kControl | kClearsPointers;
    case Mnemonic::FNCLEX:
    case Mnemonic::FDISI8087_NOP:
    case Mnemonic::FENI8087_NOP:
    case Mnemonic::FSETPM287_NOP:
      return kNoWait | kControl;
    case Mnemonic::FLDCW:
      return kControl;
    case Mnemonic::FLDENV:
    case Mnemonic::FRSTOR:
      return kControl | kLoadsPointers;
    default:
      return 0;
  }
}

}  // namespace

bool SelectX87(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::FWAIT:
      return Use(op, &Wait);
    case Mnemonic::FNSTSW:
      if (IsReg(insn.operand[0])) return Use(op, &StoreStatusAx);
      break;
    default:
      break;
  }
  op.aux = Traits(insn.mnemonic);
  op.dst = insn.operand_bits == 16 ? 16 : 32;
  op.src2 = 0;
  bool memory = false;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    if (!IsMem(insn.operand[i])) continue;
    op.src2 = static_cast<uint8_t>(insn.operand[i].bits / 8);
    memory = true;
  }
  if (!memory) op.aux &= static_cast<uint8_t>(~kStores);
  op.imm = reinterpret_cast<uint64_t>(GetNativeThunk(insn, ThunkKind::kX87));
  return op.imm != 0 && Use(op, &RunX87);
}

}  // namespace bt
