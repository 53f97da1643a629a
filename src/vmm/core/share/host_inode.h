// Files of the host by descriptors that name them and open nothing: what they are, what is in
// them, and how such a descriptor becomes one that reads or writes.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "vmm/core/base/result.h"
#include "vmm/core/host/unique_fd.h"

namespace vmm {

template <class T>
using OrErrno = tl::expected<T, int>;
inline tl::unexpected<int> Errno(int error) {
  return tl::unexpected<int>(error);
}

using SharedFd = std::shared_ptr<const UniqueFd>;

// One file as long as it lives. A number that the host gives to another file after its end has
// another time of birth, where the file system tells it.
struct InodeKey {
  uint64_t device = 0;  // 0: that of the share's root
  uint64_t number = 0;
  int64_t born = 0;  // seconds
  uint32_t born_ns = 0;
  friend bool operator==(const InodeKey&, const InodeKey&) = default;
  struct Hash {
    size_t operator()(const InodeKey& key) const {
      return std::hash<uint64_t>()(key.number ^ key.device * 0x9E3779B97F4A7C15 ^
                                   uint64_t{key.born_ns} << 32);
    }
  };
};

// Descriptors are of the kind O_PATH unless it says otherwise. A symbolic link is never followed,
// and no name has more than one component, so nothing leads out of a directory. Errors are errno.
class HostInodes {
 public:
  // The directory that is the root; may be behind symbolic links.
  static Result<HostInodes> OpenRoot(const std::string& path);

  const SharedFd& root() const { return root_; }
  InodeKey KeyOf(const struct statx& status) const;

  static OrErrno<struct statx> Stat(int fd);
  static OrErrno<struct statx> StatChild(int directory, const std::string& name);
  static OrErrno<SharedFd> OpenChild(int directory, const std::string& name, bool is_directory);
  // Regular files and directories only; never a device, a pipe or a link.
  OrErrno<UniqueFd> Reopen(int fd, int flags) const;
  OrErrno<void> ChangeMode(int fd, mode_t mode) const;
  OrErrno<void> Link(int fd, int directory, const std::string& name) const;
  bool CheckAccess(int fd, int mask) const;
  // "/proc/self/fd/7", for calls that take paths only.
  static std::string PathOf(int fd);

 private:
  SharedFd root_;
  UniqueFd proc_;  // /proc/self/fd
  uint64_t root_device_ = 0;
  bool has_births_ = false;  // the file system's times of birth stay
};

}  // namespace vmm
