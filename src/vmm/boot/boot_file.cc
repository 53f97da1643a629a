#include "vmm/boot/boot_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace vmm {
namespace {

// nullptr for a regular file.
const char* WrongKind(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return nullptr;
    case S_IFDIR:
      return "is a directory";
    case S_IFCHR:
    case S_IFBLK:
      return "is a device, not a file";
    case S_IFIFO:
      return "is a pipe, not a file";
    case S_IFSOCK:
      return "is a socket, not a file";
    default:
      return "is not a regular file";
  }
}

}  // namespace

Result<BootFile> BootFile::Open(std::string role, const std::filesystem::path& path) {
  BootFile file;
  file.label_ = role + " " + path.string();
  file.role_ = std::move(role);
  // First look, then open: opening a device or a pipe may already do something.
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return FailErrno(ExitCode::kFileMissing, file.label_, errno);
  }
  if (const char* kind = WrongKind(info.st_mode)) {
    return Fail(ExitCode::kFileMissing, file.label_ + " " + kind);
  }
  file.fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file.fd_ < 0) return FailErrno(ExitCode::kFileMissing, file.label_, errno);
  if (fstat(file.fd_, &info) != 0) return FailErrno(ExitCode::kIoError, file.label_, errno);
  if (const char* kind = WrongKind(info.st_mode)) {
    return Fail(ExitCode::kFileMissing, file.label_ + " " + kind);
  }
  if (info.st_size <= 0) return Fail(ExitCode::kConfigInvalid, file.label_ + " is empty");
  file.size_ = static_cast<uint64_t>(info.st_size);
  return file;
}

BootFile BootFile::FromBytes(std::string role, std::span<const uint8_t> bytes) {
  BootFile file;
  file.label_ = role;
  file.role_ = std::move(role);
  file.bytes_ = bytes;
  file.size_ = bytes.size();
  return file;
}

BootFile::BootFile(BootFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      bytes_(other.bytes_),
      size_(other.size_),
      role_(std::move(other.role_)),
      label_(std::move(other.label_)) {}

BootFile& BootFile::operator=(BootFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(bytes_, other.bytes_);
  std::swap(size_, other.size_);
  std::swap(role_, other.role_);
  std::swap(label_, other.label_);
  return *this;
}

BootFile::~BootFile() {
  if (fd_ >= 0) close(fd_);
}

Result<void> BootFile::Read(uint64_t offset, std::span<uint8_t> out) const {
  if (offset > size_ || out.size() > size_ - offset) {
    return Invalid(fmt::format("is truncated: {} bytes are wanted at offset {}, the file has {}",
                               out.size(), offset, size_));
  }
  if (fd_ < 0) {
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return {};
  }
  while (!out.empty()) {
    const ssize_t count = pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      auto failed = FailErrno(ExitCode::kIoError, label_ + ": reading failed", errno);
      failed.value().message += "; fix: copy the file anew, to a place that can be read";
      return failed;
    }
    if (count == 0) {
      return Fail(ExitCode::kIoError,
                  label_ + ": shrank while it was read; fix: start again once it is complete");
    }
    out = out.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return {};
}

// To ask for what is there already takes milliseconds. Where the end is, the rest is too, as good
// as always.
void BootFile::Prefetch() const {
  if (fd_ < 0 || size_ == 0) return;
  char last;
  const iovec one{&last, 1};
  if (preadv2(fd_, &one, 1, static_cast<off_t>(size_ - 1), RWF_NOWAIT) == 1) return;
  posix_fadvise(fd_, 0, 0, POSIX_FADV_WILLNEED);
}

tl::unexpected<Error> BootFile::Invalid(std::string_view reason) const {
  return Fail(ExitCode::kConfigInvalid, fmt::format("{}: {}", label_, reason));
}

}  // namespace vmm
