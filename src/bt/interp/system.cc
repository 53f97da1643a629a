// HLT CPUID RDTSC RDMSR WRMSR INVLPG XGETBV.. and the control registers behind them.
#include <sys/random.h>

#include "bt/interp/families.h"
#include "bt/interp/fpu.h"
#include "bt/interp/interpreter.h"

namespace bt {

uint64_t Cpu::ReadTsc() const {
  return vm_.parts().clock.Tsc() + tsc_offset_;
}

// [SDM 3A] 2.5, 9.9
bool Cpu::WriteCr0(uint64_t value) {
  constexpr uint64_t kDefined = cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::ET | cr0::NE |
                                cr0::WP | cr0::AM | cr0::NW | cr0::CD | cr0::PG;
  if (In64() && (value >> 32)) return Raise(kGP, 0);
  value = (value & kDefined) | cr0::ET;
  if ((value & cr0::PG) && !(value & cr0::PE)) return Raise(kGP, 0);
  if ((value & cr0::NW) && !(value & cr0::CD)) return Raise(kGP, 0);
  if (!(value & cr0::PG) && (cr4_ & cr4::PCIDE)) return Raise(kGP, 0);
  const uint64_t changed = cr0_ ^ value;
  if (changed & cr0::PG) {
    if (value & cr0::PG) {
      if (efer_ & efer::LME) {
        if (!(cr4_ & cr4::PAE) || seg_[1].l()) return Raise(kGP, 0);
        efer_ |= efer::LMA;
      } else if (cr4_ & cr4::PAE) {
        if (!LoadPdptes(cr3_)) return false;
      }
    } else {
      if (In64()) return Raise(kGP, 0);
      efer_ &= ~efer::LMA;
    }
  }
  // A change of caching loads the PDPTEs as well. [SDM 3A] 4.4.1
  if ((changed & (cr0::CD | cr0::NW)) && PaePaging() && !(changed & cr0::PG) && !LoadPdptes(cr3_)) {
    return false;
  }
  cr0_ = value;
  if (changed & cr0::PE) {
    cpl_ = 0;
  }
  if (changed & (cr0::PG | cr0::WP | cr0::PE)) FlushTlb();
  UpdateMode();
  return true;
}

bool Cpu::WriteCr3(uint64_t value) {
  const bool keep = (cr4_ & cr4::PCIDE) && (value & cr3::NO_FLUSH);
  if (cr4_ & cr4::PCIDE) value &= ~cr3::NO_FLUSH;
  if (LongMode() && (value & reserved_address_bits_)) return Raise(kGP, 0);
  if (PaePaging() && !LoadPdptes(value)) return false;
  cr3_ = value;
  SelectAddressSpace(keep);
  return true;
}

bool Cpu::WriteCr4(uint64_t value) {
  if (value & ~vm_.features().cr4_bits()) return Raise(kGP, 0);
  if (LongMode() && !(value & cr4::PAE)) return Raise(kGP, 0);
  const uint64_t changed = cr4_ ^ value;
  if ((changed & value & cr4::PCIDE) && (!LongMode() || (cr3_ & cr3::PCID))) return Raise(kGP, 0);
  constexpr uint64_t kLoadsPdptes = cr4::PAE | cr4::PGE | cr4::PSE | cr4::SMEP;
  if ((changed & kLoadsPdptes) && (value & cr4::PAE) && (cr0_ & cr0::PG) && !LongMode() &&
      !LoadPdptes(cr3_)) {
    return false;
  }
  cr4_ = value;
  if (changed & cr4::DE) {
    debug_.SetDebuggingExtensions(value & cr4::DE);
    UpdateBreakpoints(debug_.data());
  }
  if (changed & (cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP | cr4::SMAP)) FlushTlb();
  if (changed & cr4::PCIDE) {
    FlushTlb();
    SelectAddressSpace(false);
  }
  UpdateMode();
  return true;
}

namespace {

bool Privileged(Cpu& cpu) {
  return cpu.cpl_ == 0 || cpu.Raise(kGP, 0);
}

bool Hlt(Cpu& cpu, const Op&) {
  if (!Privileged(cpu)) return false;
  cpu.EnterHalt();
  return false;
}

bool Clts(Cpu& cpu, const Op&) {
  if (!Privileged(cpu)) return false;
  cpu.cr0_ &= ~cr0::TS;
  return false;
}

bool CacheFlush(Cpu& cpu, const Op&) {
  return Privileged(cpu) && false;
}

bool Invlpg(Cpu& cpu, const Op& op) {
  if (!Privileged(cpu)) return false;
  uint64_t linear;
  if (cpu.Address(op, 1, Access::kRead, linear)) cpu.FlushTlbPage(linear);
  return false;
}

bool Invpcid(Cpu& cpu, const Op& op) {
  if (!Privileged(cpu)) return false;
  const uint64_t type = cpu.In64() ? cpu.Reg<uint64_t>(op.dst) : cpu.Reg<uint32_t>(op.dst);
  uint64_t linear;
  Bytes16 descriptor;
  if (!cpu.Address(op, 16, Access::kRead, linear) ||
      !cpu.Load(linear, descriptor, op.mode & Op::kStack)) {
    return false;
  }
  return cpu.InvalidatePcid(type, descriptor.low, descriptor.high) && false;
}

bool Cpuid(Cpu& cpu, const Op&) {
  vmm::CpuidPolicy::Dynamic dynamic;
  dynamic.cr4_osxsave = cpu.cr4_ & cr4::OSXSAVE;
  dynamic.apic_enabled = cpu.apic().apic_base() & (1 << 11);
  dynamic.xcr0 = cpu.xcr0_;
  const vmm::CpuidRegs regs = cpu.vm_.parts().cpuid.Query(
      cpu.Reg<uint32_t>(0), cpu.Reg<uint32_t>(1 * 8), cpu.id(), dynamic);
  cpu.SetReg<uint32_t>(0, regs.eax);
  cpu.SetReg<uint32_t>(3 * 8, regs.ebx);
  cpu.SetReg<uint32_t>(1 * 8, regs.ecx);
  cpu.SetReg<uint32_t>(2 * 8, regs.edx);
  return false;
}

void SetPair(Cpu& cpu, uint64_t value) {
  cpu.SetReg<uint32_t>(0, static_cast<uint32_t>(value));
  cpu.SetReg<uint32_t>(2 * 8, static_cast<uint32_t>(value >> 32));
}
uint64_t Pair(const Cpu& cpu) {
  return static_cast<uint64_t>(cpu.Reg<uint32_t>(2 * 8)) << 32 | cpu.Reg<uint32_t>(0);
}

template <bool kWithAux>
bool Rdtsc(Cpu& cpu, const Op&) {
  if ((cpu.cr4_ & cr4::TSD) && cpu.cpl_ != 0) return cpu.Raise(kGP, 0);
  SetPair(cpu, cpu.ReadTsc());
  if (kWithAux) cpu.SetReg<uint32_t>(1 * 8, static_cast<uint32_t>(cpu.msr_.tsc_aux));
  return true;
}

bool Rdpmc(Cpu& cpu, const Op&) {
  return cpu.Raise(kGP, 0);
}  // no counters are offered

bool Rdpid(Cpu& cpu, const Op& op) {
  cpu.SetReg<uint64_t>(op.dst, cpu.msr_.tsc_aux);
  return true;
}

bool Rdmsr(Cpu& cpu, const Op&) {
  uint64_t value = 0;
  if (!Privileged(cpu)) return false;
  if (!cpu.ReadMsr(cpu.Reg<uint32_t>(1 * 8), value)) return cpu.Raise(kGP, 0);
  SetPair(cpu, value);
  return false;
}

bool Wrmsr(Cpu& cpu, const Op&) {
  if (!Privileged(cpu)) return false;
  if (!cpu.WriteMsr(cpu.Reg<uint32_t>(1 * 8), Pair(cpu))) return cpu.Raise(kGP, 0);
  return false;
}

template <class T>
bool Random(Cpu& cpu, const Op& op) {
  T value = 0;
  const bool got = getrandom(&value, sizeof(value), GRND_NONBLOCK) == sizeof(value);
  cpu.SetReg<T>(op.dst, got ? value : T{0});
  cpu.flags_ = got ? kCarry : 0;
  return true;
}

bool Xgetbv(Cpu& cpu, const Op&) {
  if (!(cpu.cr4_ & cr4::OSXSAVE)) return cpu.Raise(kUD);
  const uint32_t index = cpu.Reg<uint32_t>(1 * 8);
  const bool in_use = index == 1 && cpu.vm_.parts().cpuid.Has("xgetbv1");
  if (index != 0 && !in_use) return cpu.Raise(kGP, 0);
  SetPair(cpu, in_use ? cpu.xcr0_ & ComponentsInUse(cpu) : cpu.xcr0_);
  return true;
}

bool Xsetbv(Cpu& cpu, const Op&) {
  if (!(cpu.cr4_ & cr4::OSXSAVE)) return cpu.Raise(kUD);
  if (!Privileged(cpu)) return false;
  const uint64_t value = Pair(cpu);
  const bool avx_without_sse = (value & 6) == 4;
  if (cpu.Reg<uint32_t>(1 * 8) != 0 || !(value & 1) || avx_without_sse ||
      (value & ~cpu.vm_.parts().cpuid.xcr0_mask())) {
    return cpu.Raise(kGP, 0);
  }
  cpu.xcr0_ = value;
  return false;
}

// The hypercalls of the KVM leaves; none is needed, so all say ENOSYS. MONITOR, MWAIT and RSM are
// not offered.
bool Hypercall(Cpu& cpu, const Op&) {
  constexpr int64_t kKvmEnosys = -1000;
  cpu.r[0] = static_cast<uint64_t>(kKvmEnosys);
  return true;
}
bool NotOffered(Cpu& cpu, const Op&) {
  return cpu.Raise(kUD);
}

}  // namespace

bool SelectSystem(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::HLT:
      return Use(op, &Hlt);
    case Mnemonic::CLTS:
      return Use(op, &Clts);
    case Mnemonic::INVD:
    case Mnemonic::WBINVD:
      return Use(op, &CacheFlush);
    case Mnemonic::INVLPG:
      return Use(op, &Invlpg);
    case Mnemonic::INVPCID:
      return Use(op, &Invpcid);
    case Mnemonic::CPUID:
      return Use(op, &Cpuid);
    case Mnemonic::RDTSC:
      return Use(op, &Rdtsc<false>);
    case Mnemonic::RDTSCP:
      return Use(op, &Rdtsc<true>);
    case Mnemonic::RDPID:
      return Use(op, &Rdpid);
    case Mnemonic::RDPMC:
      return Use(op, &Rdpmc);
    case Mnemonic::RDMSR:
      return Use(op, &Rdmsr);
    case Mnemonic::WRMSR:
      return Use(op, &Wrmsr);
    case Mnemonic::RDRAND:
    case Mnemonic::RDSEED:
      return Use(
          op, BySize(insn.operand[0].bits, [](auto z) -> Handler { return &Random<decltype(z)>; }));
    case Mnemonic::XGETBV:
      return Use(op, &Xgetbv);
    case Mnemonic::XSETBV:
      return Use(op, &Xsetbv);
    case Mnemonic::VMCALL:
    case Mnemonic::VMMCALL:
      return Use(op, &Hypercall);
    default:
      return Use(op, &NotOffered);
  }
}

}  // namespace bt
