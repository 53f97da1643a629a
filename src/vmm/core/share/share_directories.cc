// Open directories and what is in them.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/core/share/share_parts.h"

namespace vmm {

int ShareServer::OpenDir(FuseRequest& request, FuseAnswer& answer) {
  const auto inode = inodes_.Open(request.header.nodeid);
  if (!inode) return inode.error();
  constexpr int kFlags = O_RDONLY | O_DIRECTORY;
  auto fd = host_.Reopen((*inode)->get(), kFlags);
  if (!fd) return fd.error();
  const auto handle = files_.Add(request.header.nodeid, kFlags, true, std::move(*fd));
  if (!handle) return handle.error();
  fuse_open_out out{};
  out.fh = *handle;
  if (options_.cache == ShareCache::kLong) out.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
  answer.Put(out);
  return 0;
}

// As many entries as there is room for. With `plus` each is looked up as well, but for the
// directory itself and the one above.
int ShareServer::List(FuseRequest& request, FuseAnswer& answer, bool plus) {
  fuse_read_in in;
  if (!request.arguments.Take(in)) return EINVAL;
  auto file = FileOf(in.fh, true);
  if (!file) return file.error();
  const int fd = file->second;
  OpenFile& open = *file->first;
  const std::lock_guard lock(open.stream_mutex);
  if (const auto there = open.stream.Seek(fd, in.offset); !there) return there.error();
  const uint64_t room = std::min<uint64_t>({in.size, answer.room(), kMaxWrite});
  const size_t head = plus ? sizeof(fuse_direntplus) : sizeof(fuse_dirent);
  for (;;) {
    const auto found = open.stream.Look(fd);
    if (!found) return answer.size() == 0 ? found.error() : 0;
    const DirectoryStream::Entry* entry = *found;
    if (entry == nullptr) return 0;
    const size_t size = FUSE_DIRENT_ALIGN(head + entry->name.size());
    if (size > room - answer.size()) return answer.size() == 0 ? EINVAL : 0;
    const bool is_dots = entry->name == "." || entry->name == "..";
    fuse_dirent dirent{};
    dirent.ino = entry->number;
    dirent.off = entry->next;
    dirent.namelen = static_cast<uint32_t>(entry->name.size());
    dirent.type = entry->type;
    // What is above the root is not for the client to know.
    if (is_dots && open.inode == InodeTable::kRoot) {
      const auto status = HostInodes::Stat(fd);
      if (status) dirent.ino = NumberFor(*status);
    }
    if (plus) {
      fuse_entry_out told{};
      if (const auto status = is_dots ? Errno(ENOENT) : HostInodes::StatChild(fd, entry->name)) {
        const auto inode = inodes_.Remember(open.inode, entry->name, *status, nullptr);
        if (inode) {
          told = EntryOf(*inode, *status);
          dirent.ino = told.attr.ino;
        }
      }
      answer.Put(told);
    }
    answer.Put(dirent);
    answer.PutBytes({reinterpret_cast<const uint8_t*>(entry->name.data()), entry->name.size()});
    constexpr std::array<uint8_t, 8> kZeros{};
    answer.PutBytes(std::span(kZeros).first(size - head - entry->name.size()));
    open.stream.Next();
  }
}

int ShareServer::ReadDir(FuseRequest& request, FuseAnswer& answer) {
  return List(request, answer, false);
}

int ShareServer::ReadDirPlus(FuseRequest& request, FuseAnswer& answer) {
  return List(request, answer, true);
}

int ShareServer::ReleaseDir(FuseRequest& request, FuseAnswer& answer) {
  return Release(request, answer);
}

int ShareServer::FSyncDir(FuseRequest& request, FuseAnswer&) {
  fuse_fsync_in in;
  if (!request.arguments.Take(in)) return EINVAL;
  const auto file = FileOf(in.fh, true);
  if (!file) return file.error();
  return fsync(file->second) == 0 ? 0 : errno;
}

}  // namespace vmm
