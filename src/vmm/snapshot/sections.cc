#include "vmm/snapshot/sections.h"

#include <fmt/format.h>

namespace vmm {

Result<std::vector<uint8_t>> Sections::TakeBytes(std::string_view name, uint32_t version) {
  const auto found = std::find_if(list_.begin(), list_.end(),
                                  [&](const Section& section) { return section.name == name; });
  if (found == list_.end()) {
    return Fail(ExitCode::kConfigInvalid, fmt::format("it holds no state of {}", name));
  }
  if (found->version != version) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("its state of {} has version {}, and this vmm reads version {}; it was "
                            "written by {} vmm",
                            name, found->version, version,
                            found->version > version ? "a newer" : "an older"));
  }
  std::vector<uint8_t> bytes = std::move(found->bytes);
  list_.erase(found);
  return bytes;
}

bool Sections::Has(std::string_view name) const {
  return std::any_of(list_.begin(), list_.end(),
                     [&](const Section& section) { return section.name == name; });
}

Result<void> Sections::CheckAllTaken() const {
  if (list_.empty()) return {};
  return Fail(
      ExitCode::kConfigInvalid,
      fmt::format("it holds state of {}, which this machine does not have", list_.front().name));
}

tl::unexpected<Error> Sections::Damaged(std::string_view name) {
  return Fail(ExitCode::kConfigInvalid, fmt::format("its state of {} is damaged", name));
}

}  // namespace vmm
