// Checksums and segmentation in software, for whoever can't take a frame as it is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/core/net/net_header.h"

namespace vmm {

// Frames one behind the other, each with its header.
class FrameList {
 public:
  struct Frame {
    NetHeader header;
    std::span<const uint8_t> bytes;
  };

  void Clear() {
    bytes_.clear();
    entries_.clear();
  }
  size_t size() const { return entries_.size(); }
  // Valid until something is added.
  Frame operator[](size_t index) const;
  // Room for `length` bytes of a new last frame.
  std::span<uint8_t> Add(const NetHeader& header, size_t length);

 private:
  struct Entry {
    NetHeader header;
    size_t start, length;
  };
  std::vector<uint8_t> bytes_;
  std::vector<Entry> entries_;
};

// Puts `frame` into `out` as one who takes `offloads` wants it: as it is, with its checksum, or in
// segments. False, and nothing is added: the header does not fit the frame, which is to be dropped.
bool Unload(const NetHeader& header, std::span<const uint8_t> frame, const NetOffloads& offloads,
            FrameList& out);

// True when Unload() would only copy.
bool TakesAsIs(const NetHeader& header, const NetOffloads& offloads);

// The sum of RFC 1071 over `data`, added to `sum`, not folded.
uint64_t AddToChecksum(uint64_t sum, std::span<const uint8_t> data);
// Its complement in 16 bits, in the order of the network.
uint16_t FoldChecksum(uint64_t sum);

}  // namespace vmm
