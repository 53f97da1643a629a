// A descriptor that takes a console's output without ever making the writer wait.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "vmm/core/host/unique_fd.h"

namespace vmm {

class CharSink {
 public:
  // Hears how many bytes were written, right after; may put another file behind the descriptor.
  using Written = std::function<void(int fd, size_t bytes)>;
  // For a descriptor whose open file description is ours: non-blocking, or a regular file.
  static CharSink Own(UniqueFd fd, Written written = {});
  static CharSink Socket(UniqueFd fd);
  // For a descriptor that other processes share, such as stdout: O_NONBLOCK is not set on it, since
  // they would find it set too. A terminal or pipe is opened a second time through /proc; where the
  // host does not allow that, it is asked before each write whether it has room, and given no more
  // than is sure to fit. Invalid (fd() < 0) when `fd` is not open.
  static CharSink Shared(int fd);

  // Writes what there is room for. Returns the number of bytes, or -errno: -EAGAIN when there is
  // room for none.
  ssize_t Put(std::span<const uint8_t> data) const;
  // Waits for room, or for an error to report. False: there was none in that time.
  bool WaitForRoom(std::chrono::nanoseconds timeout) const;
  int fd() const { return fd_.get(); }

 private:
  enum class Mode : uint8_t { kWrite, kSend, kAskFirst };
  CharSink(UniqueFd fd, Mode mode, size_t most, Written written = {})
      : fd_(std::move(fd)), mode_(mode), most_(most), written_(std::move(written)) {}

  UniqueFd fd_;
  Mode mode_;
  size_t most_;  // bytes to write at once
  Written written_;
};

// Opens the file behind `fd` again with `flags`, as a new open file description. Invalid when the
// host does not allow it.
UniqueFd OpenAgain(int fd, int flags);

}  // namespace vmm
