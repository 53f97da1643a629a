// Frames in a stream socket between two processes, many in one call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vmm {

// Each frame comes behind its length in 4 bytes, big endian, which is what QEMU's stream sockets
// and passt speak. Threads: one at a time.
class FrameStream {
 public:
  static constexpr size_t kMaxFrame = 65535 + 22;  // bytes; what is longer breaks the stream

  static constexpr size_t kPrefix = 4;  // bytes of the length in front of a frame
  static size_t LoadLength(const uint8_t* prefix);

  // `fd`: connected, and the caller's; does not block from now on. `in_buffer`: bytes that are read
  // at once, more than a frame has.
  FrameStream(int fd, size_t in_buffer);

  // The other side has gone, or has said what is no frame: nothing comes or goes any more.
  bool is_over() const { return is_over_; }
  // Bytes that the socket has not taken yet.
  size_t waiting() const { return out_.size() - sent_; }
  // Waits for Flush(), which sends as much as the socket takes. At most kMaxFrame bytes.
  void Add(std::span<const uint8_t> frame);
  void Flush();

  // Reads once; false: nothing has come.
  bool Fill();
  // The next frame that is complete, good until Fill(); false: there is none.
  bool Next(std::span<const uint8_t>& frame);

 private:
  void Break();

  const int fd_;
  bool is_over_ = false;
  std::vector<uint8_t> out_;  // from sent_ on it waits
  size_t sent_ = 0;
  std::vector<uint8_t> in_;  // [parsed_, filled_) is not yet taken
  size_t parsed_ = 0, filled_ = 0;
};

}  // namespace vmm
