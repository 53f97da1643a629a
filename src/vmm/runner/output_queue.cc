#include "vmm/runner/output_queue.h"

#include <cerrno>
#include <cstdint>
#include <span>

namespace vmm {

void OutputQueue::Add(std::string_view text) {
  if (error_ != 0) return;
  waiting_.append(text);
  Flush();
}

void OutputQueue::Flush() {
  size_t from = 0;
  while (from < waiting_.size()) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(waiting_.data());
    const ssize_t wrote = sink_.Put({bytes + from, waiting_.size() - from});
    if (wrote == -EAGAIN) break;
    if (wrote <= 0) {
      error_ = wrote == 0 ? EIO : static_cast<int>(-wrote);
      from = waiting_.size();
      break;
    }
    from += static_cast<size_t>(wrote);
  }
  waiting_.erase(0, from);
}

}  // namespace vmm
