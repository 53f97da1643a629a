// Everything that this program asks of the host's KVM, as one small interface, so that a host
// without KVM, with a busy, unreadable, slow or incomplete one can be played by a test.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvm/host_facts.h"

namespace kvm {

// Results are >= 0, or -errno. Threads: as the system calls behind it, so all of it from any
// thread.
class KvmApi {
 public:
  virtual ~KvmApi() = default;

  virtual int Open() = 0;  // /dev/kvm, read-write
  virtual void Close(int fd) = 0;

  // ioctl(2) on the system, VM or vCPU descriptor; `argument` is a number or an address.
  virtual int Ioctl(int fd, unsigned long request, uintptr_t argument) = 0;
  template <class T>
  int Ioctl(int fd, unsigned long request, T* argument) {
    return Ioctl(fd, request, reinterpret_cast<uintptr_t>(argument));
  }

  // The shared kvm_run page(s) of a vCPU; nullptr when the host refuses.
  virtual void* MapRun(int vcpu_fd, size_t size) = 0;
  virtual void UnmapRun(void* run, size_t size) = 0;

  // What explains a refusal: gathered on demand, since it reads files.
  virtual HostFacts Facts() = 0;
};

// The host's own KVM, or what OverrideKvmApi() put in its place.
KvmApi& Kvm();

// For test executables that link the whole program: `api` answers from now on. Call before main's
// work starts; `api` must live until the end.
void OverrideKvmApi(KvmApi& api);

}  // namespace kvm
