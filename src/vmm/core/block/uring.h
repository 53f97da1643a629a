// One io_uring for reads and writes, with the thread that waits for them.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "vmm/core/base/result.h"
#include "vmm/core/block/block_request.h"

namespace vmm {

class Uring {
 public:
  // `result`: bytes that were moved, or a negative errno. On the ring's thread.
  using Finished = std::function<void(BlockRequest& request, int result)>;

  // The ring can read and write these files and do nothing else: what a guest makes of this process
  // can't use it to open or connect. Error: kUnavailable, why the host forbids it.
  static Result<std::unique_ptr<Uring>> Create(unsigned depth, std::span<const int> fds,
                                               Finished finished);
  virtual ~Uring() = default;  // nothing may be under way

  // `request.place` says where. Any thread, one at a time. False: the ring takes no more now.
  virtual bool Prepare(BlockRequest& request) = 0;
  // Hands out what was prepared. 0 or an errno; then all that was prepared will still finish.
  virtual int Submit() = 0;
};

// Why there is no io_uring on this host; empty: there is.
std::string WhyNoUring();

}  // namespace vmm
