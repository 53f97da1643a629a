// Things by the numbers they got, which code names them by: one after the other, none twice. Made
// to hold hundreds of thousands of them: nothing moves, and nothing is kept for those that may
// come.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

namespace bt {

template <class T>
class Numbered {
 public:
  // Of nothing.
  static constexpr uint32_t kNone = ~0u;

  // The number that the next one gets.
  uint32_t next() const { return static_cast<uint32_t>(things_.size()); }
  bool Has(uint32_t number) const { return number < things_.size(); }
  uint32_t Add(T thing) {
    things_.push_back(std::move(thing));
    return next() - 1;
  }
  // References stay good until it goes.
  T& operator[](uint32_t number) { return things_[number]; }
  const T& operator[](uint32_t number) const { return things_[number]; }
  T& back() { return things_.back(); }
  // Those from `number` on.
  std::vector<T> Since(uint32_t number) const {
    return {things_.begin() + static_cast<std::ptrdiff_t>(number), things_.end()};
  }
  void Clear() { things_.clear(); }

  auto begin() { return things_.begin(); }
  auto end() { return things_.end(); }
  auto begin() const { return things_.begin(); }
  auto end() const { return things_.end(); }
  bool empty() const { return things_.empty(); }
  size_t size() const { return things_.size(); }

 private:
  std::deque<T> things_;
};

}  // namespace bt
