#include "virtio/descriptor_chain.h"

#include <algorithm>
#include <cstring>

namespace virtio {

template <class Visit>
void ChainBuffers::ForEach(uint64_t offset, uint64_t length, const Visit& visit) const {
  uint64_t done = 0;
  for (const Piece& piece : pieces_) {
    if (done == length) return;
    if (offset >= piece.length) {
      offset -= piece.length;
      continue;
    }
    const uint64_t part = std::min<uint64_t>(length - done, piece.length - offset);
    visit(piece, offset, part, done);
    done += part;
    offset = 0;
  }
}

void ChainBuffers::Read(uint64_t offset, std::span<uint8_t> out) const {
  ForEach(offset, out.size(), [&](const Piece& piece, uint64_t at, uint64_t part, uint64_t done) {
    std::memcpy(out.data() + done, piece.host + at, part);
  });
}

void ChainBuffers::Write(uint64_t offset, std::span<const uint8_t> in,
                         vmm::HostWriteListener& writes) const {
  ForEach(offset, in.size(), [&](const Piece& piece, uint64_t at, uint64_t part, uint64_t done) {
    std::memcpy(piece.host + at, in.data() + done, part);
    writes.OnHostWrite(piece.address + at, part);
  });
}

void ChainBuffers::AppendTo(std::vector<iovec>& out, uint64_t offset, uint64_t length) const {
  ForEach(offset, length, [&](const Piece& piece, uint64_t at, uint64_t part, uint64_t) {
    out.push_back({piece.host + at, part});
  });
}

void ChainBuffers::TellWritten(uint64_t offset, uint64_t length,
                               vmm::HostWriteListener& writes) const {
  ForEach(offset, length, [&](const Piece& piece, uint64_t at, uint64_t part, uint64_t) {
    writes.OnHostWrite(piece.address + at, part);
  });
}

}  // namespace virtio
