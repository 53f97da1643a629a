// The host's own KVM.
#pragma once

#include "kvm/kvm_api.h"

namespace kvm {

class HostKvmApi final : public KvmApi {
 public:
  int Open() override;
  void Close(int fd) override;
  using KvmApi::Ioctl;
  int Ioctl(int fd, unsigned long request, uintptr_t argument) override;
  void* MapRun(int vcpu_fd, size_t size) override;
  void UnmapRun(void* run, size_t size) override;
  HostFacts Facts() override;
};

}  // namespace kvm
