// Entries of directories: found, made, moved, removed.
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "vmm/core/share/share_parts.h"

namespace vmm {

fuse_entry_out ShareServer::EntryOf(uint64_t inode, const struct statx& status) const {
  fuse_entry_out entry{};
  entry.nodeid = inode;
  SetValidity(entry.entry_valid);
  SetValidity(entry.attr_valid);
  entry.attr = AttributesOf(status);
  return entry;
}

OrErrno<fuse_entry_out> ShareServer::EntryAt(uint64_t parent, int directory,
                                             const std::string& name, uint32_t mode) {
  auto fd = HostInodes::OpenChild(directory, name, false);
  if (!fd) return Errno(fd.error());
  GiveMode((*fd)->get(), mode);
  const auto status = HostInodes::Stat((*fd)->get());
  if (!status) return Errno(status.error());
  const auto inode = inodes_.Remember(parent, name, *status, std::move(*fd));
  if (!inode) return Errno(inode.error());
  return EntryOf(*inode, *status);
}

int ShareServer::Lookup(FuseRequest& request, FuseAnswer& answer) {
  std::string_view name;
  if (!request.arguments.TakeName(name)) return EINVAL;
  const auto directory = inodes_.Open(request.header.nodeid);
  if (!directory) return directory.error();
  const auto entry = EntryAt(request.header.nodeid, (*directory)->get(), std::string(name));
  if (!entry) return entry.error();
  answer.Put(*entry);
  return 0;
}

template <class Body>
int ShareServer::MakeEntry(FuseRequest& request, const std::string& name, uint32_t mode,
                           FuseAnswer& answer, const Body& body) {
  const auto directory = inodes_.Open(request.header.nodeid);
  if (!directory) return directory.error();
  const int fd = (*directory)->get();
  if (const int error = AsCaller(request, [&] { return body(fd) == 0 ? 0 : errno; })) return error;
  const auto entry = EntryAt(request.header.nodeid, fd, name, mode);
  if (!entry) return entry.error();
  answer.Put(*entry);
  return 0;
}

int ShareServer::Symlink(FuseRequest& request, FuseAnswer& answer) {
  std::string_view name, target;
  if (!request.arguments.TakeName(name) || !request.arguments.TakeText(target)) return EINVAL;
  const std::string link(name), to(target);
  return MakeEntry(request, link, 0, answer,
                   [&](int directory) { return symlinkat(to.c_str(), directory, link.c_str()); });
}

int ShareServer::ReadLink(FuseRequest& request, FuseAnswer& answer) {
  const auto fd = inodes_.Open(request.header.nodeid);
  if (!fd) return fd.error();
  std::array<uint8_t, PATH_MAX> target;
  const ssize_t length =
      readlinkat((*fd)->get(), "", reinterpret_cast<char*>(target.data()), target.size());
  if (length < 0) return errno == ENOENT ? EINVAL : errno;  // ENOENT: it is no link
  answer.PutBytes(std::span(target).first(static_cast<size_t>(length)));
  return 0;
}

// A node of a device would be one of the host.
int ShareServer::MkNod(FuseRequest& request, FuseAnswer& answer) {
  fuse_mknod_in in;
  std::string_view word;
  if (!request.arguments.Take(in) || !request.arguments.TakeName(word)) return EINVAL;
  const bool is_file = S_ISREG(in.mode) || (in.mode & S_IFMT) == 0;
  if (!is_file && !S_ISFIFO(in.mode) && !S_ISSOCK(in.mode)) return EPERM;
  if (!MayHaveMode(in.mode)) return EPERM;
  const std::string name(word);
  return MakeEntry(request, name, in.mode, answer,
                   [&](int directory) { return mknodat(directory, name.c_str(), in.mode, 0); });
}

int ShareServer::MkDir(FuseRequest& request, FuseAnswer& answer) {
  fuse_mkdir_in in;
  std::string_view word;
  if (!request.arguments.Take(in) || !request.arguments.TakeName(word)) return EINVAL;
  const std::string name(word);
  return MakeEntry(request, name, in.mode, answer, [&](int directory) {
    return mkdirat(directory, name.c_str(), in.mode & 07777);
  });
}

int ShareServer::Remove(FuseRequest& request, bool is_directory) {
  std::string_view word;
  if (!request.arguments.TakeName(word)) return EINVAL;
  const std::string name(word);
  const auto directory = inodes_.Open(request.header.nodeid);
  if (!directory) return directory.error();
  const int fd = (*directory)->get();
  if (const auto kept = inodes_.KeepOpen(fd, name); !kept) return kept.error();
  return unlinkat(fd, name.c_str(), is_directory ? AT_REMOVEDIR : 0) == 0 ? 0 : errno;
}

int ShareServer::Unlink(FuseRequest& request, FuseAnswer&) {
  return Remove(request, false);
}

int ShareServer::RmDir(FuseRequest& request, FuseAnswer&) {
  return Remove(request, true);
}

int ShareServer::Rename(FuseRequest& request, FuseAnswer&) {
  fuse_rename_in in;
  return request.arguments.Take(in) ? Move(request, in.newdir, 0) : EINVAL;
}

int ShareServer::Rename2(FuseRequest& request, FuseAnswer&) {
  fuse_rename2_in in;
  if (!request.arguments.Take(in)) return EINVAL;
  if ((in.flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) return EINVAL;
  return Move(request, in.newdir, in.flags);
}

int ShareServer::Move(FuseRequest& request, uint64_t to, unsigned flags) {
  std::string_view old_word, new_word;
  if (!request.arguments.TakeName(old_word) || !request.arguments.TakeName(new_word)) {
    return EINVAL;
  }
  const std::string old_name(old_word), new_name(new_word);
  const uint64_t from = request.header.nodeid;
  const auto old_directory = inodes_.Open(from), new_directory = inodes_.Open(to);
  if (!old_directory) return old_directory.error();
  if (!new_directory) return new_directory.error();
  const int old_fd = (*old_directory)->get(), new_fd = (*new_directory)->get();
  if (flags == 0) {
    if (const auto kept = inodes_.KeepOpen(new_fd, new_name); !kept) return kept.error();
  }
  if (renameat2(old_fd, old_name.c_str(), new_fd, new_name.c_str(), flags) != 0) return errno;
  if (const auto moved = HostInodes::StatChild(new_fd, new_name)) {
    inodes_.Moved(to, new_name, *moved);
  }
  if ((flags & RENAME_EXCHANGE) != 0) {
    if (const auto other = HostInodes::StatChild(old_fd, old_name)) {
      inodes_.Moved(from, old_name, *other);
    }
  }
  return 0;
}

int ShareServer::Link(FuseRequest& request, FuseAnswer& answer) {
  fuse_link_in in;
  std::string_view word;
  if (!request.arguments.Take(in) || !request.arguments.TakeName(word)) return EINVAL;
  const std::string name(word);
  const auto file = inodes_.Open(in.oldnodeid), directory = inodes_.Open(request.header.nodeid);
  if (!file) return file.error();
  if (!directory) return directory.error();
  const int fd = (*directory)->get();
  if (const auto linked = host_.Link((*file)->get(), fd, name); !linked) return linked.error();
  const auto entry = EntryAt(request.header.nodeid, fd, name);
  if (!entry) return entry.error();
  answer.Put(*entry);
  return 0;
}

}  // namespace vmm
