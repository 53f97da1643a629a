// Open files: their bytes.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "vmm/core/share/share_parts.h"

namespace vmm {
namespace {

constexpr uint64_t kMostOffset = INT64_MAX;
constexpr uint64_t kMostCopied = 64 << 20;  // bytes in a request

bool Writes(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY;
}

// Transfers what `pieces` hold by transfer(pieces, count, offset), in as many calls as that takes:
// the number of bytes, or -1 with errno if there was none.
template <class Transfer>
ssize_t TransferAll(std::vector<iovec>& pieces, uint64_t offset, const Transfer& transfer) {
  ssize_t done = 0;
  for (size_t next = 0; next < pieces.size();) {
    const auto count = static_cast<int>(std::min<size_t>(pieces.size() - next, IOV_MAX));
    const ssize_t got =
        transfer(&pieces[next], count, static_cast<off_t>(offset + static_cast<uint64_t>(done)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return done == 0 ? -1 : done;
    if (got == 0) break;
    done += got;
    for (auto left = static_cast<size_t>(got); left != 0;) {
      const size_t part = std::min(left, pieces[next].iov_len);
      pieces[next].iov_base = static_cast<uint8_t*>(pieces[next].iov_base) + part;
      pieces[next].iov_len -= part;
      left -= part;
      if (pieces[next].iov_len == 0) ++next;
    }
  }
  return done;
}

}  // namespace

int ShareServer::OpenIt(FuseRequest& request, FuseAnswer& answer) {
  fuse_open_in in;
  if (!request.arguments.Take(in)) return EINVAL;
  const auto wanted = static_cast<int>(in.flags);
  if (options_.read_only && (Writes(wanted) || (wanted & O_TRUNC) != 0)) return EROFS;
  const auto inode = inodes_.Open(request.header.nodeid);
  if (!inode) return inode.error();
  const int flags = wanted & kKeptOpenFlags;
  auto fd = host_.Reopen((*inode)->get(), flags | (wanted & O_TRUNC));
  if (!fd) return fd.error();
  const auto status = HostInodes::Stat(fd->get());
  if (!status) return status.error();
  if (S_ISDIR(status->stx_mode)) return EISDIR;
  if ((wanted & O_TRUNC) != 0 && (in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0) {
    if (const int error = DropPrivileges(fd->get())) return error;
  }
  const auto handle = files_.Add(request.header.nodeid, flags, false, std::move(*fd));
  if (!handle) return handle.error();
  fuse_open_out out{};
  out.fh = *handle;
  out.open_flags = OpenFlags(flags);
  answer.Put(out);
  return 0;
}

// What is there already is opened as OpenIt() does it: only if it is a file.
int ShareServer::Create(FuseRequest& request, FuseAnswer& answer) {
  fuse_create_in in;
  std::string_view word;
  if (!request.arguments.Take(in) || !request.arguments.TakeName(word)) return EINVAL;
  if (!MayHaveMode(in.mode & 07777)) return EPERM;
  const std::string name(word);
  const auto wanted = static_cast<int>(in.flags);
  const int flags = wanted & kKeptOpenFlags;
  const auto directory = inodes_.Open(request.header.nodeid);
  if (!directory) return directory.error();
  const int directory_fd = (*directory)->get();
  UniqueFd fd;
  int error = AsCaller(request, [&] {
    fd = UniqueFd(openat(directory_fd, name.c_str(),
                         flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY,
                         in.mode & 07777));
    return fd ? 0 : errno;
  });
  const bool is_new = error == 0;
  if (is_new) {
    GiveMode(fd.get(), in.mode);
  } else if (error != EEXIST || (wanted & O_EXCL) != 0) {
    return error;
  }
  const auto entry = EntryAt(request.header.nodeid, directory_fd, name);
  if (!entry) return entry.error();
  const auto fail = [&](int why) {
    inodes_.Forget(entry->nodeid, 1);
    return why;
  };
  if (!is_new) {
    const auto inode = inodes_.Open(entry->nodeid);
    if (!inode) return fail(inode.error());
    if (S_ISDIR(entry->attr.mode)) return fail(EISDIR);
    auto opened = host_.Reopen((*inode)->get(), flags | (wanted & O_TRUNC));
    if (!opened) return fail(opened.error());
    fd = std::move(*opened);
  }
  const auto handle = files_.Add(entry->nodeid, flags, false, std::move(fd));
  if (!handle) return fail(handle.error());
  fuse_open_out out{};
  out.fh = *handle;
  out.open_flags = OpenFlags(flags);
  answer.Put(*entry);
  answer.Put(out);
  return 0;
}

int ShareServer::Read(FuseRequest& request, FuseAnswer& answer) {
  fuse_read_in in;
  if (!request.arguments.Take(in) || in.offset > kMostOffset) return EINVAL;
  const auto file = FileOf(in.fh);
  if (!file) return file.error();
  std::vector<iovec> pieces;
  answer.GatherData(std::min<uint64_t>({in.size, answer.room(), kMaxWrite}), pieces);
  const int fd = file->second;
  const ssize_t got =
      TransferAll(pieces, in.offset, [fd](const iovec* first, int count, off_t offset) {
        return preadv(fd, first, count, offset);
      });
  if (got < 0) return errno;
  answer.HasData(static_cast<uint64_t>(got));
  return 0;
}

int ShareServer::Write(FuseRequest& request, FuseAnswer& answer) {
  fuse_write_in in;
  if (!request.arguments.Take(in) || in.offset > kMostOffset) return EINVAL;
  constexpr uint64_t kHead = sizeof(fuse_in_header) + sizeof in;
  if (in.size > kMaxWrite || kHead + in.size > request.header.len) return EINVAL;
  const auto file = FileOf(in.fh);
  if (!file) return file.error();
  const int fd = file->second;
  if (!Writes(file->first->flags)) return EBADF;
  if ((in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0) {
    if (const int error = DropPrivileges(fd)) return error;
  }
  std::vector<iovec> pieces;
  request.buffers.GatherRequest(kHead, in.size, pieces);
  // Pages that the guest writes back have their place; what it appends goes where the end is now.
  const bool appends = (in.flags & O_APPEND) != 0 && (in.write_flags & FUSE_WRITE_CACHE) == 0;
  const ssize_t written =
      TransferAll(pieces, in.offset, [&](const iovec* first, int count, off_t offset) {
        return pwritev2(fd, first, count, offset, appends ? RWF_APPEND : 0);
      });
  if (written < 0) return errno;
  fuse_write_out out{};
  out.size = static_cast<uint32_t>(written);
  answer.Put(out);
  return 0;
}

// At a close(2) of the guest's: what the host has to say at its own.
int ShareServer::Flush(FuseRequest& request, FuseAnswer&) {
  fuse_flush_in in;
  if (!request.arguments.Take(in)) return EINVAL;
  const auto file = FileOf(in.fh);
  if (!file) return file.error();
  if (!Writes(file->first->flags)) return 0;
  const int copy = fcntl(file->second, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return errno;
  return close(copy) == 0 ? 0 : errno;
}

int ShareServer::Release(FuseRequest& request, FuseAnswer&) {
  fuse_release_in in;
  if (!request.arguments.Take(in)) return EINVAL;
  files_.Remove(in.fh);
  return 0;
}

int ShareServer::FSync(FuseRequest& request, FuseAnswer&) {
  fuse_fsync_in in;
  if (!request.arguments.Take(in)) return EINVAL;
  const auto file = FileOf(in.fh);
  if (!file) return file.error();
  const bool data_only = (in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0;
  return (data_only ? fdatasync(file->second) : fsync(file->second)) == 0 ? 0 : errno;
}

int ShareServer::FAllocate(FuseRequest& request, FuseAnswer&) {
  fuse_fallocate_in in;
  if (!request.arguments.Take(in) || in.offset > kMostOffset || in.length > kMostOffset) {
    return EINVAL;
  }
  constexpr uint32_t kModes = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  if ((in.mode & ~kModes) != 0) return EOPNOTSUPP;
  const auto file = FileOf(in.fh);
  if (!file) return file.error();
  if (const int error = DropPrivileges(file->second)) return error;
  return fallocate(file->second, static_cast<int>(in.mode), static_cast<off_t>(in.offset),
                   static_cast<off_t>(in.length)) == 0
             ? 0
             : errno;
}

int ShareServer::LSeek(FuseRequest& request, FuseAnswer& answer) {
  fuse_lseek_in in;
  if (!request.arguments.Take(in) || in.offset > kMostOffset) return EINVAL;
  if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE) return EINVAL;
  const auto file = FileOf(in.fh);
  if (!file) return file.error();
  const off_t found =
      lseek(file->second, static_cast<off_t>(in.offset), static_cast<int>(in.whence));
  if (found < 0) return errno;
  fuse_lseek_out out{};
  out.offset = static_cast<uint64_t>(found);
  answer.Put(out);
  return 0;
}

int ShareServer::CopyFileRange(FuseRequest& request, FuseAnswer& answer) {
  fuse_copy_file_range_in in;
  if (!request.arguments.Take(in) || in.off_in > kMostOffset || in.off_out > kMostOffset) {
    return EINVAL;
  }
  if (in.flags != 0) return EINVAL;
  const auto from = FileOf(in.fh_in), to = FileOf(in.fh_out);
  if (!from) return from.error();
  if (!to) return to.error();
  if (const int error = DropPrivileges(to->second)) return error;
  auto in_offset = static_cast<off64_t>(in.off_in), out_offset = static_cast<off64_t>(in.off_out);
  const ssize_t copied = copy_file_range(from->second, &in_offset, to->second, &out_offset,
                                         std::min(in.len, kMostCopied), 0);
  if (copied < 0) return errno;
  fuse_write_out out{};
  out.size = static_cast<uint32_t>(copied);
  answer.Put(out);
  return 0;
}

}  // namespace vmm
