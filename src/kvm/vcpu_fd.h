// The descriptor of one KVM vCPU with its shared kvm_run page.
#pragma once

#include <atomic>
#include <memory>

#include "kvm/kvm_host.h"
#include "kvm/kvm_uapi.h"
#include "kvm/vm_fd.h"
#include "vmm/core/state/cpuid_policy.h"

namespace kvm {

// Threads: one at a time (KVM serializes vCPU ioctls); SetImmediateExit from any.
class VcpuFd {
 public:
  // Creates vCPU `id` and tells it its CPUID, which can't change after its first run.
  static KvmResult<std::unique_ptr<VcpuFd>> Create(VmFd& vm, unsigned id,
                                                   const vmm::CpuidPolicy& cpuid);
  ~VcpuFd();
  VcpuFd(const VcpuFd&) = delete;
  VcpuFd& operator=(const VcpuFd&) = delete;

  unsigned id() const { return id_; }
  KvmHost& host() const { return host_; }
  int fd() const { return fd_; }
  kvm_run& run() const { return *run_; }

  template <class T>
  int Ioctl(unsigned long request, T argument) const {
    return host_.api().Ioctl(fd_, request, argument);
  }
  // KVM_RUN: 0 with run().exit_reason, or -errno.
  int Run() const { return Ioctl(KVM_RUN, uintptr_t{0}); }

  // While set, KVM_RUN only completes what is half done and returns -EINTR.
  void SetImmediateExit(bool on) const {
    std::atomic_ref<uint8_t>(run_->immediate_exit).store(on ? 1 : 0);
  }

 private:
  VcpuFd(KvmHost& host, unsigned id, int fd) : host_(host), id_(id), fd_(fd) {}
  KvmHost& host_;
  unsigned id_;
  int fd_;
  kvm_run* run_ = nullptr;
};

}  // namespace kvm
