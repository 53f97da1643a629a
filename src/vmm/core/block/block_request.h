// What a disk device asks of its disk.
#pragma once

#include <cstdint>

#include "vmm/core/block/block_image.h"

namespace vmm {

// The caller owns it, and the list and memory of its buffers, until `done` was called, once. From
// then on the disk does not touch it.
struct BlockRequest {
  enum class Kind : uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };

  Kind kind = Kind::kRead;
  uint64_t offset = 0;  // bytes
  uint64_t length = 0;  // bytes, of kDiscard and kWriteZeroes
  IoBuffers buffers;    // of kRead and kWrite
  bool unmap = false;   // of kWriteZeroes
  // `error`: 0 or an errno. Called on a thread of the disk or the one that submits, also before
  // Submit() has returned, with no lock held; it may submit more.
  void (*done)(BlockRequest& request, int error) = nullptr;
  void* user = nullptr;

  uint64_t bytes() const {
    return kind == Kind::kRead || kind == Kind::kWrite ? TotalLength(buffers) : length;
  }

  // The disk's own.
  BlockRequest* next = nullptr;
  BlockImage::Place place = {};
};

// First in, first out; through the requests themselves.
class RequestList {
 public:
  bool empty() const { return first_ == nullptr; }
  void Push(BlockRequest& request) {
    request.next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = &request;
    last_ = &request;
  }
  BlockRequest& Pop() {
    BlockRequest& request = *first_;
    first_ = request.next;
    return request;
  }
  BlockRequest* front() const { return first_; }

 private:
  BlockRequest* first_ = nullptr;
  BlockRequest* last_ = nullptr;
};

}  // namespace vmm
