// A first-in first-out queue of at most N elements that lives inside its owner: a chip's FIFO. It
// is plain data, so it can stand in a device's saved state as it is.
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>

namespace vmm {

template <class T, size_t N>
class FixedQueue {
 public:
  static constexpr size_t capacity() { return N; }
  size_t size() const { return size_; }
  size_t room() const { return N - size_; }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == N; }

  T& operator[](size_t i) { return slots_[(head_ + i) % N]; }  // 0 = the oldest
  const T& operator[](size_t i) const { return slots_[(head_ + i) % N]; }
  T& front() { return slots_[head_]; }
  const T& front() const { return slots_[head_]; }

  // False, and nothing done, when full.
  bool Push(const T& value) {
    if (full()) return false;
    slots_[(head_ + size_) % N] = value;
    ++size_;
    return true;
  }
  T Pop() {  // not when empty
    assert(!empty());
    T value = slots_[head_];
    head_ = static_cast<uint32_t>((head_ + 1) % N);
    --size_;
    return value;
  }
  void Clear() { head_ = size_ = 0; }

  // Could this have been built by Push and Pop? For Load(): the indexes may come from a file.
  bool Valid() const { return head_ < N && size_ <= N; }

  friend bool operator==(const FixedQueue& a, const FixedQueue& b) {
    if (a.size_ != b.size_) return false;
    for (size_t i = 0; i < a.size_; ++i)
      if (!(a[i] == b[i])) return false;
    return true;
  }

 private:
  std::array<T, N> slots_{};
  uint32_t head_ = 0;
  uint32_t size_ = 0;
};

}  // namespace vmm
