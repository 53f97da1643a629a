// /dev/kvm, opened, and what this host's KVM can do.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "kvm/kvm_api.h"
#include "kvm/refusal.h"
#include "vmm/core/state/cpuid_policy.h"

namespace kvm {

// Optional abilities; what is required is checked by Open(). [KVM API] 4.4, 8
struct Capabilities {
  bool emulation_failure_exit = false;  // KVM_CAP_EXIT_ON_EMULATION_FAILURE
  bool tsc_control = false;             // guest TSC may run at another frequency than the host's
  bool tsc_deadline = false;
  bool x2apic_ids = false;  // KVM_CAP_X2APIC_API: 32-bit APIC ids
  bool ioeventfd_any_length = false;
  bool guest_debug = false;              // KVM_CAP_SET_GUEST_DEBUG
  bool debug_blocks_interrupts = false;  // KVM_GUESTDBG_BLOCKIRQ
  size_t xsave_size = 4096;              // bytes of KVM_GET_XSAVE2
  size_t run_size = 0;                   // bytes to map a vCPU
  unsigned max_vcpus = 1;
};

// Threads: immutable once open. Outlives every VM made from it.
class KvmHost {
 public:
  static KvmResult<std::unique_ptr<KvmHost>> Open(KvmApi& api);
  ~KvmHost();
  KvmHost(const KvmHost&) = delete;
  KvmHost& operator=(const KvmHost&) = delete;

  KvmApi& api() const { return api_; }
  int fd() const { return fd_; }
  const Capabilities& capabilities() const { return capabilities_; }
  const std::vector<vmm::CpuidEntry>& supported_cpuid() const { return supported_cpuid_; }

  int Check(int capability) const;  // KVM_CHECK_EXTENSION; 0 = no

 private:
  KvmHost(KvmApi& api, int fd) : api_(api), fd_(fd) {}
  KvmResult<void> ReadCapabilities();
  KvmResult<void> ReadSupportedCpuid();

  KvmApi& api_;
  int fd_;
  Capabilities capabilities_;
  std::vector<vmm::CpuidEntry> supported_cpuid_;
};

}  // namespace kvm
