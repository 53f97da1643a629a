// The saved machine's parts before they are bytes in a file, and after: one named, versioned
// section for each device, processor or clock.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/core/state/field_codec.h"

namespace vmm {

struct Section {
  std::string name;  // of the instance: "serial0", "cpu1"
  uint32_t version = 0;
  std::vector<uint8_t> bytes;
};

// A section's struct has `static constexpr uint32_t kVersion`. Taking trusts nothing: what is
// missing, of another version, too short or too long is kConfigInvalid with the section's name.
class Sections {
 public:
  static constexpr size_t kMaxName = 64, kMaxCount = 1024;
  static constexpr size_t kMaxBytes = size_t{16} << 20;  // of one section

  template <class T>
  void Put(std::string_view name, const T& value) {
    FieldWriter writer;
    writer.Put(value);
    PutBytes(name, T::kVersion, writer.Take());
  }
  void PutBytes(std::string_view name, uint32_t version, std::vector<uint8_t> bytes) {
    list_.push_back({std::string(name), version, std::move(bytes)});
  }

  // Each section once.
  template <class T>
  Result<T> Take(std::string_view name) {
    auto bytes = TakeBytes(name, T::kVersion);
    if (!bytes) return tl::unexpected(std::move(bytes.error()));
    T value;
    FieldReader reader(*bytes);
    reader.Get(value);
    if (!reader.Complete()) return Damaged(name);
    return value;
  }
  // For any device with `Load(const State&)`.
  template <class State, class Part>
  Result<void> LoadInto(std::string_view name, Part& part) {
    auto state = Take<State>(name);
    if (!state) return tl::unexpected(std::move(state.error()));
    if (auto loaded = part.Load(*state); !loaded) {
      return Fail(ExitCode::kConfigInvalid, loaded.error().message);
    }
    return {};
  }
  bool Has(std::string_view name) const;
  Result<std::vector<uint8_t>> TakeBytes(std::string_view name, uint32_t version);

  // Every section was taken: one that is left belongs to a part that this machine does not have.
  Result<void> CheckAllTaken() const;

  const std::vector<Section>& list() const { return list_; }

 private:
  static tl::unexpected<Error> Damaged(std::string_view name);
  std::vector<Section> list_;
};

}  // namespace vmm
