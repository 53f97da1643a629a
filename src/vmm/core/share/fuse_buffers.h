// One request of a FUSE client as it came: bytes that the client wrote, and room for the answer.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

namespace vmm {

// Offsets and lengths are in bytes; what lies outside is left out. The client may change its bytes
// at any time: read them once.
class FuseBuffers {
 public:
  virtual ~FuseBuffers() = default;

  virtual uint64_t request_size() const = 0;
  virtual void Read(uint64_t offset, std::span<uint8_t> out) const = 0;
  virtual void GatherRequest(uint64_t offset, uint64_t length, std::vector<iovec>& out) const = 0;

  virtual uint64_t answer_size() const = 0;
  virtual void Write(uint64_t offset, std::span<const uint8_t> bytes) = 0;
  // For somebody else to write into, who then says by TellWritten() what was written.
  virtual void GatherAnswer(uint64_t offset, uint64_t length, std::vector<iovec>& out) const = 0;
  virtual void TellWritten(uint64_t offset, uint64_t length) = 0;
};

}  // namespace vmm
