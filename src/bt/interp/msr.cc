// Model-specific registers. [SDM 4] 2.1; what is not here raises #GP, which kernels probe for.
#include "bt/interp/cpu.h"
#include "bt/interp/interpreter.h"
#include "bt/interp/page_entry.h"

namespace bt {
namespace {

enum Msr : uint32_t {
  IA32_TSC = 0x10,
  IA32_PLATFORM_ID = 0x17,
  EBL_CR_POWERON = 0x2a,
  IA32_FEATURE_CONTROL = 0x3a,
  IA32_TSC_ADJUST = 0x3b,
  IA32_SPEC_CTRL = 0x48,
  IA32_PRED_CMD = 0x49,
  IA32_BIOS_UPDT_TRIG = 0x79,
  IA32_BIOS_SIGN_ID = 0x8b,
  PLATFORM_INFO = 0xce,
  IA32_MTRRCAP = 0xfe,
  IA32_ARCH_CAPABILITIES = 0x10a,
  IA32_SYSENTER_CS = 0x174,
  IA32_SYSENTER_ESP = 0x175,
  IA32_SYSENTER_EIP = 0x176,
  IA32_MCG_CAP = 0x179,
  IA32_MCG_STATUS = 0x17a,
  IA32_PERF_STATUS = 0x198,
  IA32_PERF_CTL = 0x199,
  IA32_MISC_ENABLE = 0x1a0,
  IA32_DEBUGCTL = 0x1d9,
  LAST_BRANCH_FROM_IP = 0x1db,
  LAST_INT_TO_IP = 0x1de,
  IA32_MTRR_PHYSBASE0 = 0x200,
  IA32_MTRR_PHYSMASK7 = 0x20f,
  IA32_MTRR_FIX64K = 0x250,
  IA32_MTRR_FIX16K_80000 = 0x258,
  IA32_MTRR_FIX16K_A0000 = 0x259,
  IA32_MTRR_FIX4K_C0000 = 0x268,
  IA32_MTRR_FIX4K_F8000 = 0x26f,
  IA32_PAT = 0x277,
  IA32_MTRR_DEF_TYPE = 0x2ff,
  IA32_XSS = 0xda0,
  IA32_EFER = 0xc0000080,
  IA32_STAR = 0xc0000081,
  IA32_LSTAR = 0xc0000082,
  IA32_CSTAR = 0xc0000083,
  IA32_FMASK = 0xc0000084,
  IA32_FS_BASE = 0xc0000100,
  IA32_GS_BASE = 0xc0000101,
  IA32_KERNEL_GS_BASE = 0xc0000102,
  IA32_TSC_AUX = 0xc0000103,
  // The first four performance counters, which every AMD processor has; they count nothing here.
  AMD_PERF_CTL0 = 0xc0010000,
  AMD_PERF_CTL1 = 0xc0010001,
  AMD_PERF_CTL2 = 0xc0010002,
  AMD_PERF_CTL3 = 0xc0010003,
  AMD_PERF_CTR0 = 0xc0010004,
  AMD_PERF_CTR1 = 0xc0010005,
  AMD_PERF_CTR2 = 0xc0010006,
  AMD_PERF_CTR3 = 0xc0010007,
  AMD_SYSCFG = 0xc0010010,
  AMD_HWCR = 0xc0010015,
  AMD_NB_CFG = 0xc001001f,
  AMD_PATCH_LEVEL = 0x8b,
  AMD_TSEG_ADDR = 0xc0010112,
  AMD_TSEG_MASK = 0xc0010113,
  AMD_OSVW_LENGTH = 0xc0010140,
  AMD_OSVW_STATUS = 0xc0010141,
  AMD_INT_PENDING = 0xc0010055,
  AMD_DE_CFG = 0xc0011029,
  AMD_BU_CFG2 = 0xc001102a,
};

// Bits of IA32_SPEC_CTRL: IBRS, STIBP, SSBD; 0: there is none. They are stored and do nothing,
// since there is nothing that they would have to hold back. [SDM 4] table 2-2
uint64_t SpecCtrlBits(const vmm::CpuidPolicy& cpuid) {
  if (!cpuid.Has("spec_ctrl") && !cpuid.Has("amd_ibrs")) return 0;
  return 3 | (cpuid.Has("ssbd") || cpuid.Has("amd_ssbd") ? 4 : 0);
}

// Index in Msrs::mtrr_fixed, or -1.
int FixedMtrr(uint32_t index) {
  if (index == IA32_MTRR_FIX64K) return 0;
  if (index == IA32_MTRR_FIX16K_80000 || index == IA32_MTRR_FIX16K_A0000)
    return 1 + static_cast<int>(index - IA32_MTRR_FIX16K_80000);
  if (index >= IA32_MTRR_FIX4K_C0000 && index <= IA32_MTRR_FIX4K_F8000)
    return 3 + static_cast<int>(index - IA32_MTRR_FIX4K_C0000);
  return -1;
}

// Types 2 and 3 are reserved; 7, UC-, is only for the PAT. [SDM 3A] tables 11-8, 11-10
bool MemoryTypeValid(uint8_t type) {
  return type < 7 && type != 2 && type != 3;
}

// A variable range: base with type, mask with valid bit. [SDM 3A] 11.11.2.3
bool VariableMtrrValid(bool mask, uint64_t value, uint64_t reserved_address_bits) {
  if (value & reserved_address_bits) return false;
  if (mask) return !(value & 0x7ff);
  return !(value & 0xf00) && MemoryTypeValid(static_cast<uint8_t>(value));
}

bool PatValid(uint64_t value) {
  for (unsigned i = 0; i < 8; ++i) {
    const auto type = static_cast<uint8_t>(value >> (8 * i));
    if (!MemoryTypeValid(type) && type != 7) return false;
  }
  return true;
}

bool FixedMtrrValid(uint64_t value) {
  for (unsigned i = 0; i < 8; ++i) {
    if (!MemoryTypeValid(static_cast<uint8_t>(value >> (8 * i)))) return false;
  }
  return true;
}

}  // namespace

// A register that is plain storage: where it is kept, and whether it takes only canonical
// addresses.
uint64_t* Cpu::StoredMsr(uint32_t index, bool* canonical) {
  *canonical = false;
  switch (index) {
    case IA32_STAR:
      return &msr_.star;
    case IA32_FMASK:
      return &msr_.sfmask;
    case IA32_SYSENTER_CS:
      return &msr_.sysenter_cs;
    case IA32_TSC_AUX:
      return &msr_.tsc_aux;
    case IA32_MISC_ENABLE:
      return &msr_.misc_enable;
    default:
      break;
  }
  *canonical = true;
  switch (index) {
    case IA32_LSTAR:
      return &msr_.lstar;
    case IA32_CSTAR:
      return &msr_.cstar;
    case IA32_KERNEL_GS_BASE:
      return &msr_.kernel_gs_base;
    case IA32_SYSENTER_ESP:
      return &msr_.sysenter_esp;
    case IA32_SYSENTER_EIP:
      return &msr_.sysenter_eip;
    case IA32_FS_BASE:
      return &seg_[static_cast<unsigned>(vmm::Seg::FS)].base;
    case IA32_GS_BASE:
      return &seg_[static_cast<unsigned>(vmm::Seg::GS)].base;
    default:
      return nullptr;
  }
}

void Cpu::SetTscOffset(uint64_t offset) {
  tsc_offset_ = offset;
  apic_->SetTscOffset(static_cast<int64_t>(offset));
  pvclock_->SetTscOffset(offset);
}

bool Cpu::ReadMsr(uint32_t index, uint64_t& value) {
  bool canonical;
  if (const uint64_t* stored = StoredMsr(index, &canonical)) {
    value = *stored;
    return true;
  }
  if (vmm::LocalApic::HandlesMsr(index)) return apic_->ReadMsr(index, &value);
  if (index >= IA32_MTRR_PHYSBASE0 && index <= IA32_MTRR_PHYSMASK7) {
    value = msr_.mtrr_variable[index - IA32_MTRR_PHYSBASE0];
    return true;
  }
  if (const int fixed = FixedMtrr(index); fixed >= 0) {
    value = msr_.mtrr_fixed[static_cast<unsigned>(fixed)];
    return true;
  }
  value = 0;
  switch (index) {
    case IA32_TSC:
      value = ReadTsc();
      return true;
    case IA32_TSC_ADJUST:
      value = msr_.tsc_adjust;
      return vm_.parts().cpuid.Has(7, 0, 1, 1);
    case IA32_EFER:
      value = efer_;
      return true;
    case IA32_PAT:
      value = msr_.pat;
      return true;
    case IA32_MTRRCAP:
      value = 0x508;
      return true;  // 8 variable ranges, fixed ranges, write combining
    case IA32_MTRR_DEF_TYPE:
      value = msr_.mtrr_def_type;
      return true;
    case IA32_BIOS_SIGN_ID:
      value = 1ull << 32;
      return true;
    case IA32_MCG_CAP:
      value = 0;
      return true;  // no machine-check banks
    case IA32_XSS:
      value = msr_.xss;
      return vm_.parts().cpuid.Has(0xd, 1, 0, 3);
    case IA32_ARCH_CAPABILITIES:
      value = vm_.parts().cpuid.arch_capabilities();
      return vm_.parts().cpuid.Has("arch_capabilities");
    case IA32_SPEC_CTRL:
      value = msr_.spec_ctrl;
      return SpecCtrlBits(vm_.parts().cpuid) != 0;
    case IA32_PLATFORM_ID:
    case IA32_FEATURE_CONTROL:
    case IA32_MCG_STATUS:
    case IA32_PERF_STATUS:
    case IA32_PERF_CTL:
    case EBL_CR_POWERON:
    case PLATFORM_INFO:
    case IA32_DEBUGCTL:
    case AMD_PERF_CTL0:
    case AMD_PERF_CTL1:
    case AMD_PERF_CTL2:
    case AMD_PERF_CTL3:
    case AMD_PERF_CTR0:
    case AMD_PERF_CTR1:
    case AMD_PERF_CTR2:
    case AMD_PERF_CTR3:
    case AMD_SYSCFG:
    case AMD_NB_CFG:
    case AMD_TSEG_ADDR:
    case AMD_TSEG_MASK:
    case AMD_OSVW_LENGTH:
    case AMD_OSVW_STATUS:
    case AMD_INT_PENDING:
    case AMD_BU_CFG2:
      return true;
    case AMD_HWCR:
      value = 1 << 24;
      return true;  // TscFreqSel: the TSC runs at the P0 frequency
    case AMD_DE_CFG:
      value = 2;
      return true;  // LFENCE is serialising
    default:
      if (index >= LAST_BRANCH_FROM_IP && index <= LAST_INT_TO_IP) return true;
      return pvclock_->ReadMsr(index, &value);
  }
}

bool Cpu::WriteMsr(uint32_t index, uint64_t value) {
  bool canonical;
  if (uint64_t* stored = StoredMsr(index, &canonical)) {
    if (canonical && !Canonical(value)) return false;
    const bool narrow = index == IA32_FMASK || index == IA32_TSC_AUX;  // bits 63:32 are reserved
    if (narrow && (value >> 32)) return false;
    *stored = value;
    if (index == IA32_FS_BASE) seg_base_[static_cast<unsigned>(vmm::Seg::FS)] = value;
    if (index == IA32_GS_BASE) seg_base_[static_cast<unsigned>(vmm::Seg::GS)] = value;
    return true;
  }
  if (vmm::LocalApic::HandlesMsr(index)) return apic_->WriteMsr(index, value);
  if (index >= IA32_MTRR_PHYSBASE0 && index <= IA32_MTRR_PHYSMASK7) {
    if (!VariableMtrrValid(index & 1, value, reserved_address_bits_)) return false;
    msr_.mtrr_variable[index - IA32_MTRR_PHYSBASE0] = value;
    return true;
  }
  if (const int fixed = FixedMtrr(index); fixed >= 0) {
    if (!FixedMtrrValid(value)) return false;
    msr_.mtrr_fixed[static_cast<unsigned>(fixed)] = value;
    return true;
  }
  switch (index) {
    case IA32_TSC: {
      const uint64_t delta = value - ReadTsc();
      msr_.tsc_adjust += delta;
      SetTscOffset(tsc_offset_ + delta);
      return true;
    }
    case IA32_TSC_ADJUST:
      if (!vm_.parts().cpuid.Has(7, 0, 1, 1)) return false;
      SetTscOffset(tsc_offset_ + value - msr_.tsc_adjust);
      msr_.tsc_adjust = value;
      return true;
    case IA32_EFER: {
      const uint64_t aibrse = vm_.parts().cpuid.Has("autoibrs") ? efer::AIBRSE : 0;
      if (value & ~(efer::SCE | efer::LME | efer::LMA | efer::NXE | aibrse)) return false;
      if ((cr0_ & cr0::PG) && ((value ^ efer_) & efer::LME)) return false;
      const uint64_t before = efer_;
      efer_ = (value & ~efer::LMA) | (before & efer::LMA);
      if ((before ^ efer_) & efer::NXE) FlushTlb();
      return true;
    }
    case IA32_PAT:
      if (!PatValid(value)) return false;
      msr_.pat = value;
      return true;
    case IA32_MTRR_DEF_TYPE:
      if ((value & ~0xcffull) || !MemoryTypeValid(static_cast<uint8_t>(value))) return false;
      msr_.mtrr_def_type = value;
      return true;
    case IA32_SPEC_CTRL: {
      const uint64_t bits = SpecCtrlBits(vm_.parts().cpuid);
      if (bits == 0 || (value & ~bits)) return false;
      msr_.spec_ctrl = value;
      return true;
    }
    case IA32_PRED_CMD: {  // IBPB: nothing is predicted across address spaces
      const vmm::CpuidPolicy& cpuid = vm_.parts().cpuid;
      return (cpuid.Has("spec_ctrl") || cpuid.Has("amd_ibpb")) && !(value & ~1ull);
    }
    case IA32_XSS:
      return value == 0 && vm_.parts().cpuid.Has(0xd, 1, 0, 3);
    case IA32_DEBUGCTL:
      return value == 0;  // neither branch records nor single-step on branches are offered
    case IA32_MCG_STATUS:
      return value == 0;  // [SDM 3B] 15.3.1.2
    case IA32_PERF_CTL:
    case EBL_CR_POWERON:
    case IA32_BIOS_UPDT_TRIG:
    case IA32_BIOS_SIGN_ID:
    case AMD_PERF_CTL0:
    case AMD_PERF_CTL1:
    case AMD_PERF_CTL2:
    case AMD_PERF_CTL3:
    case AMD_PERF_CTR0:
    case AMD_PERF_CTR1:
    case AMD_PERF_CTR2:
    case AMD_PERF_CTR3:
    case AMD_SYSCFG:
    case AMD_HWCR:
    case AMD_NB_CFG:
    case AMD_DE_CFG:
    case AMD_BU_CFG2:
      return true;
    default:
      return pvclock_->WriteMsr(index, value);
  }
}

}  // namespace bt
