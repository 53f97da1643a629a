#include "vmm/boot/range_plan.h"

#include <catch2/catch.hpp>

#include "vmm/core/memory/guest_memory.h"

namespace {

using Catch::Matchers::Contains;
using vmm::kMiB;
using vmm::RangePlan;

struct Plan {
  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(16 * kMiB).value());
  RangePlan plan{memory};

  std::string Refusal(uint64_t start, uint64_t size) {
    auto claim = plan.Claim("it", start, size);
    return claim ? "" : claim.error().message;
  }
};

TEST_CASE("A claimed range can't be claimed again, in whole or in part") {
  Plan p;
  auto host = p.plan.Claim("kernel", 2 * kMiB, kMiB);
  REQUIRE(host);
  CHECK(*host == p.memory.Host(vmm::GuestPhys(2 * kMiB), kMiB));
  CHECK_THAT(p.Refusal(2 * kMiB, kMiB), Contains("overlaps kernel (0x200000-0x2fffff)"));
  CHECK_THAT(p.Refusal(3 * kMiB - 1, 1), Contains("overlaps"));
  CHECK_THAT(p.Refusal(kMiB, kMiB + 1), Contains("overlaps"));
  CHECK_THAT(p.Refusal(kMiB, 4 * kMiB), Contains("overlaps"));
  CHECK(p.plan.Claim("below", 2 * kMiB - 1, 1));
  CHECK(p.plan.Claim("above", 3 * kMiB, 1));
  REQUIRE(p.plan.placed().size() == 3);
  CHECK(p.plan.placed()[0].name == "below");
}

TEST_CASE("A released range can be claimed again") {
  Plan p;
  REQUIRE(p.plan.Claim("kernel", 2 * kMiB, kMiB));
  p.plan.Release(2 * kMiB);
  CHECK(p.plan.placed().empty());
  CHECK(p.plan.Claim("kernel", 2 * kMiB, 2 * kMiB));
}

TEST_CASE("Ranges outside RAM, empty ones and ones that wrap around are refused") {
  Plan p;
  CHECK_THAT(p.Refusal(kMiB, 0), Contains("is empty"));
  CHECK_THAT(p.Refusal(~uint64_t{0}, 2), Contains("over the end of the address space"));
  CHECK_THAT(p.Refusal(kMiB, ~uint64_t{0}), Contains("over the end"));
  CHECK_THAT(p.Refusal(16 * kMiB - 1, 2), Contains("does not fit into guest memory (16 MiB)"));
  CHECK_THAT(p.Refusal(0xfee00000, 1), Contains("does not fit"));
  CHECK_THAT(p.Refusal(0xfff, 1), Contains("overlaps the BIOS data area"));
  CHECK_THAT(p.Refusal(0x9fbff, 2), Contains("video memory and the BIOS"));
  CHECK_THAT(p.Refusal(0xfffff, 1), Contains("video memory and the BIOS"));
  CHECK(p.plan.placed().empty());
}

TEST_CASE("Free room is found from the top and from the bottom, around what is taken") {
  Plan p;
  REQUIRE(p.plan.Claim("kernel", 15 * kMiB, kMiB));
  CHECK(p.plan.FindHighest(0x1001, 0x1000, kMiB, 4 * vmm::kGiB) == 15 * kMiB - 0x2000);
  CHECK(p.plan.FindHighest(0x1000, 0x1000, kMiB, 2 * kMiB) == 2 * kMiB - 0x1000);
  CHECK(p.plan.FindHighest(14 * kMiB, 0x1000, kMiB, 4 * vmm::kGiB) == kMiB);
  CHECK_FALSE(p.plan.FindHighest(14 * kMiB + 1, 0x1000, kMiB, 4 * vmm::kGiB));
  CHECK_FALSE(p.plan.FindHighest(~uint64_t{0}, 0x1000, kMiB, 4 * vmm::kGiB));
  CHECK_FALSE(p.plan.FindHighest(1, 1, 2 * kMiB, kMiB));

  CHECK(p.plan.FindLowest(0x1000, 0x1000, 0, 4 * vmm::kGiB) == 0x1000);
  CHECK(p.plan.FindLowest(kMiB, 16, 0x1000, 4 * vmm::kGiB) == kMiB);
  CHECK_FALSE(p.plan.FindLowest(kMiB, 16, 0x1000, 1 * kMiB));
  CHECK_FALSE(p.plan.FindLowest(15 * kMiB, 16, 0x1000, 4 * vmm::kGiB));
  CHECK_FALSE(p.plan.FindLowest(1, 16, ~uint64_t{0}, ~uint64_t{0}));
}

}  // namespace
