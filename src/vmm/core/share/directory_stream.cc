#include "vmm/core/share/directory_stream.h"

#include <dirent.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace vmm {
namespace {

constexpr size_t kBuffer = 8 << 10;  // bytes; an entry has at most 280

}  // namespace

OrErrno<void> DirectoryStream::Seek(int fd, uint64_t offset) {
  if (offset == place_ && offset != 0) return {};
  at_ = filled_ = 0;
  has_entry_ = false;
  if (lseek(fd, static_cast<off_t>(offset), SEEK_SET) < 0) return Errno(errno);
  place_ = offset;
  return {};
}

OrErrno<const DirectoryStream::Entry*> DirectoryStream::Look(int fd) {
  if (has_entry_) return &entry_;
  if (at_ == filled_) {
    buffer_.resize(kBuffer);
    at_ = filled_ = 0;
    const ssize_t got = getdents64(fd, buffer_.data(), buffer_.size());
    if (got < 0) return Errno(errno);
    if (got == 0) {
      buffer_ = {};
      return nullptr;
    }
    filled_ = static_cast<size_t>(got);
  }
  dirent64 found;
  constexpr size_t kHead = offsetof(dirent64, d_name);
  std::memcpy(&found, buffer_.data() + at_, kHead);
  const char* name = reinterpret_cast<const char*>(buffer_.data() + at_ + kHead);
  entry_ = {found.d_ino, static_cast<uint64_t>(found.d_off), found.d_type, name};
  entry_size_ = found.d_reclen;
  has_entry_ = true;
  return &entry_;
}

void DirectoryStream::Next() {
  at_ += entry_size_;
  place_ = entry_.next;
  has_entry_ = false;
}

}  // namespace vmm
