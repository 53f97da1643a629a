// What is known of a file besides its bytes: attributes, permissions, extended attributes.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/core/share/share_parts.h"

namespace vmm {
namespace {

constexpr size_t kMostXattr = 64 << 10;  // bytes of a value, or of all names. [xattr(7)]

// The other kinds mean something to the host: its ACLs, its security modules, its overlays.
bool IsOurs(std::string_view name) {
  return name.starts_with("user.");
}

timespec TimeOf(uint64_t seconds, uint32_t nanoseconds, bool given, bool now) {
  timespec time{};
  time.tv_sec = static_cast<time_t>(seconds);
  time.tv_nsec = !given ? UTIME_OMIT : now ? UTIME_NOW : static_cast<long>(nanoseconds);
  return time;
}

}  // namespace

int ShareServer::GetAttr(FuseRequest& request, FuseAnswer& answer) {
  fuse_getattr_in in;
  if (!request.arguments.Take(in)) return EINVAL;
  OrErrno<struct statx> status = Errno(EBADF);
  if ((in.getattr_flags & FUSE_GETATTR_FH) != 0) {
    if (const auto file = FileOf(in.fh)) status = HostInodes::Stat(file->second);
  }
  if (!status) {
    const auto fd = inodes_.Open(request.header.nodeid);
    if (!fd) return fd.error();
    status = HostInodes::Stat((*fd)->get());
  }
  if (!status) return status.error();
  fuse_attr_out out{};
  SetValidity(out.attr_valid);
  out.attr = AttributesOf(*status);
  answer.Put(out);
  return 0;
}

// As the host's kernel does it for whoever has no rights above the usual. [write(2)]
int ShareServer::DropPrivileges(int fd) const {
  const auto status = HostInodes::Stat(fd);
  if (!status) return status.error();
  const mode_t mode = status->stx_mode;
  if (!S_ISREG(mode)) return 0;
  mode_t drop = mode & S_ISUID;
  if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) drop |= S_ISGID;
  if (drop == 0) return 0;
  const auto changed = host_.ChangeMode(fd, mode & 07777 & ~drop);
  // Of a file that isn't ours the host's kernel does it.
  return changed || changed.error() == EPERM ? 0 : changed.error();
}

int ShareServer::ChangeOwner(const fuse_setattr_in& in, int path_fd) const {
  constexpr uid_t kSame = UINT32_MAX;
  uid_t user = kSame;
  gid_t group = kSame;
  if ((in.valid & FATTR_UID) != 0) {
    const auto host = users_.ToHost(in.uid);
    if (!host) return EPERM;
    user = *host;
  }
  if ((in.valid & FATTR_GID) != 0) {
    const auto host = groups_.ToHost(in.gid);
    if (!host) return EPERM;
    group = *host;
  }
  return fchownat(path_fd, "", user, group, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

int ShareServer::ChangeSize(uint64_t, const fuse_setattr_in& in, int path_fd) {
  if (in.size > INT64_MAX) return EINVAL;
  const auto size = static_cast<off_t>(in.size);
  if ((in.valid & FATTR_FH) != 0) {
    const auto file = FileOf(in.fh);
    if (file && (file->first->flags & O_ACCMODE) != O_RDONLY) {
      return ftruncate(file->second, size) == 0 ? 0 : errno;
    }
  }
  const auto status = HostInodes::Stat(path_fd);
  if (status && !S_ISREG(status->stx_mode)) return S_ISDIR(status->stx_mode) ? EISDIR : EINVAL;
  const auto fd = host_.Reopen(path_fd, O_WRONLY);
  if (!fd) return fd.error();
  return ftruncate(fd->get(), size) == 0 ? 0 : errno;
}

int ShareServer::SetAttr(FuseRequest& request, FuseAnswer& answer) {
  fuse_setattr_in in;
  if (!request.arguments.Take(in)) return EINVAL;
  const auto inode = inodes_.Open(request.header.nodeid);
  if (!inode) return inode.error();
  const int fd = (*inode)->get();
  const auto has = [&](uint32_t bits) { return (in.valid & bits) != 0; };
  if (has(FATTR_KILL_SUIDGID)) {
    if (const int error = DropPrivileges(fd)) return error;
  }
  if (has(FATTR_UID | FATTR_GID)) {
    if (const int error = ChangeOwner(in, fd)) return error;
  }
  if (has(FATTR_SIZE)) {
    if (const int error = ChangeSize(request.header.nodeid, in, fd)) return error;
  }
  if (has(FATTR_MODE)) {
    const auto before = HostInodes::Stat(fd);
    if (!before) return before.error();
    // What it has already may stay.
    const uint32_t new_bits = in.mode & 07777 & ~uint32_t{before->stx_mode};
    if (!MayHaveMode((before->stx_mode & S_IFMT) | new_bits)) return EPERM;
    if (const auto changed = host_.ChangeMode(fd, in.mode & 07777); !changed) {
      return changed.error();
    }
  }
  if (has(FATTR_ATIME | FATTR_MTIME)) {
    const std::array<timespec, 2> times = {
        TimeOf(in.atime, in.atimensec, has(FATTR_ATIME), has(FATTR_ATIME_NOW)),
        TimeOf(in.mtime, in.mtimensec, has(FATTR_MTIME), has(FATTR_MTIME_NOW))};
    if (utimensat(fd, "", times.data(), AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) return errno;
  }
  const auto status = HostInodes::Stat(fd);
  if (!status) return status.error();
  fuse_attr_out out{};
  SetValidity(out.attr_valid);
  out.attr = AttributesOf(*status);
  answer.Put(out);
  return 0;
}

int ShareServer::Access(FuseRequest& request, FuseAnswer&) {
  fuse_access_in in;
  if (!request.arguments.Take(in) || (in.mask & ~uint32_t{R_OK | W_OK | X_OK}) != 0) return EINVAL;
  if (options_.read_only && (in.mask & W_OK) != 0) return EROFS;
  const auto fd = inodes_.Open(request.header.nodeid);
  if (!fd) return fd.error();
  return host_.CheckAccess((*fd)->get(), static_cast<int>(in.mask)) ? 0 : errno;
}

int ShareServer::SetXattr(FuseRequest& request, FuseAnswer&) {
  // Without FUSE_SETXATTR_EXT it ends here.
  struct {
    uint32_t size, flags;
  } in;
  std::string_view name;
  if (!request.arguments.Take(in) || !request.arguments.TakeText(name)) return EINVAL;
  const auto value = request.arguments.rest();
  if (in.size > kMostXattr || in.size > value.size()) return EINVAL;
  if (!IsOurs(name)) return EOPNOTSUPP;
  const auto fd = inodes_.Open(request.header.nodeid);
  if (!fd) return fd.error();
  const std::string path = HostInodes::PathOf((*fd)->get());
  return setxattr(path.c_str(), std::string(name).c_str(), value.data(), in.size,
                  static_cast<int>(in.flags)) == 0
             ? 0
             : errno;
}

int ShareServer::GetXattr(FuseRequest& request, FuseAnswer& answer) {
  fuse_getxattr_in in;
  std::string_view name;
  if (!request.arguments.Take(in) || !request.arguments.TakeText(name)) return EINVAL;
  if (!IsOurs(name)) return EOPNOTSUPP;
  const auto fd = inodes_.Open(request.header.nodeid);
  if (!fd) return fd.error();
  std::vector<uint8_t> value(std::min<size_t>(in.size, kMostXattr));
  const ssize_t length = getxattr(HostInodes::PathOf((*fd)->get()).c_str(),
                                  std::string(name).c_str(), value.data(), value.size());
  if (length < 0) return errno;
  if (in.size == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<uint32_t>(length);
    answer.Put(out);
  } else {
    answer.PutBytes(std::span(value).first(static_cast<size_t>(length)));
  }
  return 0;
}

int ShareServer::ListXattr(FuseRequest& request, FuseAnswer& answer) {
  fuse_getxattr_in in;
  if (!request.arguments.Take(in)) return EINVAL;
  const auto fd = inodes_.Open(request.header.nodeid);
  if (!fd) return fd.error();
  std::vector<char> all(kMostXattr);
  const ssize_t length =
      listxattr(HostInodes::PathOf((*fd)->get()).c_str(), all.data(), all.size());
  if (length < 0) return errno;
  std::vector<uint8_t> ours;
  for (std::string_view rest(all.data(), static_cast<size_t>(length)); !rest.empty();) {
    const std::string_view name = rest.substr(0, rest.find('\0'));
    if (IsOurs(name)) {
      ours.insert(ours.end(), name.begin(), name.end());
      ours.push_back(0);
    }
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
  }
  if (in.size == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<uint32_t>(ours.size());
    answer.Put(out);
    return 0;
  }
  if (ours.size() > in.size) return ERANGE;
  answer.PutBytes(ours);
  return 0;
}

int ShareServer::RemoveXattr(FuseRequest& request, FuseAnswer&) {
  std::string_view name;
  if (!request.arguments.TakeText(name)) return EINVAL;
  if (!IsOurs(name)) return EOPNOTSUPP;
  const auto fd = inodes_.Open(request.header.nodeid);
  if (!fd) return fd.error();
  return removexattr(HostInodes::PathOf((*fd)->get()).c_str(), std::string(name).c_str()) == 0
             ? 0
             : errno;
}

}  // namespace vmm
