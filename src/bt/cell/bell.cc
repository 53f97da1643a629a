#include "bt/cell/bell.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/core/base/types.h"

namespace bt {
namespace {

constexpr off_t kWord = vmm::kPageSize, kAll = 2 * vmm::kPageSize;

}  // namespace

std::unique_ptr<Bell> Bell::Create() {
  const int fd = memfd_create("vmm-bell", MFD_CLOEXEC);
  if (fd < 0) return nullptr;
  void* word = MAP_FAILED;
  if (ftruncate(fd, kAll) == 0)
    word = mmap(nullptr, kWord, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (word == MAP_FAILED) {
    close(fd);
    return nullptr;
  }
  return std::unique_ptr<Bell>(new Bell(fd, static_cast<std::atomic<uint32_t>*>(word)));
}

Bell::~Bell() {
  munmap(word_, kWord);
  close(fd_);
}

void Bell::Ring() {
  word_->store(1);
  if (!listening_.exchange(false)) return;
  const int error = errno;
  gone_.store(true);
  // Pages behind the end of a file are taken out of all address spaces. [ftruncate(2), mmap(2)]
  if (ftruncate(fd_, kWord) != 0) gone_.store(false);
  errno = error;
}

void Bell::Listen() {
  word_->store(0);
  if (gone_.exchange(false) && ftruncate(fd_, kAll) != 0) gone_.store(true);
  listening_.store(true);
}

}  // namespace bt
