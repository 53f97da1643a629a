#include "kvm/host_kvm_api.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace kvm {
namespace {
KvmApi* override_api = nullptr;
}  // namespace

KvmApi& Kvm() {
  static HostKvmApi host;
  return override_api != nullptr ? *override_api : host;
}

void OverrideKvmApi(KvmApi& api) {
  override_api = &api;
}

int HostKvmApi::Open() {
  const int fd = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  return fd >= 0 ? fd : -errno;
}

void HostKvmApi::Close(int fd) {
  ::close(fd);
}

int HostKvmApi::Ioctl(int fd, unsigned long request, uintptr_t argument) {
  const int result = ::ioctl(fd, request, argument);
  return result >= 0 ? result : -errno;
}

void* HostKvmApi::MapRun(int vcpu_fd, size_t size) {
  void* run = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
  return run != MAP_FAILED ? run : nullptr;
}

void HostKvmApi::UnmapRun(void* run, size_t size) {
  ::munmap(run, size);
}

HostFacts HostKvmApi::Facts() {
  return GatherHostFacts();
}

}  // namespace kvm
