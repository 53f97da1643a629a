// A file for tests that lies in memory.
#pragma once

#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

#include "vmm/core/block/block_file.h"
#include "vmm/core/block/io_buffers.h"

namespace vmm {

class MemoryFile final : public BlockFile {
 public:
  // Writes that would make it larger than `limit` bytes fail with ENOSPC.
  explicit MemoryFile(std::vector<uint8_t> bytes = {}, uint64_t limit = uint64_t{1} << 30)
      : bytes_(std::move(bytes)), limit_(limit) {}

  int Read(uint64_t offset, std::span<const iovec> to) override {
    const std::lock_guard lock(mutex_);
    const uint64_t length = TotalLength(to);
    if (length > readable) return EIO;
    readable -= readable == UINT64_MAX ? 0 : length;
    for (const iovec& buffer : to) {
      const uint64_t have = offset < bytes_.size() ? bytes_.size() - offset : 0;
      const uint64_t part = std::min<uint64_t>(have, buffer.iov_len);
      if (part != 0) std::memcpy(buffer.iov_base, bytes_.data() + offset, part);
      if (part != buffer.iov_len) {
        std::memset(static_cast<uint8_t*>(buffer.iov_base) + part, 0, buffer.iov_len - part);
      }
      offset += buffer.iov_len;
    }
    return 0;
  }
  int Write(uint64_t offset, std::span<const iovec> from) override {
    const std::lock_guard lock(mutex_);
    const uint64_t length = TotalLength(from);
    if (offset > limit_ || length > limit_ - offset) return ENOSPC;
    if (offset + length > bytes_.size()) bytes_.resize(offset + length);
    for (const iovec& buffer : from) {
      if (buffer.iov_len != 0) std::memcpy(&bytes_[offset], buffer.iov_base, buffer.iov_len);
      offset += buffer.iov_len;
    }
    return 0;
  }
  int Sync() override {
    ++syncs;
    return sync_error;
  }
  int Resize(uint64_t bytes) override {
    const std::lock_guard lock(mutex_);
    if (bytes > limit_) return ENOSPC;
    bytes_.resize(bytes);
    return 0;
  }
  int Zero(uint64_t offset, uint64_t length, bool unmap) override {
    const std::lock_guard lock(mutex_);
    if (offset > limit_ || length > limit_ - offset) return ENOSPC;
    if (!unmap && offset + length > bytes_.size()) bytes_.resize(offset + length);
    if (offset < bytes_.size()) {
      std::memset(&bytes_[offset], 0, std::min<uint64_t>(length, bytes_.size() - offset));
    }
    return 0;
  }
  int Reserve(uint64_t offset, uint64_t length) override {
    return offset + length > size() ? Resize(offset + length) : 0;
  }
  uint64_t size() const override {
    const std::lock_guard lock(mutex_);
    return bytes_.size();
  }
  uint64_t allocated() const override { return size(); }
  const std::string& name() const override { return name_; }

  std::vector<uint8_t>& bytes() { return bytes_; }
  int syncs = 0;
  int sync_error = 0;
  uint64_t readable = UINT64_MAX;  // bytes, by one thread; reads of more fail with EIO

 private:
  mutable std::mutex mutex_;
  std::vector<uint8_t> bytes_;
  const uint64_t limit_;
  const std::string name_ = "memory";
};

}  // namespace vmm
