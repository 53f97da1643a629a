// Things by the numbers they got, which code names them by: one after the other, none twice. Made
// to hold hundreds of thousands of them: nothing moves, and little is kept for those that may come.
//
// One thread adds, at a time; what it has told others of they may use and change meanwhile.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace bt {

template <class T>
class Numbered {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  // Of nothing.
  static constexpr uint32_t kNone = ~0u;

  // The number that the next one gets.
  uint32_t next() const { return next_; }
  bool Has(uint32_t number) const { return number < next_; }
  uint32_t Add(const T& thing) {
    const Place place = PlaceOf(next_);
    if (!pieces_[place.piece]) pieces_[place.piece].reset(Allocate(place.piece));
    new (&pieces_[place.piece][place.at]) T(thing);
    return next_++;
  }
  // References stay good until it goes.
  T& operator[](uint32_t number) {
    const Place place = PlaceOf(number);
    return pieces_[place.piece][place.at];
  }
  const T& operator[](uint32_t number) const { return const_cast<Numbered&>(*this)[number]; }
  T& back() { return (*this)[next_ - 1]; }
  // Those from `number` on.
  std::vector<T> Since(uint32_t number) const {
    std::vector<T> things;
    while (number < next_) things.push_back((*this)[number++]);
    return things;
  }
  // The first that is not `before`, where all in front of it are; next(): there is none.
  template <class F>
  uint32_t FirstNot(F&& before) const {
    uint32_t first = 0;
    for (uint32_t end = next_; first < end;) {
      const uint32_t middle = first + (end - first) / 2;
      if (before((*this)[middle]))
        first = middle + 1;
      else
        end = middle;
    }
    return first;
  }
  void Clear() {
    next_ = 0;
    pieces_ = {};
  }
  bool empty() const { return next_ == 0; }
  size_t size() const { return next_; }

 private:
  // Each piece holds twice as many as the one before; of the host's memory it takes what is used.
  static constexpr unsigned kFirstBits = 10, kPieces = 22;
  struct Place {
    unsigned piece, at;
  };
  static Place PlaceOf(uint32_t number) {
    const uint32_t behind = number + (1u << kFirstBits);
    const auto piece = static_cast<unsigned>(std::bit_width(behind)) - 1 - kFirstBits;
    return {piece, behind - (1u << (kFirstBits + piece))};
  }
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  static T* Allocate(unsigned piece) {
    void* memory = std::malloc(sizeof(T) << (kFirstBits + piece));
    if (!memory) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }

  uint32_t next_ = 0;
  std::array<std::unique_ptr<T[], Free>, kPieces> pieces_;
};

}  // namespace bt
