// A file whose content goes into guest RAM: read in place by pread, never mapped, so that a file
// that shrinks under us gives an error and not SIGBUS.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "vmm/core/base/result.h"

namespace vmm {

class BootFile {
 public:
  // `role` ("kernel", "initrd", "module 0") starts every message about the file. Only a regular
  // file that is not empty is taken; nothing else is even opened.
  static Result<BootFile> Open(std::string role, const std::filesystem::path& path);
  // Bytes that outlive the BootFile.
  static BootFile FromBytes(std::string role, std::span<const uint8_t> bytes);

  BootFile(BootFile&& other) noexcept;
  BootFile& operator=(BootFile&& other) noexcept;
  ~BootFile();

  const std::string& role() const { return role_; }
  const std::string& label() const { return label_; }  // role and path: "kernel /boot/vmlinuz"
  uint64_t size() const { return size_; }              // bytes, as of Open

  // Fills all of `out`, or fails: kConfigInvalid past the end, kIoError when the host can't read.
  Result<void> Read(uint64_t offset, std::span<uint8_t> out) const;
  // Asks the host to start reading the file from its disk.
  void Prefetch() const;

  // kConfigInvalid: "kernel /boot/vmlinuz: reason".
  tl::unexpected<Error> Invalid(std::string_view reason) const;

 private:
  BootFile() = default;
  int fd_ = -1;
  std::span<const uint8_t> bytes_;
  uint64_t size_ = 0;
  std::string role_, label_;
};

}  // namespace vmm
