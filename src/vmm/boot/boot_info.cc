#include "vmm/boot/boot_info.h"

#include <cstring>

#include "vmm/boot/boot_cpu.h"
#include "vmm/core/base/check.h"

namespace vmm {
namespace {

constexpr uint64_t kAlignment = 16;

Result<uint8_t*> ClaimAnywhere(const BootFile& kernel, std::string_view name, uint64_t size,
                               RangePlan& plan, uint64_t* address) {
  const auto place = plan.FindLowest(size, kAlignment, kBiosDataEnd.value, 4 * kGiB);
  if (!place) return kernel.Invalid("leaves no guest memory for the boot information");
  *address = *place;
  return plan.Claim(name, *place, size);
}

}  // namespace

Result<PlacedBootInfo> PlaceBootInfo(const BootFile& kernel, RangePlan& plan,
                                     const std::function<std::vector<uint8_t>(uint64_t)>& build) {
  PlacedBootInfo placed;
  auto gdt = ClaimAnywhere(kernel, "boot GDT", kBootGdtSize, plan, &placed.gdt.value);
  if (!gdt) return tl::unexpected(gdt.error());
  WriteBootGdt(*gdt, EntryMode::kProtected32);

  const uint64_t size = build(0).size();
  auto host = ClaimAnywhere(kernel, "boot information", size, plan, &placed.block.value);
  if (!host) return tl::unexpected(host.error());
  const std::vector<uint8_t> block = build(placed.block.value);
  CHECK(block.size() == size);
  std::memcpy(*host, block.data(), size);
  return placed;
}

}  // namespace vmm
