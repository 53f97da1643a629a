#include "vmm/core/block/image_lock.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <thread>

namespace vmm {
namespace {

constexpr off_t kHeldBase = 100;
constexpr off_t kUnsharedBase = 200;

// Rights by the number of their byte.
enum Right : unsigned { kConsistentRead = 0, kWrite = 1, kResize = 3 };

constexpr unsigned Bit(Right right) {
  return 1U << right;
}
constexpr unsigned kRights[] = {kConsistentRead, kWrite, kResize};

// The kernel closes what a program's io_uring had a while after it has reported the program's end.
constexpr std::chrono::milliseconds kPatience{1000}, kPause{10};

struct flock ByteLock(short type, off_t byte) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

const char* NameOf(unsigned right) {
  return right == kConsistentRead ? "read" : right == kWrite ? "write" : "resize";
}

// Does another open file have a lock on the byte?
Result<bool> IsLocked(int fd, off_t byte) {
  struct flock lock = ByteLock(F_WRLCK, byte);
  if (fcntl(fd, F_OFD_GETLK, &lock) != 0) return false;
  return lock.l_type != F_UNLCK;
}

}  // namespace

Result<void> TryToLockImage(int fd, bool for_write, const std::string& name) {
  const unsigned held =
      for_write ? Bit(kConsistentRead) | Bit(kWrite) | Bit(kResize) : Bit(kConsistentRead);
  const unsigned unshared = Bit(kWrite) | Bit(kResize);
  // First take, then look, so that of two at once at least one sees the other.
  for (const unsigned right : kRights) {
    for (const auto& [bits, base] : {std::pair{held, kHeldBase}, {unshared, kUnsharedBase}}) {
      if ((bits & (1U << right)) == 0) continue;
      struct flock lock = ByteLock(F_RDLCK, base + right);
      if (fcntl(fd, F_OFD_SETLK, &lock) == 0) continue;
      if (errno == EAGAIN || errno == EACCES) {
        return Fail(ExitCode::kImageLocked,
                    fmt::format("{} is in use by another program; fix: end that program", name));
      }
      return {};
    }
  }
  for (const unsigned right : kRights) {
    const bool refused = (held & (1U << right)) != 0 && *IsLocked(fd, kUnsharedBase + right);
    const bool used = (unshared & (1U << right)) != 0 && *IsLocked(fd, kHeldBase + right);
    if (!refused && !used) continue;
    return Fail(ExitCode::kImageLocked,
                fmt::format("{} is in use by another program ({}); fix: end that program", name,
                            refused ? fmt::format("it allows nobody else to {}", NameOf(right))
                                    : fmt::format("it may {} the image", NameOf(right))));
  }
  return {};
}

Result<void> LockImage(int fd, bool for_write, const std::string& name) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    auto locked = TryToLockImage(fd, for_write, name);
    if (locked || std::chrono::steady_clock::now() >= end) return locked;
    UnlockImage(fd);  // two that wait must not keep each other waiting
    std::this_thread::sleep_for(kPause);
  }
}

void UnlockImage(int fd) {
  struct flock all = ByteLock(F_UNLCK, kHeldBase);
  all.l_len = 2 * (kUnsharedBase - kHeldBase);
  fcntl(fd, F_OFD_SETLK, &all);
}

}  // namespace vmm
