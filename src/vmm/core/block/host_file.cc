#include "vmm/core/block/host_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "vmm/core/block/image_lock.h"
#include "vmm/core/block/io_buffers.h"

namespace vmm {
namespace {

// What every device of today transfers whole; smaller pieces go through the page cache.
constexpr uint64_t kDirectAlignment = 4096;

// Calls `transfer` until all is done or nothing moves any more; gives the bytes that were left.
template <class Transfer>
int TransferAll(uint64_t offset, std::span<const iovec> buffers, Transfer transfer,
                uint64_t* left) {
  std::vector<iovec> rest;
  uint64_t remaining = TotalLength(buffers);
  uint64_t done = 0;
  IoBuffers now = buffers;
  while (remaining != 0) {
    const auto count = static_cast<int>(std::min<size_t>(now.size(), IOV_MAX));
    const ssize_t moved = transfer(now.data(), count, static_cast<off_t>(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return errno;
    if (moved == 0) break;
    done += static_cast<uint64_t>(moved);
    remaining -= static_cast<uint64_t>(moved);
    rest = Slice(buffers, done, remaining);
    now = rest;
  }
  *left = remaining;
  return 0;
}

bool IsInRange(uint64_t offset, uint64_t length) {
  return offset <= INT64_MAX && length <= INT64_MAX - offset;
}

}  // namespace

HostFile::HostFile(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}

HostFile::~HostFile() {
  UnlockImage(fd_.get());
}

Result<void> HostFile::ReadFacts() {
  struct stat facts;
  if (fstat(fd_.get(), &facts) != 0) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't look at {}", name_), errno);
  }
  if (!S_ISREG(facts.st_mode) && !S_ISBLK(facts.st_mode)) {
    return Fail(ExitCode::kIoError, fmt::format("{} is neither a file nor a block device", name_));
  }
  is_regular_ = S_ISREG(facts.st_mode);
  device_ = facts.st_dev;
  inode_ = facts.st_ino;
  const off_t end = lseek(fd_.get(), 0, SEEK_END);
  if (end < 0) return FailErrno(ExitCode::kIoError, fmt::format("no size of {}", name_), errno);
  size_ = static_cast<uint64_t>(end);
  return {};
}

Result<std::unique_ptr<HostFile>> HostFile::Open(const std::filesystem::path& path,
                                                 const Options& options) {
  const int flags = (options.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  UniqueFd fd(open(path.c_str(), flags));
  if (!fd) {
    return FailErrno(
        ExitCode::kIoError,
        fmt::format("can't open {}{}", path.string(), options.writable ? " for writing" : ""),
        errno);
  }
  auto file = std::unique_ptr<HostFile>(new HostFile(std::move(fd), path.string()));
  if (auto facts = file->ReadFacts(); !facts) return tl::unexpected(facts.error());
  if (options.lock) {
    if (auto locked = LockImage(file->fd_.get(), options.writable, file->name_); !locked) {
      return tl::unexpected(locked.error());
    }
  }
  if (options.direct) {
    // Opened by its number: the name may mean another file by now.
    const std::string same = fmt::format("/proc/self/fd/{}", file->fd_.get());
    file->direct_ = UniqueFd(open(same.c_str(), (flags & ~O_NONBLOCK) | O_DIRECT));
    if (!file->direct_) {
      return FailErrno(ExitCode::kUnavailable,
                       fmt::format("the file system of {} can't bypass the page cache (O_DIRECT); "
                                   "fix: another cache mode",
                                   file->name_),
                       errno);
    }
  }
  return file;
}

Result<std::unique_ptr<HostFile>> HostFile::Create(const std::filesystem::path& path,
                                                   bool replace) {
  const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | (replace ? 0 : O_EXCL);
  UniqueFd fd(open(path.c_str(), flags, 0666));
  if (!fd) {
    const int error = errno;
    if (error == EEXIST) {
      return Fail(ExitCode::kCannotCreate,
                  fmt::format("{} exists already; fix: another name, or --force to replace it",
                              path.string()));
    }
    Error failure =
        FailErrno(ExitCode::kCannotCreate, fmt::format("can't create {}", path.string()), error)
            .value();
    if (failure.code == ExitCode::kFileMissing) failure.code = ExitCode::kCannotCreate;
    return tl::unexpected(std::move(failure));
  }
  auto file = std::unique_ptr<HostFile>(new HostFile(std::move(fd), path.string()));
  if (auto facts = file->ReadFacts(); !facts) return tl::unexpected(facts.error());
  if (auto locked = LockImage(file->fd_.get(), true, file->name_); !locked) {
    return tl::unexpected(locked.error());
  }
  if (file->is_regular_ && file->size() != 0) {
    if (const int error = file->Resize(0)) {
      return FailErrno(ExitCode::kIoError, fmt::format("can't empty {}", file->name_), error);
    }
  }
  return file;
}

Result<std::unique_ptr<HostFile>> HostFile::Temporary(const std::filesystem::path& directory) {
  UniqueFd fd(open(directory.c_str(), O_RDWR | O_TMPFILE | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) {  // a file system that knows no files without a name
    std::string name = (directory / "vmm-XXXXXX").string();
    fd = UniqueFd(mkostemp(name.data(), O_CLOEXEC));
    if (!fd) {
      return FailErrno(ExitCode::kCannotCreate,
                       fmt::format("can't make a temporary file in {}", directory.string()), errno);
    }
    unlink(name.c_str());
  }
  auto file = std::unique_ptr<HostFile>(
      new HostFile(std::move(fd), fmt::format("a temporary file in {}", directory.string())));
  if (auto facts = file->ReadFacts(); !facts) return tl::unexpected(facts.error());
  return file;
}

int HostFile::fd_for(uint64_t offset, std::span<const iovec> buffers) const {
  if (!direct_) return fd_.get();
  uint64_t bits = offset;
  for (const iovec& buffer : buffers) {
    bits |= reinterpret_cast<uintptr_t>(buffer.iov_base) | buffer.iov_len;
  }
  return bits % kDirectAlignment == 0 ? direct_.get() : fd_.get();
}

int HostFile::Read(uint64_t offset, std::span<const iovec> to) {
  const uint64_t length = TotalLength(to);
  if (!IsInRange(offset, length)) return EINVAL;
  uint64_t left = 0;
  const int fd = fd_for(offset, to);
  const int error = TransferAll(
      offset, to,
      [&](const iovec* buffers, int count, off_t at) { return preadv(fd, buffers, count, at); },
      &left);
  if (error == 0 && left != 0) FillZero(Slice(to, length - left, left));
  return error;
}

int HostFile::Write(uint64_t offset, std::span<const iovec> from) {
  const uint64_t length = TotalLength(from);
  if (!IsInRange(offset, length)) return EFBIG;
  uint64_t left = 0;
  const int fd = fd_for(offset, from);
  const int error = TransferAll(
      offset, from,
      [&](const iovec* buffers, int count, off_t at) { return pwritev(fd, buffers, count, at); },
      &left);
  if (error != 0) return error;
  if (left != 0) return ENOSPC;
  GrowTo(offset + length);
  return 0;
}

void HostFile::GrowTo(uint64_t bytes) {
  uint64_t size = size_;
  while (size < bytes && !size_.compare_exchange_weak(size, bytes)) {
  }
}

int HostFile::Sync() {
  return fdatasync(fd_.get()) == 0 ? 0 : errno;
}

int HostFile::Resize(uint64_t bytes) {
  if (bytes > INT64_MAX) return EFBIG;
  if (!is_regular_) return bytes <= size_ ? 0 : ENOSPC;
  if (ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0) return errno;
  size_ = bytes;
  return 0;
}

int HostFile::Zero(uint64_t offset, uint64_t length, bool unmap) {
  if (!IsInRange(offset, length)) return EINVAL;
  if (unmap) {
    if (offset >= size_) return 0;
    length = std::min(length, size_ - offset);
  }
  if (length == 0) return 0;
  const int mode = unmap ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
  if (fallocate(fd_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0) {
    if (!unmap) GrowTo(offset + length);
    return 0;
  }
  if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) return errno;
  static constexpr uint64_t kStep = 1 << 20;
  std::vector<uint8_t> zeros(std::min(length, kStep));
  while (length != 0) {
    const uint64_t step = std::min(length, kStep);
    if (const int error = WriteAt(*this, offset, std::span(zeros).first(step))) return error;
    offset += step;
    length -= step;
  }
  return 0;
}

int HostFile::Reserve(uint64_t offset, uint64_t length) {
  if (!IsInRange(offset, length)) return EFBIG;
  if (length == 0) return 0;
  const int error =
      posix_fallocate(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(length));
  if (error == 0) GrowTo(offset + length);
  return error;
}

uint64_t HostFile::allocated() const {
  struct stat facts;
  return fstat(fd_.get(), &facts) == 0 ? static_cast<uint64_t>(facts.st_blocks) * 512 : 0;
}

bool HostFile::IsSameFile(const HostFile& other) const {
  return device_ == other.device_ && inode_ == other.inode_;
}

}  // namespace vmm
