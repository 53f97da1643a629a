// One request as the driver laid it out: buffers that the device reads, then buffers that it
// writes, each in guest RAM as a whole. [VIRTIO 1.2] 2.6
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/core/base/types.h"
#include "vmm/core/memory/host_write_listener.h"

namespace virtio {

// A list of buffers; how the driver cut it into pieces means nothing. The guest may change the
// bytes at any time: read them once.
class ChainBuffers {
 public:
  struct Piece {
    vmm::GuestPhys address;
    uint8_t* host;
    uint32_t length;
  };

  void Clear() {
    pieces_.clear();
    length_ = 0;
  }
  void Add(const Piece& piece) {
    pieces_.push_back(piece);
    length_ += piece.length;
  }
  uint64_t length() const { return length_; }  // bytes

  // What lies outside is left out.
  void Read(uint64_t offset, std::span<uint8_t> out) const;
  void Write(uint64_t offset, std::span<const uint8_t> in, vmm::HostWriteListener& writes) const;
  // Adds [offset, offset + length) to `out`, for a transfer by somebody else; to tell that it was
  // one into guest memory is TellWritten().
  void AppendTo(std::vector<iovec>& out, uint64_t offset, uint64_t length) const;
  void TellWritten(uint64_t offset, uint64_t length, vmm::HostWriteListener& writes) const;

 private:
  // visit(piece, first byte in it, number of bytes, offset of them in the range)
  template <class Visit>
  void ForEach(uint64_t offset, uint64_t length, const Visit& visit) const;

  std::vector<Piece> pieces_;
  uint64_t length_ = 0;
};

struct DescriptorChain {
  uint16_t head = 0;      // by which it is returned
  ChainBuffers readable;  // by the device
  ChainBuffers writable;
};

}  // namespace virtio
