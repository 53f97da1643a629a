// Users or groups of the guest and of the host, side by side.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace vmm {

struct IdRange {
  uint32_t guest = 0, host = 0;  // the first of each
  uint32_t count = 1;
  friend bool operator==(const IdRange&, const IdRange&) = default;
};

// What is in no range is nobody.
class IdMap {
 public:
  static constexpr uint32_t kNobody = 65534;  // as Linux shows ids that it can't map
  static constexpr size_t kMaxRanges = 64;

  IdMap() = default;
  explicit IdMap(std::vector<IdRange> ranges) : ranges_(std::move(ranges)) {}

  bool empty() const { return ranges_.empty(); }
  uint32_t ToGuest(uint32_t host) const;
  std::optional<uint32_t> ToHost(uint32_t guest) const;
  // Is `host` the only id of the host in it?
  bool IsOnly(uint32_t host) const;

 private:
  std::vector<IdRange> ranges_;
};

}  // namespace vmm
