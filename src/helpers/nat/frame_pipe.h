// The socket to vmm: frames in and out, many in one call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nat {

class FramePipe {
 public:
  // `fd`: a connected stream socket, not blocking from now on.
  explicit FramePipe(int fd);

  int fd() const { return fd_; }
  bool is_over() const { return is_over_; }
  bool WantsToWrite() const { return sent_ != out_.size(); }
  // Loses the frame where nobody has taken those before for long: TCP sends it again.
  void Send(std::span<const uint8_t> frame);
  void Flush();

  // Reads once, and calls take(frame) for each frame that is complete.
  template <class Take>
  void Receive(const Take& take) {
    if (!Fill()) return;
    for (std::span<const uint8_t> frame; Next(frame);) take(frame);
  }

 private:
  bool Fill();
  bool Next(std::span<const uint8_t>& frame);

  const int fd_;
  bool is_over_ = false;
  std::vector<uint8_t> out_;  // from sent_ on it waits
  size_t sent_ = 0;
  std::vector<uint8_t> in_;  // [parsed_, filled_) is not yet taken
  size_t parsed_ = 0, filled_ = 0;
};

}  // namespace nat
