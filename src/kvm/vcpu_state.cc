#include "kvm/vcpu_state.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace kvm {
namespace {

using vmm::CpuState;
using vmm::ExitCode;
using vmm::Result;

template <class T>
Result<void> Call(const VcpuFd& vcpu, unsigned long request, const char* name, T* argument) {
  const int result = vcpu.Ioctl(request, argument);
  if (result >= 0) return {};
  return vmm::Fail(ExitCode::kEngineFailed,
                   std::string("KVM refuses ") + name + ": " + std::strerror(-result));
}

#define KVM_CALL(request, argument)                                                    \
  do {                                                                                 \
    if (auto called = Call(vcpu, request, #request, argument); !called) return called; \
  } while (false)

// The area that KVM moves may be larger than ours: components beyond (AMX) are not in our CPUID.
Result<void> SaveXsave(const VcpuFd& vcpu, vmm::XsaveArea& area) {
  const size_t size = vcpu.host().capabilities().xsave_size;
  if (size <= sizeof(kvm_xsave)) {
    static_assert(sizeof(kvm_xsave) == vmm::XsaveArea::kSize);
    KVM_CALL(KVM_GET_XSAVE, reinterpret_cast<kvm_xsave*>(area.bytes.data()));
    return {};
  }
  std::vector<uint8_t> large(size);
  KVM_CALL(KVM_GET_XSAVE2, large.data());
  std::memcpy(area.bytes.data(), large.data(), area.bytes.size());
  return {};
}

Result<void> LoadXsave(const VcpuFd& vcpu, const vmm::XsaveArea& area) {
  const size_t size = vcpu.host().capabilities().xsave_size;
  std::vector<uint8_t> large(std::max(size, area.bytes.size()));
  std::memcpy(large.data(), area.bytes.data(), area.bytes.size());
  KVM_CALL(KVM_SET_XSAVE, large.data());
  return {};
}

}  // namespace

Result<void> SaveState(const VcpuFd& vcpu, const MsrSet& msrs, CpuState& state,
                       kvm_vcpu_events* raw_events) {
  // First: it lets a pending INIT or SIPI take effect, which changes the rest.
  kvm_mp_state mp{};
  KVM_CALL(KVM_GET_MP_STATE, &mp);
  state.activity = ActivityFromKvm(mp.mp_state);

  kvm_regs regs{};
  KVM_CALL(KVM_GET_REGS, &regs);
  FromKvm(regs, state);
  kvm_sregs sregs{};
  KVM_CALL(KVM_GET_SREGS, &sregs);
  FromKvm(sregs, state);
  if (auto saved = SaveXsave(vcpu, state.xsave); !saved) return saved;
  kvm_xcrs xcrs{};
  KVM_CALL(KVM_GET_XCRS, &xcrs);
  for (unsigned i = 0; i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; ++i)
    if (xcrs.xcrs[i].xcr == 0) state.xcr0 = xcrs.xcrs[i].value;
  kvm_debugregs debugregs{};
  KVM_CALL(KVM_GET_DEBUGREGS, &debugregs);
  FromKvm(debugregs, state);
  if (auto saved = msrs.Save(vcpu, state); !saved) return saved;
  kvm_lapic_state lapic{};
  KVM_CALL(KVM_GET_LAPIC, &lapic);
  FromKvm(lapic, state.apic);
  kvm_vcpu_events events{};
  KVM_CALL(KVM_GET_VCPU_EVENTS, &events);
  state.events = FromKvm(events);
  if (raw_events != nullptr) *raw_events = events;
  return {};
}

Result<void> LoadRescued(const VcpuFd& vcpu, const MsrSet& msrs, const CpuState& before,
                         const CpuState& after, const kvm_vcpu_events& events_before) {
  kvm_sregs sregs = ToKvmSregs(after);
  KVM_CALL(KVM_SET_SREGS, &sregs);
  kvm_regs regs = ToKvmRegs(after);
  KVM_CALL(KVM_SET_REGS, &regs);
  if (after.xsave.bytes != before.xsave.bytes) {
    if (auto loaded = LoadXsave(vcpu, after.xsave); !loaded) return loaded;
  }
  if (after.xcr0 != before.xcr0) {
    kvm_xcrs xcrs{};
    xcrs.nr_xcrs = 1;
    xcrs.xcrs[0].value = after.xcr0;
    KVM_CALL(KVM_SET_XCRS, &xcrs);
  }
  kvm_debugregs debugregs = ToKvmDebugregs(after);
  KVM_CALL(KVM_SET_DEBUGREGS, &debugregs);
  if (auto loaded = msrs.LoadChanged(vcpu, before, after); !loaded) return loaded;
  if (after.activity != before.activity) {
    kvm_mp_state mp{};
    mp.mp_state = ToKvm(after.activity);
    KVM_CALL(KVM_SET_MP_STATE, &mp);
  }
  // Last: KVM_SET_REGS drops a pending exception. An NMI under injection stays one.
  kvm_vcpu_events events = ToKvmEvents(after.events);
  events.flags = KVM_VCPUEVENT_VALID_SHADOW;
  events.nmi = events_before.nmi;
  if (!events_before.nmi.injected) events.nmi.masked = after.events.nmi_masked;
  KVM_CALL(KVM_SET_VCPU_EVENTS, &events);
  vcpu.run().ready_for_interrupt_injection = 0;
  return {};
}

Result<void> LoadState(const VcpuFd& vcpu, const MsrSet& msrs, const CpuState& state) {
  // Control registers and APIC base first: the rest is judged by them.
  kvm_sregs sregs = ToKvmSregs(state);
  KVM_CALL(KVM_SET_SREGS, &sregs);
  kvm_regs regs = ToKvmRegs(state);
  KVM_CALL(KVM_SET_REGS, &regs);
  if (auto loaded = LoadXsave(vcpu, state.xsave); !loaded) return loaded;
  kvm_xcrs xcrs{};
  xcrs.nr_xcrs = 1;
  xcrs.xcrs[0].value = state.xcr0;
  KVM_CALL(KVM_SET_XCRS, &xcrs);
  kvm_debugregs debugregs = ToKvmDebugregs(state);
  KVM_CALL(KVM_SET_DEBUGREGS, &debugregs);
  if (auto loaded = msrs.Load(vcpu, state); !loaded) return loaded;
  kvm_lapic_state lapic = ToKvmLapic(state.apic);
  KVM_CALL(KVM_SET_LAPIC, &lapic);
  if (auto loaded = msrs.LoadTscDeadline(vcpu, state.apic.tsc_deadline); !loaded) return loaded;
  kvm_mp_state mp{};
  mp.mp_state = ToKvm(state.activity);
  KVM_CALL(KVM_SET_MP_STATE, &mp);
  // Last: KVM_SET_REGS drops a pending exception.
  kvm_vcpu_events events = ToKvmEvents(state.events);
  KVM_CALL(KVM_SET_VCPU_EVENTS, &events);
  // What the page said before belongs to the old state.
  vcpu.run().ready_for_interrupt_injection = 0;
  return {};
}

}  // namespace kvm
