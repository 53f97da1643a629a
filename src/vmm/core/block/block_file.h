// What a disk image is stored in: a file or block device of the host, or what a test puts there.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>

namespace vmm {

// Every call blocks and may come from any thread, several at once. Each gives 0 or an errno.
class BlockFile {
 public:
  virtual ~BlockFile() = default;

  // All of `to`; what lies past the end reads as zero.
  virtual int Read(uint64_t offset, std::span<const iovec> to) = 0;
  // All of `from`; the file grows as needed.
  virtual int Write(uint64_t offset, std::span<const iovec> from) = 0;
  // After it, what was written before survives the loss of power.
  virtual int Sync() = 0;
  virtual int Resize(uint64_t bytes) = 0;
  // The range reads as zero afterwards. `unmap`: the host may take its room back. Never shrinks the
  // file, and grows it only without `unmap`.
  virtual int Zero(uint64_t offset, uint64_t length, bool unmap) = 0;
  // Takes room from the host for the whole range, and grows the file to its end.
  virtual int Reserve(uint64_t offset, uint64_t length) = 0;

  virtual uint64_t size() const = 0;       // bytes
  virtual uint64_t allocated() const = 0;  // bytes that the host has given
  virtual const std::string& name() const = 0;
  // For reads and writes that don't go through this object; -1: they must.
  virtual int fd() const { return -1; }
};

inline int ReadAt(BlockFile& file, uint64_t offset, std::span<uint8_t> to) {
  const iovec one{to.data(), to.size()};
  return file.Read(offset, {&one, 1});
}

inline int WriteAt(BlockFile& file, uint64_t offset, std::span<const uint8_t> from) {
  const iovec one{const_cast<uint8_t*>(from.data()), from.size()};
  return file.Write(offset, {&one, 1});
}

}  // namespace vmm
