// A structure of the KVM API that ends in an array of no fixed length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvm {

// `Header` has `Entry entries[]` as its last member; all of it starts as zeros.
template <class Header, class Entry>
class FlexibleList {
 public:
  explicit FlexibleList(size_t entries)
      : storage_((sizeof(Header) + entries * sizeof(Entry) + 7) / 8) {}

  Header* operator->() { return reinterpret_cast<Header*>(storage_.data()); }
  const Header* operator->() const { return reinterpret_cast<const Header*>(storage_.data()); }
  Header* get() { return operator->(); }

 private:
  std::vector<uint64_t> storage_;
};

}  // namespace kvm
