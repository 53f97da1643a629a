#include "vmm/runner/cpio_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace vmm {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kAlignment = 4;
constexpr std::string_view kTrailer = "TRAILER!!!";

tl::unexpected<Error> CantRead(const fs::path& file, int error) {
  return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", file.string()), error);
}

}  // namespace

Result<CpioWriter> CpioWriter::Create() {
  UniqueFd fd(memfd_create("vmm-initramfs", MFD_CLOEXEC));
  if (!fd) return FailErrno(ExitCode::kOsError, "can't make an initramfs in memory", errno);
  return CpioWriter(std::move(fd));
}

Result<void> CpioWriter::Write(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd_.get(), bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0)
      return FailErrno(ExitCode::kHostMemory, "no room in memory for the initramfs", errno);
    bytes = bytes.subspan(static_cast<size_t>(wrote));
    written_ += static_cast<uint64_t>(wrote);
  }
  return {};
}

Result<void> CpioWriter::WriteText(std::string_view text) {
  return Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

// Names and contents each begin at a multiple of 4 of the whole.
Result<void> CpioWriter::Pad() {
  constexpr std::array<uint8_t, kAlignment> kZeros{};
  return Write(std::span(kZeros).first((kAlignment - written_ % kAlignment) % kAlignment));
}

Result<void> CpioWriter::Header(const Entry& entry) {
  if (entry.size > kMaxFile) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{} is too long for an initramfs (4 GiB is the most)", entry.name));
  }
  const auto time = static_cast<uint32_t>(std::clamp<int64_t>(entry.time, 0, UINT32_MAX));
  // magic, inode, mode, user, group, links, time, size, device, device of a node, length of the
  // name with its NUL, checksum
  const std::string header = fmt::format(
      "070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
      entry.name == kTrailer ? 0 : next_inode_++, entry.mode, 0, 0, entry.links, time, entry.size,
      0, 0, entry.major, entry.minor, entry.name.size() + 1, 0);
  return WriteText(header)
      .and_then([&] { return WriteText(entry.name); })
      .and_then([&] { return WriteText(std::string_view("\0", 1)); })
      .and_then([&] { return Pad(); });
}

Result<void> CpioWriter::Parents(std::string_view name) {
  for (size_t at = name.find('/'); at != std::string_view::npos; at = name.find('/', at + 1)) {
    if (folders_.contains(name.substr(0, at))) continue;
    if (auto added = AddDirectory(name.substr(0, at)); !added) return added;
  }
  return {};
}

Result<void> CpioWriter::AddArchive(const fs::path& file) {
  UniqueFd from(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!from || fstat(from.get(), &status) != 0) return CantRead(file, errno);
  return CopyFrom(from.get(), static_cast<uint64_t>(status.st_size), file).and_then([&] {
    return Pad();
  });
}

Result<void> CpioWriter::AddDirectory(std::string_view name, uint32_t mode) {
  return Parents(name).and_then([&]() -> Result<void> {
    if (!folders_.emplace(name).second) return {};
    return Header({.name = name, .mode = S_IFDIR | mode, .links = 2});
  });
}

Result<void> CpioWriter::AddBytes(std::string_view name, std::span<const uint8_t> bytes,
                                  uint32_t mode) {
  return Parents(name)
      .and_then(
          [&] { return Header({.name = name, .mode = S_IFREG | mode, .size = bytes.size()}); })
      .and_then([&] { return Write(bytes); })
      .and_then([&] { return Pad(); });
}

Result<void> CpioWriter::AddText(std::string_view name, std::string_view text, uint32_t mode) {
  return AddBytes(name, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}, mode);
}

Result<void> CpioWriter::AddLink(std::string_view name, std::string_view target) {
  return Parents(name)
      .and_then(
          [&] { return Header({.name = name, .mode = S_IFLNK | 0777, .size = target.size()}); })
      .and_then([&] { return WriteText(target); })
      .and_then([&] { return Pad(); });
}

Result<void> CpioWriter::AddDevice(std::string_view name, uint32_t mode, unsigned major,
                                   unsigned minor) {
  return Parents(name).and_then([&] {
    return Header({.name = name, .mode = S_IFCHR | mode, .major = major, .minor = minor});
  });
}

Result<void> CpioWriter::CopyFrom(int fd, uint64_t size, const fs::path& file) {
  std::array<uint8_t, 64 * 1024> buffer;
  while (size != 0) {
    const ssize_t got = read(fd, buffer.data(), std::min<uint64_t>(size, buffer.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return CantRead(file, errno);
    if (got == 0) {
      return Fail(ExitCode::kIoError,
                  fmt::format("{} became shorter while it was read", file.string()));
    }
    if (auto wrote = Write(std::span(buffer).first(static_cast<size_t>(got))); !wrote) return wrote;
    size -= static_cast<uint64_t>(got);
  }
  return {};
}

Result<void> CpioWriter::AddFile(std::string_view name, const fs::path& file, uint32_t mode) {
  // A FIFO would make open() wait for a writer.
  UniqueFd from(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status{};
  if (!from || fstat(from.get(), &status) != 0) return CantRead(file, errno);
  if (!S_ISREG(status.st_mode)) {
    return Fail(ExitCode::kConfigInvalid, fmt::format("{} is no regular file", file.string()));
  }
  const uint32_t permissions = mode != 0 ? mode : status.st_mode & 07777;
  const auto size = static_cast<uint64_t>(status.st_size);
  return Parents(name)
      .and_then([&] {
        return Header({.name = name,
                       .mode = S_IFREG | permissions,
                       .size = size,
                       .time = status.st_mtim.tv_sec});
      })
      .and_then([&] { return CopyFrom(from.get(), size, file); })
      .and_then([&] { return Pad(); });
}

Result<void> CpioWriter::AddTree(const fs::path& folder) {
  std::error_code error;
  fs::recursive_directory_iterator entries(folder, error);
  if (error) return CantRead(folder, error.value());
  Result<void> added;
  while (added && entries != fs::recursive_directory_iterator()) {
    const fs::path& path = entries->path();
    const std::string name = path.lexically_relative(folder).string();
    struct stat status{};
    if (lstat(path.c_str(), &status) != 0) return CantRead(path, errno);
    if (S_ISDIR(status.st_mode)) {
      added = AddDirectory(name, status.st_mode & 07777);
    } else if (S_ISREG(status.st_mode)) {
      added = AddFile(name, path);
    } else if (S_ISLNK(status.st_mode)) {
      const fs::path target = fs::read_symlink(path, error);
      if (error) return CantRead(path, error.value());
      added = AddLink(name, target.string());
    }
    if (added) entries.increment(error);
    if (added && error) return CantRead(path, error.value());
  }
  return added;
}

Result<UniqueFd> CpioWriter::Finish() {
  return Header({.name = kTrailer}).map([&] { return std::move(fd_); });
}

}  // namespace vmm
