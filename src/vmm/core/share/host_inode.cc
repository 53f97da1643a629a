#include "vmm/core/share/host_inode.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstdio>

namespace vmm {
namespace {

uint64_t DeviceOf(const struct statx& status) {
  return makedev(status.stx_dev_major, status.stx_dev_minor);
}

OrErrno<struct statx> StatAt(int directory, const char* name, int flags) {
  struct statx status{};
  constexpr unsigned kWanted = STATX_BASIC_STATS | STATX_BTIME;
  if (statx(directory, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, kWanted, &status) !=
      0) {
    return Errno(errno);
  }
  return status;
}

std::string NumberOf(int fd) {
  return std::to_string(fd);
}

}  // namespace

Result<HostInodes> HostInodes::OpenRoot(const std::string& path) {
  HostInodes inodes;
  UniqueFd root(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) {
    return FailErrno(ExitCode::kFileMissing, fmt::format("can't open the directory {}", path),
                     errno);
  }
  inodes.proc_ = UniqueFd(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!inodes.proc_) {
    return FailErrno(ExitCode::kUnavailable,
                     "a shared directory needs /proc, and /proc/self/fd can't be opened", errno);
  }
  const auto status = Stat(root.get());
  if (!status) return FailErrno(ExitCode::kOsError, "can't look at " + path, status.error());
  inodes.root_device_ = DeviceOf(*status);
  // What overlayfs tells changes with a file's first write.
  struct statfs file_system{};
  inodes.has_births_ = fstatfs(root.get(), &file_system) == 0 &&
                       file_system.f_type != static_cast<long>(OVERLAYFS_SUPER_MAGIC);
  inodes.root_ = std::make_shared<const UniqueFd>(std::move(root));
  return inodes;
}

InodeKey HostInodes::KeyOf(const struct statx& status) const {
  const uint64_t device = DeviceOf(status);
  InodeKey key{.device = device == root_device_ ? 0 : device, .number = status.stx_ino};
  if (has_births_ && (status.stx_mask & STATX_BTIME) != 0) {
    key.born = status.stx_btime.tv_sec;
    key.born_ns = status.stx_btime.tv_nsec;
  }
  return key;
}

OrErrno<struct statx> HostInodes::Stat(int fd) {
  return StatAt(fd, "", AT_EMPTY_PATH);
}

OrErrno<struct statx> HostInodes::StatChild(int directory, const std::string& name) {
  return StatAt(directory, name.c_str(), 0);
}

OrErrno<SharedFd> HostInodes::OpenChild(int directory, const std::string& name, bool is_directory) {
  UniqueFd fd(openat(directory, name.c_str(),
                     O_PATH | O_NOFOLLOW | O_CLOEXEC | (is_directory ? O_DIRECTORY : 0)));
  if (!fd) return Errno(errno);
  return std::make_shared<const UniqueFd>(std::move(fd));
}

OrErrno<UniqueFd> HostInodes::Reopen(int fd, int flags) const {
  const auto status = Stat(fd);
  if (!status) return Errno(status.error());
  const bool is_directory = S_ISDIR(status->stx_mode);
  if (S_ISLNK(status->stx_mode)) return Errno(ELOOP);
  if (!is_directory && !S_ISREG(status->stx_mode)) return Errno(ENXIO);
  UniqueFd opened(openat(proc_.get(), NumberOf(fd).c_str(),
                         (flags & ~(O_NOFOLLOW | O_CREAT | O_EXCL)) | O_CLOEXEC | O_NOCTTY));
  if (!opened) return Errno(errno);
  return opened;
}

OrErrno<void> HostInodes::ChangeMode(int fd, mode_t mode) const {
  if (fchmodat(proc_.get(), NumberOf(fd).c_str(), mode, 0) != 0) return Errno(errno);
  return {};
}

OrErrno<void> HostInodes::Link(int fd, int directory, const std::string& name) const {
  if (linkat(proc_.get(), NumberOf(fd).c_str(), directory, name.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    return Errno(errno);
  }
  return {};
}

bool HostInodes::CheckAccess(int fd, int mask) const {
  return faccessat(proc_.get(), NumberOf(fd).c_str(), mask, AT_EACCESS) == 0;
}

std::string HostInodes::PathOf(int fd) {
  return "/proc/self/fd/" + NumberOf(fd);
}

}  // namespace vmm
