// The interpreter's registers from and to the engines' common CpuState.
#include "bt/interp/cpu.h"
#include "bt/interp/fpu.h"
#include "bt/interp/interpreter.h"

namespace bt {

void Cpu::LoadRegisters(const vmm::CpuState& state) {
  std::copy(state.gpr.begin(), state.gpr.end(), r);
  r[kRip] = state.rip;
  r[kZero] = 0;
  cr0_ = state.cr0;
  cr2_ = state.cr2;
  cr3_ = state.cr3;
  cr4_ = state.cr4;
  xcr0_ = state.xcr0;
  debug_.Load(state.dr, state.dr6, state.dr7, state.cr4 & cr4::DE);
  msr_ = state.msr;
  efer_ = state.msr.efer;
  ldtr_ = state.ldtr;
  tr_ = state.tr;
  gdtr_ = state.gdtr;
  idtr_ = state.idtr;
  fpu_ = state.xsave;
  // What an engine left out is in its initial configuration. [SDM 1] 13.6
  const uint64_t present = FpuState(fpu_).Get<uint64_t>(FpuState::kXstateBv);
  InitComponents(fpu_.bytes.data(), ~present, 256);
  seg_ = state.seg;
  for (unsigned i = 0; i < seg_.size(); ++i) seg_base_[i] = seg_[i].base;
  SetRflags(state.rflags);
  const vmm::SegmentState& ss = seg_[static_cast<unsigned>(vmm::Seg::SS)];
  cpl_ = V86() ? 3 : RealMode() ? 0 : ss.dpl();
  SetTscOffset(state.msr.tsc - vm_.parts().clock.Tsc());
  const vmm::CpuState::Events& events = state.events;
  fault_ = {events.exception_pending, events.exception_vector, events.exception_has_error,
            events.exception_error, false};
  acknowledged_vector_ = events.interrupt_pending ? events.interrupt_vector : -1;
  sti_shadow_ = events.sti_shadow;
  mov_ss_shadow_ = events.mov_ss_shadow;
  nmi_pending_ = events.nmi_pending;
  nmi_masked_ = events.nmi_masked;
  halted_ = state.activity == vmm::Activity::kHalted;
  wait_for_sipi_ = state.activity == vmm::Activity::kWaitForSipi;
  recheck_ = true;
  careful_ = vm_.parts().schedule && !vm_.has_tier() ? kCounted : 0;
  pending_debug_ = 0;
  last_block_ = nullptr;
  if ((cr0_ & cr0::PG) && (cr4_ & cr4::PAE) && !LongMode()) {
    LoadPdptes(cr3_);
    fault_.active = events.exception_pending;
  }
  FlushTlb();
  SelectAddressSpace(false);
  UpdateBreakpoints(false);
  UpdateMode();
}

void Cpu::ResetForTest(const std::array<uint64_t, 16>& gpr, uint64_t rip, uint64_t rflags,
                       const std::array<uint8_t, 512>& fx) {
  std::copy(gpr.begin(), gpr.end(), r);
  r[kRip] = rip;
  SetRflags(rflags);
  std::copy(fx.begin(), fx.end(), fpu_.bytes.begin());
  fault_ = {};
  last_block_ = nullptr;
  if (attention_.exchange(0) & kAttentionInvalidate) RunPostedInvalidations();
}

bool Cpu::RunHotForTest() {
  Block* block = NextBlock();
  if (!block) return false;
  const uint64_t phys = block->phys;
  const CodeSize code_size = block->code_size;
  block->runs = 0xff;
  if (tier_)
    tier_->Run(block);
  else
    Execute(block);
  block = blocks_.Find(phys, code_size);  // it may have gone
  return block && block->translation;
}

void Cpu::ForgetCode() {
  blocks_.ForEachPage([this](uint64_t page) { vm_.UnmarkCode(*this, page); });
  blocks_.Clear();
  last_block_ = nullptr;
  ForgetBlocks();
}

vmm::Result<void> Cpu::Load(const vmm::CpuState& state) {
  vmm::XsaveArea area = state.xsave;
  if (FpuState(area).mxcsr() & ~TheHostFpu().mxcsr_mask) {
    return vmm::Fail(vmm::ExitCode::kEngineUnavailable,
                     "the guest has set a bit of MXCSR that this host's processor lacks");
  }
  ForgetCode();  // another engine may have run the guest since
  LoadRegisters(state);
  pvclock_->Restore(state.msr.kvm_wall_clock, state.msr.kvm_system_time);
  if (state.msr.apic_base == 0) {
    apic_->Reset();
    return {};
  }
  apic_->set_cr8(static_cast<uint8_t>(state.cr8));
  return apic_->Load(state.apic, state.msr.apic_base);
}

vmm::Result<void> Cpu::Save(vmm::CpuState& state) {
  TakeInitAndSipi();  // the saved form has no place for them
  std::copy_n(r, 16, state.gpr.begin());
  state.rip = r[kRip];
  state.rflags = Rflags();
  state.cr0 = cr0_;
  state.cr2 = cr2_;
  state.cr3 = cr3_;
  state.cr4 = cr4_;
  state.cr8 = apic_->cr8();
  state.xcr0 = xcr0_;
  state.dr = debug_.addresses();
  state.dr6 = debug_.dr6();
  state.dr7 = debug_.dr7();
  state.msr = msr_;
  state.msr.efer = efer_;
  state.msr.tsc = ReadTsc();
  state.msr.apic_base = apic_->apic_base();
  state.msr.kvm_wall_clock = pvclock_->wall_clock();
  state.msr.kvm_system_time = pvclock_->system_time();
  state.ldtr = ldtr_;
  state.tr = tr_;
  state.gdtr = gdtr_;
  state.idtr = idtr_;
  state.seg = seg_;
  state.xsave = fpu_;
  FpuState(state.xsave).Set<uint64_t>(FpuState::kXstateBv, vm_.parts().cpuid.xcr0_mask() | 3);
  FpuState(state.xsave).Set<uint64_t>(FpuState::kXstateBv + 8, 0);
  state.apic = apic_->Save();
  state.events = {};
  state.events.exception_pending = fault_.active;
  state.events.exception_vector = fault_.vector;
  state.events.exception_has_error = fault_.has_error;
  state.events.exception_error = fault_.error;
  state.events.interrupt_pending = acknowledged_vector_ >= 0;
  state.events.interrupt_vector = static_cast<uint8_t>(std::max(acknowledged_vector_, 0));
  state.events.sti_shadow = sti_shadow_;
  state.events.mov_ss_shadow = mov_ss_shadow_;
  state.events.nmi_pending = nmi_pending_ || apic_->HasNmi();
  state.events.nmi_masked = nmi_masked_;
  state.activity = wait_for_sipi_ ? vmm::Activity::kWaitForSipi
                   : halted_      ? vmm::Activity::kHalted
                                  : vmm::Activity::kRunning;
  return {};
}

}  // namespace bt
