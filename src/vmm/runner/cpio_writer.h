// An archive as the kernel takes it for an initramfs: cpio's "newc" form
// ([INITRAMFS]).
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "vmm/core/base/result.h"
#include "vmm/core/host/unique_fd.h"

namespace vmm {

// Writes to a file of its own that has no name (memfd) and goes with its descriptor. Names are
// relative to the root of the guest: "bin/busybox". Folders above a name are made as needed. Of two
// files of one name the later one counts, as the kernel unpacks them.
class CpioWriter {
 public:
  static constexpr uint64_t kMaxFile = 0xFFFFFFFF;  // bytes: a size has eight hexadecimal digits

  static Result<CpioWriter> Create();

  // Copies the bytes of a file, which is one or more archives already, in front of what follows.
  Result<void> AddArchive(const std::filesystem::path& file);

  Result<void> AddDirectory(std::string_view name, uint32_t mode = 0755);
  Result<void> AddBytes(std::string_view name, std::span<const uint8_t> bytes,
                        uint32_t mode = 0644);
  Result<void> AddText(std::string_view name, std::string_view text, uint32_t mode = 0644);
  Result<void> AddLink(std::string_view name, std::string_view target);
  Result<void> AddDevice(std::string_view name, uint32_t mode, unsigned major, unsigned minor);
  // A regular file of the host. `mode` 0: the file's own permissions.
  Result<void> AddFile(std::string_view name, const std::filesystem::path& file, uint32_t mode = 0);
  // All below a folder of the host, which becomes the root: files, folders, symbolic links. All
  // belongs to root. Sockets and devices of the host are left out.
  Result<void> AddTree(const std::filesystem::path& folder);

  // Ends the archive. Once, last.
  Result<UniqueFd> Finish();

 private:
  struct Entry {
    std::string_view name;
    uint32_t mode = 0;  // with the type
    uint64_t size = 0;  // bytes that follow
    uint32_t links = 1;
    unsigned major = 0, minor = 0;
    int64_t time = 0;
  };

  explicit CpioWriter(UniqueFd fd) : fd_(std::move(fd)) {}
  Result<void> Write(std::span<const uint8_t> bytes);
  Result<void> WriteText(std::string_view text);
  Result<void> Header(const Entry& entry);
  Result<void> Pad();
  Result<void> Parents(std::string_view name);
  Result<void> CopyFrom(int fd, uint64_t size, const std::filesystem::path& file);

  UniqueFd fd_;
  uint64_t written_ = 0;
  uint32_t next_inode_ = 1;
  std::set<std::string, std::less<>> folders_;
};

}  // namespace vmm
