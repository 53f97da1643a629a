// Plain structs to bytes and back, field by field in the order of declaration, little endian and
// without padding: what a saved machine is made of. No struct lists its fields a second time.
//
// Known kinds: bool, integers, enums, std::array, BitRegister, FixedQueue, and aggregates of those
// with up to kMaxFields members (no base class, no C array).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/fixed_queue.h"

namespace vmm {
namespace fields {

inline constexpr size_t kMaxFields = 48;

struct Anything {
  template <class T>
  operator T() const;
};

template <class T, size_t... I>
constexpr bool TakesFields(std::index_sequence<I...>) {
  return requires { T{(static_cast<void>(I), Anything{})...}; };
}

// How many members the aggregate T has.
template <class T, size_t N = kMaxFields>
constexpr size_t Count() {
  static_assert(std::is_aggregate_v<T>);
  if constexpr (N == 0 || TakesFields<T>(std::make_index_sequence<N>())) {
    return N;
  } else {
    return Count<T, N - 1>();
  }
}

template <class T>
struct IsArray : std::false_type {};
template <class T, size_t N>
struct IsArray<std::array<T, N>> : std::true_type {};
template <class T>
struct IsBits : std::false_type {};
template <class T>
struct IsBits<BitRegister<T>> : std::true_type {};
template <class T>
struct IsQueue : std::false_type {};
template <class T, size_t N>
struct IsQueue<FixedQueue<T, N>> : std::true_type {};

// Calls visit(member) for each member of an aggregate.
template <class T, class Visit>
constexpr void ForEach(T& value, Visit&& visit);

}  // namespace fields

class FieldWriter {
 public:
  template <class T>
  void Put(const T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      bytes_.push_back(value ? 1 : 0);
    } else if constexpr (std::is_enum_v<T>) {
      Put(static_cast<std::underlying_type_t<T>>(value));
    } else if constexpr (std::is_integral_v<T>) {
      auto raw = static_cast<std::make_unsigned_t<T>>(value);
      for (size_t i = 0; i < sizeof(T); ++i) bytes_.push_back(static_cast<uint8_t>(raw >> (8 * i)));
    } else if constexpr (fields::IsBits<T>::value) {
      Put(value.raw());
    } else if constexpr (fields::IsArray<T>::value) {
      if constexpr (std::is_same_v<typename T::value_type, uint8_t>) {
        bytes_.insert(bytes_.end(), value.begin(), value.end());
      } else {
        for (const auto& element : value) Put(element);
      }
    } else if constexpr (fields::IsQueue<T>::value) {
      Put(static_cast<uint32_t>(value.size()));
      for (size_t i = 0; i < value.size(); ++i) Put(value[i]);
    } else {
      fields::ForEach(value, [this](const auto& member) { this->Put(member); });
    }
  }
  std::vector<uint8_t> Take() { return std::move(bytes_); }

 private:
  std::vector<uint8_t> bytes_;
};

// Any bytes may come in: what is out of range or missing makes ok() false and reads as zero. That a
// value makes sense is for the owner of the struct to judge.
class FieldReader {
 public:
  explicit FieldReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  template <class T>
  void Get(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      uint8_t raw = 0;
      Get(raw);
      if (raw > 1) ok_ = false;
      value = raw == 1;
    } else if constexpr (std::is_enum_v<T>) {
      std::underlying_type_t<T> raw{};
      Get(raw);
      value = static_cast<T>(raw);
    } else if constexpr (std::is_integral_v<T>) {
      std::make_unsigned_t<T> raw = 0;
      for (size_t i = 0; i < sizeof(T); ++i) {
        raw = static_cast<std::make_unsigned_t<T>>(
            raw | static_cast<std::make_unsigned_t<T>>(Next()) << (8 * i));
      }
      value = static_cast<T>(raw);
    } else if constexpr (fields::IsBits<T>::value) {
      typename T::Raw raw{};
      Get(raw);
      value = T(raw);
    } else if constexpr (fields::IsArray<T>::value) {
      for (auto& element : value) Get(element);
    } else if constexpr (fields::IsQueue<T>::value) {
      uint32_t size = 0;
      Get(size);
      value.Clear();
      if (size > T::capacity()) ok_ = false;
      for (uint32_t i = 0; i < size && ok_; ++i) {
        std::remove_cvref_t<decltype(value[0])> element{};
        Get(element);
        value.Push(element);
      }
    } else {
      fields::ForEach(value, [this](auto& member) { this->Get(member); });
    }
  }
  // Every byte was used and none was missing or impossible.
  bool Complete() const { return ok_ && bytes_.empty(); }
  bool ok() const { return ok_; }

 private:
  uint8_t Next() {
    if (bytes_.empty()) {
      ok_ = false;
      return 0;
    }
    const uint8_t byte = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return byte;
  }

  std::span<const uint8_t> bytes_;
  bool ok_ = true;
};

namespace fields {

template <class T, class Visit>
constexpr void ForEach(T& value, Visit&& visit) {
  constexpr size_t kCount = Count<std::remove_const_t<T>>();
  static_assert(kCount > 0);
  const auto all = [&visit](auto&... members) { (visit(members), ...); };
  if constexpr (kCount == 0) {
  }
#define VMM_CASE(n, ...)            \
  else if constexpr (kCount == n) { \
    auto& [__VA_ARGS__] = value;    \
    all(__VA_ARGS__);               \
  }
#include "vmm/core/state/field_table.inc"
#undef VMM_CASE
}

}  // namespace fields
}  // namespace vmm
