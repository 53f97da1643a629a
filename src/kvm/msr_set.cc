#include "kvm/msr_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "kvm/flexible_list.h"

namespace kvm {
namespace {

using vmm::CpuState;

constexpr uint32_t kTsc = 0x10, kTscDeadline = 0x6e0;
constexpr std::array<uint32_t, 11> kMtrrFixed = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                                 0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
constexpr uint32_t kMtrrVariable = 0x200;  // base, mask, base, mask ...

// Calls visit(index, value) for each register, with a reference into `state`. TSC before
// TSC_ADJUST: either order is right for the host, which moves neither when it writes the other.
template <class State, class Visit>
void ForEach(State& state, Visit visit) {
  auto& msr = state.msr;
  visit(0xc0000081, msr.star);
  visit(0xc0000082, msr.lstar);
  visit(0xc0000083, msr.cstar);
  visit(0xc0000084, msr.sfmask);
  visit(0xc0000102, msr.kernel_gs_base);
  visit(0xc0000103, msr.tsc_aux);
  visit(0x174, msr.sysenter_cs);
  visit(0x175, msr.sysenter_esp);
  visit(0x176, msr.sysenter_eip);
  visit(0x277, msr.pat);
  visit(0x1a0, msr.misc_enable);
  visit(0x48, msr.spec_ctrl);
  visit(kTsc, msr.tsc);
  visit(0x3b, msr.tsc_adjust);
  visit(0x2ff, msr.mtrr_def_type);
  for (size_t i = 0; i < kMtrrFixed.size(); ++i) visit(kMtrrFixed[i], msr.mtrr_fixed[i]);
  for (size_t i = 0; i < msr.mtrr_variable.size(); ++i)
    visit(kMtrrVariable + static_cast<uint32_t>(i), msr.mtrr_variable[i]);
  visit(0xda0, msr.xss);
  visit(0x4b564d00, msr.kvm_wall_clock);
  visit(0x4b564d01, msr.kvm_system_time);
  visit(0x4b564d02, msr.kvm_async_pf);
  visit(0x4b564d03, msr.kvm_steal_time);
  visit(0x4b564d04, msr.kvm_pv_eoi);
  visit(0x4b564d05, msr.kvm_poll_control);
}

class Transfer {
 public:
  void Add(uint32_t index, uint64_t value) {
    kvm_msr_entry& entry = list_->entries[list_->nmsrs++];
    entry.index = index;
    entry.data = value;
  }
  unsigned count() const { return list_->nmsrs; }
  const kvm_msr_entry& operator[](unsigned i) const { return list_->entries[i]; }
  kvm_msrs* get() { return list_.get(); }

 private:
  static constexpr unsigned kMax = 64;
  FlexibleList<kvm_msrs, kvm_msr_entry> list_{kMax};
};

// KVM lets some registers be read but not written when the guest's CPUID lacks them: no harm is
// done when the value stands there already.
bool HasAlready(const VcpuFd& vcpu, const kvm_msr_entry& wanted) {
  Transfer one;
  one.Add(wanted.index, 0);
  return vcpu.Ioctl(KVM_GET_MSRS, one.get()) == 1 && one[0].data == wanted.data;
}

vmm::Result<void> Send(const VcpuFd& vcpu, const Transfer& all) {
  for (unsigned next = 0; next < all.count();) {
    Transfer rest;
    for (unsigned i = next; i < all.count(); ++i) rest.Add(all[i].index, all[i].data);
    const int done = vcpu.Ioctl(KVM_SET_MSRS, rest.get());  // stops at the first that it refuses
    if (done < 0) return vmm::FailErrno(vmm::ExitCode::kEngineFailed, "KVM_SET_MSRS", -done);
    next += done;
    if (next >= all.count()) break;
    const kvm_msr_entry& refused = all[next++];
    if (HasAlready(vcpu, refused)) continue;
    return vmm::Fail(vmm::ExitCode::kEngineFailed,
                     fmt::format("KVM refuses {:#x} in model-specific register {:#x}",
                                 uint64_t{refused.data}, uint32_t{refused.index}));
  }
  return {};
}

}  // namespace

MsrSet MsrSet::Probe(const VcpuFd& vcpu) {
  MsrSet set;
  const auto ask = [&](uint32_t index) {
    Transfer one;
    one.Add(index, 0);
    if (vcpu.Ioctl(KVM_GET_MSRS, one.get()) == 1) set.indices_.push_back(index);
  };
  const CpuState state;
  ForEach(state, [&](uint32_t index, uint64_t) { ask(index); });
  ask(kTscDeadline);
  std::sort(set.indices_.begin(), set.indices_.end());
  return set;
}

bool MsrSet::Has(uint32_t index) const {
  return std::binary_search(indices_.begin(), indices_.end(), index);
}

vmm::Result<void> MsrSet::Save(const VcpuFd& vcpu, CpuState& state) const {
  Transfer transfer;
  ForEach(state, [&](uint32_t index, uint64_t) {
    if (Has(index)) transfer.Add(index, 0);
  });
  if (Has(kTscDeadline)) transfer.Add(kTscDeadline, 0);
  const int done = vcpu.Ioctl(KVM_GET_MSRS, transfer.get());
  if (done < 0) return vmm::FailErrno(vmm::ExitCode::kEngineFailed, "KVM_GET_MSRS", -done);
  if (static_cast<unsigned>(done) != transfer.count())
    return vmm::Fail(vmm::ExitCode::kEngineFailed,
                     fmt::format("KVM does not show model-specific register {:#x} any more",
                                 uint32_t{transfer[done].index}));
  unsigned next = 0;
  ForEach(state, [&](uint32_t index, uint64_t& value) {
    if (Has(index)) value = transfer[next++].data;
  });
  if (Has(kTscDeadline)) state.apic.tsc_deadline = transfer[next].data;
  return {};
}

vmm::Result<void> MsrSet::Load(const VcpuFd& vcpu, const CpuState& state) const {
  Transfer transfer;
  ForEach(state, [&](uint32_t index, uint64_t value) {
    if (Has(index)) transfer.Add(index, value);
  });
  return Send(vcpu, transfer);
}

vmm::Result<void> MsrSet::LoadChanged(const VcpuFd& vcpu, const CpuState& before,
                                      const CpuState& after) const {
  std::vector<uint64_t> old;
  ForEach(before, [&](uint32_t, uint64_t value) { old.push_back(value); });
  Transfer transfer;
  size_t i = 0;
  ForEach(after, [&](uint32_t index, uint64_t value) {
    if (old[i++] != value && index != kTsc && Has(index)) transfer.Add(index, value);
  });
  return Send(vcpu, transfer);
}

vmm::Result<void> MsrSet::LoadTscDeadline(const VcpuFd& vcpu, uint64_t value) const {
  if (!Has(kTscDeadline)) return {};
  Transfer transfer;
  transfer.Add(kTscDeadline, value);
  return Send(vcpu, transfer);
}

}  // namespace kvm
