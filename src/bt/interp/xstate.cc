// FXSAVE FXRSTOR, XSAVE XSAVEOPT XSAVEC XSAVES XRSTOR XRSTORS, LDMXCSR STMXCSR. [SDM 1] 10.5, 13
#include <algorithm>
#include <utility>

#include "bt/interp/families.h"
#include "bt/interp/fpu.h"
#include "bt/interp/interpreter.h"

namespace bt {
namespace {

constexpr uint64_t kX87 = 1, kSse = 2, kAvx = 4;
constexpr unsigned kAreaSize = FpuState::kYmmHigh0 + 256;  // up to and with component 2
constexpr uint64_t kCompacted = uint64_t{1} << 63;         // in XCOMP_BV

bool Usable(Cpu& cpu) {
  if (cpu.cr0_ & cr0::EM) return cpu.Raise(kNM);
  if (cpu.cr0_ & cr0::TS) return cpu.Raise(kNM);
  return true;
}

// Bytes of the XMM registers, or of the upper halves of the YMM registers: XMM8 to XMM15 are there
// in 64-bit mode only.
unsigned VectorBytes(const Cpu& cpu) {
  return cpu.In64() ? 256 : 128;
}
unsigned LegacySize(const Cpu& cpu) {
  return FpuState::kXmm0 + VectorBytes(cpu);
}

bool StoreBlock(Cpu& cpu, uint64_t linear, const uint8_t* data, unsigned size, bool stack) {
  if (void* host = cpu.WritePointer(linear, size)) {
    std::memcpy(host, data, size);
    return true;
  }
  return cpu.StoreSlow(linear, data, size, stack, cpu.view_);
}
bool LoadBlock(Cpu& cpu, uint64_t linear, uint8_t* data, unsigned size, bool stack) {
  const TlbEntry& entry = cpu.tlb_->read.At(linear);
  if ((linear ^ entry.tag) <= vmm::kPageSize - size) {
    std::memcpy(data, reinterpret_cast<const void*>(entry.page + (linear ^ entry.tag)), size);
    return true;
  }
  return cpu.LoadSlow(linear, data, size, stack, cpu.view_);
}

bool StoreHeader(Cpu& cpu, uint64_t linear, bool wide, bool stack) {
  uint8_t header[kX87HeaderSize];
  std::memcpy(header, cpu.fpu_.bytes.data(), sizeof(header));
  const unsigned size = StoredHeader(TheHostFpu().idle_pointers, wide, header);
  return StoreBlock(cpu, linear, header, size, stack);
}

template <bool kWide>
bool Fxsave(Cpu& cpu, const Op& op) {
  uint64_t linear;
  if (!Usable(cpu) || !cpu.Address(op, 512, Access::kWrite, linear)) return false;
  if (linear & 15) return cpu.Raise(kGP, 0);
  uint8_t image[416];
  std::memcpy(image, cpu.fpu_.bytes.data(), sizeof(image));
  std::memcpy(image + 28, &TheHostFpu().mxcsr_mask, 4);
  const unsigned size = cpu.cr4_ & cr4::OSFXSR ? LegacySize(cpu) : 160;
  const bool stack = op.mode & Op::kStack;
  return CheckWrite(cpu, linear, 512, stack) && StoreHeader(cpu, linear, kWide, stack) &&
         StoreBlock(cpu, linear + kX87HeaderSize, image + kX87HeaderSize, size - kX87HeaderSize,
                    stack);
}

// FCW, FSW and pointers as a load leaves them: reserved bits at their fixed values, ES and B as the
// pending exceptions and their masks say. [SDM 1] 8.1.3, 8.1.5
void SettleX87(const Cpu& cpu, uint8_t* image, bool wide) {
  uint16_t fcw, fsw;
  std::memcpy(&fcw, image + FpuState::kFcw, 2);
  std::memcpy(&fsw, image + FpuState::kFsw, 2);
  fcw = static_cast<uint16_t>((fcw & 0x1f3f) | 0x40);
  fsw = static_cast<uint16_t>((fsw & 0x7f7f) | ((fsw & ~fcw & 0x3f) ? 0x8080 : 0));
  std::memcpy(image + FpuState::kFcw, &fcw, 2);
  std::memcpy(image + FpuState::kFsw, &fsw, 2);
  LoadedHeader(TheHostFpu().idle_pointers, wide, cpu.fpu_.bytes, X87Header(image, kX87HeaderSize));
}

template <bool kWide>
bool Fxrstor(Cpu& cpu, const Op& op) {
  uint64_t linear;
  if (!Usable(cpu) || !cpu.Address(op, 512, Access::kRead, linear)) return false;
  if (linear & 15) return cpu.Raise(kGP, 0);
  uint8_t image[416], area[512];
  const unsigned size = cpu.cr4_ & cr4::OSFXSR ? LegacySize(cpu) : 160;
  if (!LoadBlock(cpu, linear, area, sizeof(area), op.mode & Op::kStack)) return false;
  std::memcpy(image, area, size);
  std::memcpy(image + size, cpu.fpu_.bytes.data() + size, sizeof(image) - size);
  uint32_t mxcsr;
  std::memcpy(&mxcsr, image + FpuState::kMxcsr, 4);
  if (size > 160 && (mxcsr & ~TheHostFpu().mxcsr_mask)) return cpu.Raise(kGP, 0);
  if (size == 160)
    std::memcpy(image + FpuState::kMxcsr, cpu.fpu_.bytes.data() + FpuState::kMxcsr, 8);
  SettleX87(cpu, image, kWide);
  std::memcpy(cpu.fpu_.bytes.data(), image, sizeof(image));
  return true;
}

// ---- The XSAVE family. With nothing above AVX, component 2 is at the same place in the standard
// and the compacted form.

enum class Form : uint8_t {
  kXsave,
  kXsaveOpt,  // leaves out what is in its initial configuration
  kXsaveC,    // compacted form
  kXsaveS,    // the same for the supervisor
};

// LDMXCSR's order: what the control registers forbid comes before what the address is.
bool XsaveUsable(Cpu& cpu, const Op& op, Access access, uint64_t& linear) {
  if (!(cpu.cr4_ & cr4::OSXSAVE)) return cpu.Raise(kUD);
  if (cpu.cr0_ & cr0::TS) return cpu.Raise(kNM);
  if (!cpu.Address(op, 576, access, linear)) return false;
  return (linear & 63) == 0 || cpu.Raise(kGP, 0);
}

// IA32_XSS is always 0: no supervisor component is offered.
uint64_t RequestedComponents(const Cpu& cpu) {
  return (static_cast<uint64_t>(cpu.Reg<uint32_t>(2 * 8)) << 32 | cpu.Reg<uint32_t>(0)) & cpu.xcr0_;
}

bool AllZero(const uint8_t* bytes, unsigned size) {
  return bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

// Component 0 is bytes 0-23 and 32-159, component 1 the XMM registers, component 2 the upper halves
// of the YMM registers. MXCSR belongs to 1 and 2 in the standard form, to 1 in the compacted one.
bool StoreComponents(Cpu& cpu, uint64_t linear, uint64_t components, bool wide, bool stack) {
  const uint8_t* state = cpu.fpu_.bytes.data();
  if (components & kX87) {
    if (!StoreHeader(cpu, linear, wide, stack) ||
        !StoreBlock(cpu, linear + 32, state + 32, 128, stack)) {
      return false;
    }
  }
  if ((components & kSse) && !StoreBlock(cpu, linear + FpuState::kXmm0, state + FpuState::kXmm0,
                                         VectorBytes(cpu), stack)) {
    return false;
  }
  return !(components & kAvx) || StoreBlock(cpu, linear + FpuState::kYmmHigh0,
                                            state + FpuState::kYmmHigh0, VectorBytes(cpu), stack);
}

bool StoreMxcsr(Cpu& cpu, uint64_t linear, bool stack) {
  return cpu.Store<uint32_t>(linear + FpuState::kMxcsr, FpuState(cpu.fpu_).mxcsr(), stack) &&
         cpu.Store<uint32_t>(linear + 28, TheHostFpu().mxcsr_mask, stack);
}

template <Form kForm, bool kWide>
bool Xsave(Cpu& cpu, const Op& op) {
  uint64_t linear;
  if (kForm == Form::kXsaveS && (cpu.cr4_ & cr4::OSXSAVE) && cpu.cpl_ != 0)
    return cpu.Raise(kGP, 0);
  if (!XsaveUsable(cpu, op, Access::kWrite, linear)) return false;
  const bool stack = op.mode & Op::kStack;
  const uint64_t wanted = RequestedComponents(cpu);
  const uint64_t in_use = ComponentsInUse(cpu) & wanted;
  if constexpr (kForm == Form::kXsave || kForm == Form::kXsaveOpt) {
    const auto update = [&](uint64_t header) { return (header & ~wanted) | in_use; };
    return StoreComponents(cpu, linear, kForm == Form::kXsave ? wanted : in_use, kWide, stack) &&
           (!(wanted & (kSse | kAvx)) || StoreMxcsr(cpu, linear, stack)) &&
           cpu.Modify<uint64_t>(linear + FpuState::kXstateBv, false, stack, update);
  } else {
    // A changed MXCSR counts as SSE state in use here. [SDM 1] 13.10
    const bool mxcsr_changed = FpuState(cpu.fpu_).mxcsr() != kInitialMxcsr;
    const uint64_t saved = in_use | (mxcsr_changed ? wanted & kSse : 0);
    return StoreComponents(cpu, linear, saved, kWide, stack) &&
           (!(saved & kSse) || StoreMxcsr(cpu, linear, stack)) &&
           cpu.Store<uint64_t>(linear + FpuState::kXstateBv, saved, stack) &&
           cpu.Store<uint64_t>(linear + FpuState::kXstateBv + 8, wanted | kCompacted, stack);
  }
}

// [SDM 1] 13.8.1, 13.8.2, 13.12
bool HeaderValid(const Cpu& cpu, const uint64_t (&header)[8], bool supervisor) {
  const bool compacted = header[1] & kCompacted;
  if (!compacted) {
    return !supervisor && !(header[0] & ~cpu.xcr0_) && header[1] == 0 && header[2] == 0;
  }
  return cpu.vm_.features().Has(Feature::kXsavec) && !(header[1] & ~kCompacted & ~cpu.xcr0_) &&
         !(header[0] & ~header[1]) &&
         std::all_of(header + 2, header + 8, [](uint64_t word) { return word == 0; });
}

template <bool kSupervisor, bool kWide>
bool Xrstor(Cpu& cpu, const Op& op) {
  uint64_t linear;
  if (kSupervisor && (cpu.cr4_ & cr4::OSXSAVE) && cpu.cpl_ != 0) return cpu.Raise(kGP, 0);
  if (!XsaveUsable(cpu, op, Access::kRead, linear)) return false;
  const bool stack = op.mode & Op::kStack;
  uint64_t header[8];
  uint8_t raw[64];
  if (!LoadBlock(cpu, linear + FpuState::kXstateBv, raw, sizeof(raw), stack)) return false;
  std::memcpy(header, raw, sizeof(header));
  if (!HeaderValid(cpu, header, kSupervisor)) return cpu.Raise(kGP, 0);

  const uint64_t wanted = RequestedComponents(cpu), present = header[0] & wanted;
  const bool compacted = header[1] & kCompacted;
  const unsigned vectors = VectorBytes(cpu);
  // All is read before anything is changed.
  uint8_t bytes[kAreaSize];
  std::memcpy(bytes, cpu.fpu_.bytes.data(), sizeof(bytes));
  InitComponents(bytes, wanted & ~present, vectors);
  if ((present & kX87) && (!LoadBlock(cpu, linear, bytes, 24, stack) ||
                           !LoadBlock(cpu, linear + 32, bytes + 32, 128, stack))) {
    return false;
  }
  const bool load_mxcsr = compacted ? present & kSse : wanted & (kSse | kAvx);
  if (load_mxcsr) {
    uint32_t mxcsr;
    if (!cpu.Load(linear + FpuState::kMxcsr, mxcsr, stack)) return false;
    if (mxcsr & ~TheHostFpu().mxcsr_mask) return cpu.Raise(kGP, 0);
    std::memcpy(bytes + FpuState::kMxcsr, &mxcsr, 4);
  } else if (compacted && (wanted & kSse)) {
    std::memcpy(bytes + FpuState::kMxcsr, &kInitialMxcsr, 4);
  }
  for (const auto& [component, offset] :
       {std::pair{kSse, FpuState::kXmm0}, std::pair{kAvx, FpuState::kYmmHigh0}}) {
    if ((present & component) && !LoadBlock(cpu, linear + offset, bytes + offset, vectors, stack)) {
      return false;
    }
  }
  if (present & kX87) SettleX87(cpu, bytes, kWide);
  std::memcpy(cpu.fpu_.bytes.data(), bytes, sizeof(bytes));
  return true;
}

bool Ldmxcsr(Cpu& cpu, const Op& op) {
  uint32_t value;
  if (!SseUsable(cpu) || !cpu.LoadOperand(op, value)) return false;
  if (value & ~TheHostFpu().mxcsr_mask) return cpu.Raise(kGP, 0);
  FpuState(cpu.fpu_).Set(FpuState::kMxcsr, value);
  return true;
}

bool Stmxcsr(Cpu& cpu, const Op& op) {
  return SseUsable(cpu) && cpu.StoreOperand<uint32_t>(op, FpuState(cpu.fpu_).mxcsr());
}

}  // namespace

void InitComponents(uint8_t* area, uint64_t components, unsigned vector_bytes) {
  if (components & kX87) {
    std::memset(area, 0, 24);
    std::memset(area + 32, 0, 128);
    area[FpuState::kFcw] = FpuState::kInitialFcw & 0xff;
    area[FpuState::kFcw + 1] = FpuState::kInitialFcw >> 8;
  }
  if (components & kSse) std::memset(area + FpuState::kXmm0, 0, vector_bytes);
  if (components & kAvx) std::memset(area + FpuState::kYmmHigh0, 0, vector_bytes);
}

// Exact: in use is what differs from the initial configuration. [SDM 1] 13.6
uint64_t ComponentsInUse(const Cpu& cpu) {
  const uint8_t* state = cpu.fpu_.bytes.data();
  const bool x87 = FpuState::kInitialFcw != (state[0] | state[1] << 8) || !AllZero(state + 2, 22) ||
                   !AllZero(state + 32, 128);
  const bool sse = !AllZero(state + FpuState::kXmm0, VectorBytes(cpu));
  const bool avx = !AllZero(state + FpuState::kYmmHigh0, VectorBytes(cpu));
  return (x87 ? kX87 : 0) | (sse ? kSse : 0) | (avx ? kAvx : 0);
}

bool SelectXState(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::FXSAVE:
      return Use(op, &Fxsave<false>);
    case Mnemonic::FXSAVE64:
      return Use(op, &Fxsave<true>);
    case Mnemonic::FXRSTOR:
      return Use(op, &Fxrstor<false>);
    case Mnemonic::FXRSTOR64:
      return Use(op, &Fxrstor<true>);
    case Mnemonic::XSAVE:
      return Use(op, &Xsave<Form::kXsave, false>);
    case Mnemonic::XSAVE64:
      return Use(op, &Xsave<Form::kXsave, true>);
    case Mnemonic::XSAVEOPT:
      return Use(op, &Xsave<Form::kXsaveOpt, false>);
    case Mnemonic::XSAVEOPT64:
      return Use(op, &Xsave<Form::kXsaveOpt, true>);
    case Mnemonic::XSAVEC:
      return Use(op, &Xsave<Form::kXsaveC, false>);
    case Mnemonic::XSAVEC64:
      return Use(op, &Xsave<Form::kXsaveC, true>);
    case Mnemonic::XSAVES:
      return Use(op, &Xsave<Form::kXsaveS, false>);
    case Mnemonic::XSAVES64:
      return Use(op, &Xsave<Form::kXsaveS, true>);
    case Mnemonic::XRSTOR:
      return Use(op, &Xrstor<false, false>);
    case Mnemonic::XRSTOR64:
      return Use(op, &Xrstor<false, true>);
    case Mnemonic::XRSTORS:
      return Use(op, &Xrstor<true, false>);
    case Mnemonic::XRSTORS64:
      return Use(op, &Xrstor<true, true>);
    case Mnemonic::LDMXCSR:
      return Use(op, &Ldmxcsr);
    case Mnemonic::STMXCSR:
      return Use(op, &Stmxcsr);
    default:
      return false;
  }
}

}  // namespace bt
