// Page tables are built by hand, as [SDM 3A] 4.3 to 4.5 draw them.
#include "vmm/core/state/linear_memory.h"

#include <array>
#include <catch2/catch.hpp>
#include <numeric>
#include <vector>

using vmm::CpuState;
using vmm::GuestMemory;
using vmm::GuestPhys;
using vmm::GuestVirt;

namespace {

constexpr uint64_t kPg = 0x80000001, kPae = 0x20, kPse = 0x10, kLma = 0x400;
constexpr uint64_t kPresent = 1, kLarge = 0x80;

struct Tables {
  GuestMemory memory = *GuestMemory::Create(8 * vmm::kMiB);
  CpuState state;

  template <class T>
  void Entry(uint64_t table, unsigned index, T value) {
    std::array<uint8_t, sizeof(T)> bytes;
    for (size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
    REQUIRE(memory.Write(GuestPhys(table + index * sizeof(T)), bytes));
  }
  uint64_t At(uint64_t linear) {
    const auto phys = TranslateLinear(state, memory, GuestVirt(linear));
    return phys ? phys->value : ~uint64_t{0};
  }
};
constexpr uint64_t kNowhere = ~uint64_t{0};

}  // namespace

TEST_CASE("without paging a linear address is the physical one, of 32 bits") {
  Tables tables;
  CHECK(tables.At(0x1234) == 0x1234);
  CHECK(tables.At(0x1'0000'1234) == 0x1234);
}

TEST_CASE("32-bit paging has 4 KiB and, with CR4.PSE, 4 MiB pages of up to 40 bits") {
  Tables tables;
  tables.state.cr0 = kPg;
  tables.state.cr3 = 0x1000;
  tables.Entry<uint32_t>(0x1000, 1, 0x2000 | kPresent);
  tables.Entry<uint32_t>(0x2000, 2, 0x5000 | kPresent);
  tables.Entry<uint32_t>(0x1000, 2, 0x00c0'2000 | kLarge | kPresent);
  CHECK(tables.At(0x0040'2abc) == 0x5abc);
  CHECK(tables.At(0x0040'3abc) == kNowhere);
  CHECK(tables.At(0x0000'0000) == kNowhere);
  tables.state.cr4 = kPse;
  CHECK(tables.At(0x0081'2345) == 0x1'00c1'2345);
}

TEST_CASE("PAE paging has four PDPTEs, 4 KiB and 2 MiB pages") {
  Tables tables;
  tables.state.cr0 = kPg;
  tables.state.cr4 = kPae;
  tables.state.cr3 = 0x1020;
  tables.Entry<uint64_t>(0x1020, 3, 0x2000 | kPresent);
  tables.Entry<uint64_t>(0x2000, 0, 0x3000 | kPresent);
  tables.Entry<uint64_t>(0x2000, 1, 0x40'0000 | kLarge | kPresent);
  tables.Entry<uint64_t>(0x3000, 511, 0x8000'0000'0000'5000 | kPresent);  // NX
  CHECK(tables.At(0xc01f'fabc) == 0x5abc);
  CHECK(tables.At(0xc02a'bcde) == 0x4a'bcde);
  CHECK(tables.At(0x8000'0000) == kNowhere);
}

TEST_CASE("4-level paging has 4 KiB, 2 MiB and 1 GiB pages, 5-level paging one level more") {
  Tables tables;
  tables.state.cr0 = kPg;
  tables.state.cr4 = kPae;
  tables.state.msr.efer = kLma;
  tables.state.cr3 = 0x1000 | 0x18;  // PWT and PCD are no address bits
  tables.Entry<uint64_t>(0x1000, 511, 0x2000 | kPresent);
  tables.Entry<uint64_t>(0x2000, 510, 0x3000 | kPresent);
  tables.Entry<uint64_t>(0x2000, 509, 0x4000'0000 | kLarge | kPresent);
  tables.Entry<uint64_t>(0x3000, 8, 0x4000 | kPresent);
  tables.Entry<uint64_t>(0x3000, 9, 0x20'0000 | kLarge | kPresent);
  tables.Entry<uint64_t>(0x4000, 1, 0x8000'0000'0000'5000 | kPresent);
  CHECK(tables.At(0xffff'ffff'8100'1234) == 0x5234);
  CHECK(tables.At(0xffff'ffff'8120'1234) == 0x20'1234);
  CHECK(tables.At(0xffff'ffff'4012'3456) == 0x4012'3456);
  CHECK(tables.At(0xffff'ffff'8100'0000) == kNowhere);
  CHECK(tables.At(0x0000'ffff'8100'1234) == kNowhere);  // not canonical
  tables.state.cr3 = 0x6000;
  tables.state.cr4 |= 0x1000;  // LA57
  tables.Entry<uint64_t>(0x6000, 1, 0x1000 | kPresent);
  CHECK(tables.At(0x0001'ffff'8100'1234) == 0x5234);
}

TEST_CASE("linear memory is read up to the first byte that is not there, and written whole") {
  Tables tables;
  tables.state.cr0 = kPg;
  tables.state.cr3 = 0x1000;
  tables.Entry<uint32_t>(0x1000, 0, 0x2000 | kPresent);
  tables.Entry<uint32_t>(0x2000, 4, 0x9000 | kPresent);
  tables.Entry<uint32_t>(0x2000, 5, 0x7000 | kPresent);
  tables.Entry<uint32_t>(0x2000, 6, 0xf000'0000 | kPresent);  // a device's page
  std::vector<uint8_t> data(0x1010);
  std::iota(data.begin(), data.end(), uint8_t{1});
  std::vector<std::pair<uint64_t, uint64_t>> written;
  const auto note = [&](GuestPhys phys, uint64_t length) {
    written.emplace_back(phys.value, length);
  };
  CHECK(WriteLinear(tables.state, tables.memory, GuestVirt(0x4ff8), data, note) == false);
  CHECK(written.empty());
  data.resize(0x1000);
  CHECK(WriteLinear(tables.state, tables.memory, GuestVirt(0x4ff8), data, note));
  CHECK(written == std::vector<std::pair<uint64_t, uint64_t>>{{0x9ff8, 8}, {0x7000, 0xff8}});
  std::vector<uint8_t> back(0x2000);
  CHECK(ReadLinear(tables.state, tables.memory, GuestVirt(0x4ff8), back) == 0x1008);
  CHECK(std::equal(data.begin(), data.end(), back.begin()));
  CHECK(ReadLinear(tables.state, tables.memory, GuestVirt(0x3000), back) == 0);
  CHECK(ReadLinear(tables.state, tables.memory, GuestVirt(0x6000), back) == 0);
}

TEST_CASE("page tables that lie outside of RAM lead nowhere") {
  Tables tables;
  tables.state.cr0 = kPg;
  tables.state.cr3 = 0xffff'f000;
  CHECK(tables.At(0) == kNowhere);
  tables.state.msr.efer = kLma;
  tables.state.cr3 = 0x000f'ffff'ffff'f000;
  CHECK(tables.At(0) == kNowhere);
}
