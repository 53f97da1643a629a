// FXSAVE FXRSTOR XSAVE XRSTOR LDMXCSR STMXCSR. [SDM 1] 10.5, 13
#include "bt/interp/families.h"
#include "bt/interp/fpu.h"

namespace bt {
namespace {

constexpr uint32_t kMxcsrMask = 0xffff;
constexpr uint64_t kX87 = 1, kSse = 2;

bool Usable(Cpu& cpu) {
  if (cpu.cr0_ & cr0::EM) return cpu.Raise(kNM);
  if (cpu.cr0_ & cr0::TS) return cpu.Raise(kNM);
  return true;
}

// Bytes of the legacy region that a component, or a mode, has.
unsigned LegacySize(const Cpu& cpu) {
  return cpu.In64() ? 416 : 288;
}  // XMM8-15 in 64-bit mode only

void FillConstants(uint8_t* image) {
  std::memcpy(image + 28, &kMxcsrMask, 4);
}

bool StoreBlock(Cpu& cpu, uint64_t linear, const uint8_t* data, unsigned size, bool stack) {
  return cpu.StoreSlow(linear, data, size, stack, cpu.view_);
}
bool LoadBlock(Cpu& cpu, uint64_t linear, uint8_t* data, unsigned size, bool stack) {
  return cpu.LoadSlow(linear, data, size, stack, cpu.view_);
}

bool Fxsave(Cpu& cpu, const Op& op) {
  uint64_t linear;
  if (!Usable(cpu) || !cpu.Address(op, 512, Access::kWrite, linear)) return false;
  if (linear & 15) return cpu.Raise(kGP, 0);
  uint8_t image[416];
  std::memcpy(image, cpu.fpu_.bytes.data(), sizeof(image));
  FillConstants(image);
  const unsigned size = cpu.cr4_ & cr4::OSFXSR ? LegacySize(cpu) : 160;
  return StoreBlock(cpu, linear, image, size, op.mode & Op::kStack);
}

bool Fxrstor(Cpu& cpu, const Op& op) {
  uint64_t linear;
  if (!Usable(cpu) || !cpu.Address(op, 512, Access::kRead, linear)) return false;
  if (linear & 15) return cpu.Raise(kGP, 0);
  uint8_t image[416];
  std::memcpy(image, cpu.fpu_.bytes.data(), sizeof(image));
  const unsigned size = cpu.cr4_ & cr4::OSFXSR ? LegacySize(cpu) : 160;
  if (!LoadBlock(cpu, linear, image, size, op.mode & Op::kStack)) return false;
  uint32_t mxcsr;
  std::memcpy(&mxcsr, image + FpuState::kMxcsr, 4);
  if (size > 160 && (mxcsr & ~kMxcsrMask)) return cpu.Raise(kGP, 0);
  if (size == 160)
    std::memcpy(image + FpuState::kMxcsr, cpu.fpu_.bytes.data() + FpuState::kMxcsr, 8);
  std::memcpy(cpu.fpu_.bytes.data(), image, sizeof(image));
  return true;
}

bool XsaveUsable(Cpu& cpu, uint64_t linear) {
  if (!(cpu.cr4_ & cr4::OSXSAVE)) return cpu.Raise(kUD);
  if (cpu.cr0_ & cr0::TS) return cpu.Raise(kNM);
  if (linear & 63) return cpu.Raise(kGP, 0);
  return true;
}

uint64_t RequestedComponents(const Cpu& cpu) {
  return (static_cast<uint64_t>(cpu.Reg<uint32_t>(2 * 8)) << 32 | cpu.Reg<uint32_t>(0)) & cpu.xcr0_;
}

// Component 0 is bytes 0-23 and 32-159 of the legacy region, component 1 the XMM registers and,
// with it or AVX, MXCSR.
bool Xsave(Cpu& cpu, const Op& op) {
  uint64_t linear;
  if (!cpu.Address(op, 576, Access::kWrite, linear) || !XsaveUsable(cpu, linear)) return false;
  const uint64_t wanted = RequestedComponents(cpu);
  const bool stack = op.mode & Op::kStack;
  const uint8_t* state = cpu.fpu_.bytes.data();
  uint64_t header;
  if (!cpu.Load(linear + FpuState::kXstateBv, header, stack)) return false;
  if (wanted & kX87) {
    if (!StoreBlock(cpu, linear, state, 24, stack) ||
        !StoreBlock(cpu, linear + 32, state + 32, 128, stack)) {
      return false;
    }
  }
  if (wanted & kSse) {
    if (!StoreBlock(cpu, linear + FpuState::kXmm0, state + FpuState::kXmm0, LegacySize(cpu) - 160,
                    stack))
      return false;
    if (!cpu.Store<uint32_t>(linear + FpuState::kMxcsr, FpuState(cpu.fpu_).mxcsr(), stack) ||
        !cpu.Store<uint32_t>(linear + 28, kMxcsrMask, stack)) {
      return false;
    }
  }
  // XINUSE: both are always reported in use, which is legal. [SDM 1] 13.6
  return cpu.Store<uint64_t>(linear + FpuState::kXstateBv, (header & ~wanted) | wanted, stack);
}

bool Xrstor(Cpu& cpu, const Op& op) {
  uint64_t linear;
  if (!cpu.Address(op, 576, Access::kRead, linear) || !XsaveUsable(cpu, linear)) return false;
  const uint64_t wanted = RequestedComponents(cpu);
  const bool stack = op.mode & Op::kStack;
  uint8_t image[576];
  if (!LoadBlock(cpu, linear, image, sizeof(image), stack)) return false;
  uint64_t header[8];
  std::memcpy(header, image + FpuState::kXstateBv, sizeof(header));
  const bool header_bad = (header[0] & ~cpu.xcr0_) || header[1] || header[2] || header[3] ||
                          header[4] || header[5] || header[6] || header[7];
  if (header_bad) return cpu.Raise(kGP, 0);
  uint8_t* state = cpu.fpu_.bytes.data();
  uint32_t mxcsr;
  std::memcpy(&mxcsr, image + FpuState::kMxcsr, 4);
  if ((wanted & kSse) && (mxcsr & ~kMxcsrMask)) return cpu.Raise(kGP, 0);
  if (wanted & kX87) {
    if (header[0] & kX87) {
      std::memcpy(state, image, 24);
      std::memcpy(state + 32, image + 32, 128);
    } else {
      std::memset(state, 0, 24);
      std::memset(state + 32, 0, 128);
      state[0] = 0x7f;
      state[1] = 0x03;
    }
  }
  if (wanted & kSse) {
    const unsigned size = LegacySize(cpu) - 160;
    if (header[0] & kSse)
      std::memcpy(state + FpuState::kXmm0, image + FpuState::kXmm0, size);
    else
      std::memset(state + FpuState::kXmm0, 0, size);
    std::memcpy(state + FpuState::kMxcsr, &mxcsr,
                4);  // loaded from memory even in initial configuration
  }
  return true;
}

bool Ldmxcsr(Cpu& cpu, const Op& op) {
  uint32_t value;
  if (!SseUsable(cpu) || !cpu.LoadOperand(op, value)) return false;
  if (value & ~kMxcsrMask) return cpu.Raise(kGP, 0);
  FpuState(cpu.fpu_).Set(FpuState::kMxcsr, value);
  return true;
}

bool Stmxcsr(Cpu& cpu, const Op& op) {
  return SseUsable(cpu) && cpu.StoreOperand<uint32_t>(op, FpuState(cpu.fpu_).mxcsr());
}

}  // namespace

bool SelectXState(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::FXSAVE:
    case Mnemonic::FXSAVE64:
      return Use(op, &Fxsave);
    case Mnemonic::FXRSTOR:
    case Mnemonic::FXRSTOR64:
      return Use(op, &Fxrstor);
    case Mnemonic::XSAVE:
    case Mnemonic::XSAVE64:
      return Use(op, &Xsave);
    case Mnemonic::XRSTOR:
    case Mnemonic::XRSTOR64:
      return Use(op, &Xrstor);
    case Mnemonic::LDMXCSR:
      return Use(op, &Ldmxcsr);
    case Mnemonic::STMXCSR:
      return Use(op, &Stmxcsr);
    default:
      return false;
  }
}

}  // namespace bt
