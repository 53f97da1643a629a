// Output of vmm test on its way to stdout or stderr, so that a reader who takes his time holds up
// nothing but the guest that writes it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "vmm/core/host/char_sink.h"

namespace vmm {

class OutputQueue {
 public:
  explicit OutputQueue(int fd) : sink_(CharSink::Shared(fd)) {}

  void Add(std::string_view text);
  // Writes what there is room for.
  void Flush();
  bool empty() const { return waiting_.empty(); }
  size_t size() const { return waiting_.size(); }
  // That tells by POLLOUT that there is room again.
  int fd() const { return sink_.fd(); }
  // errno of the first write that failed, after which nothing is written; 0: none has.
  int error() const { return error_; }

 private:
  CharSink sink_;
  std::string waiting_;
  int error_ = 0;
};

}  // namespace vmm
