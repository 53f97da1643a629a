// A disk as the guest sees it, whatever format holds it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vmm/core/block/block_file.h"
#include "vmm/core/block/io_buffers.h"

namespace vmm {

// Calls block unless they say otherwise, and may come from any thread, several at once. Those that
// give an int give 0 or an errno: EIO for an image that contradicts itself (problem() tells), EROFS
// for a write to a read-only one, EINVAL for a range outside the disk.
class BlockImage {
 public:
  virtual ~BlockImage() = default;

  virtual int Read(uint64_t offset, IoBuffers to) = 0;
  virtual int Write(uint64_t offset, IoBuffers from) = 0;
  // Everything whose Write() had returned before survives the loss of power afterwards.
  virtual int Flush() = 0;
  // The guest no longer needs the range, which may read as zero or as before.
  virtual int Discard(uint64_t offset, uint64_t length) = 0;
  // The range reads as zero. `unmap`: and its room may be taken back.
  virtual int WriteZeroes(uint64_t offset, uint64_t length, bool unmap) = 0;

  // Where a range lies in a file, when it lies there in one piece and the caller may read or write
  // it there by itself. Never waits. Each that was found must be given back with Release() once the
  // transfer is done.
  struct Place {
    int fd;
    uint64_t offset;
    unsigned ticket;  // of whoever found it
    BlockImage* owner;
  };
  virtual bool Locate(uint64_t offset, uint64_t length, bool for_write, Place* place) = 0;
  virtual void Release(unsigned ticket) = 0;
  // The files that Locate() may name.
  virtual void CollectFds(std::vector<int>* fds) const = 0;

  // What holds the first bytes of a range, without reading them.
  enum class Holder : uint8_t {
    kData,  // this image, or a backing file of it: bytes of any value
    kZero,  // nothing: they read as zero
  };
  struct Extent {
    Holder holder;
    uint64_t length;
    unsigned depth;  // how far down the chain; 0: this image
    bool compressed;
  };
  virtual int Map(uint64_t offset, uint64_t length, Extent* extent) = 0;

  virtual uint64_t size() const = 0;  // bytes, a multiple of 512
  virtual bool read_only() const = 0;
  virtual const std::string& name() const = 0;
  virtual std::string problem() const { return {}; }
};

inline int ReadAt(BlockImage& image, uint64_t offset, std::span<uint8_t> to) {
  const iovec one{to.data(), to.size()};
  return image.Read(offset, {&one, 1});
}

inline int WriteAt(BlockImage& image, uint64_t offset, std::span<const uint8_t> from) {
  const iovec one{const_cast<uint8_t*>(from.data()), from.size()};
  return image.Write(offset, {&one, 1});
}

}  // namespace vmm
