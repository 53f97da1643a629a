// The descriptor of a KVM virtual machine: split irqchip, no memory, no vCPU yet.
#pragma once

#include <memory>

#include "kvm/kvm_host.h"

namespace kvm {

// Threads: the ioctls behind it may be issued from any thread.
class VmFd {
 public:
  // GSIs below this are the IOAPIC's pins. [KVM API] KVM_CAP_SPLIT_IRQCHIP
  static constexpr unsigned kIoapicPins = 24;

  static KvmResult<std::unique_ptr<VmFd>> Create(KvmHost& host);
  ~VmFd();
  VmFd(const VmFd&) = delete;
  VmFd& operator=(const VmFd&) = delete;

  KvmHost& host() const { return host_; }
  int fd() const { return fd_; }
  template <class T>
  int Ioctl(unsigned long request, T argument) const {
    return host_.api().Ioctl(fd_, request, argument);
  }

  // Guest-physical [start, start+size) is `memory`; size 0 removes the slot. Writes to a read-only
  // one leave the guest as accesses to a device. 0 or -errno.
  int SetMemory(unsigned slot, uint64_t start, uint64_t size, void* memory,
                bool read_only = false) const;

 private:
  VmFd(KvmHost& host, int fd) : host_(host), fd_(fd) {}
  KvmHost& host_;
  int fd_;
};

}  // namespace kvm
