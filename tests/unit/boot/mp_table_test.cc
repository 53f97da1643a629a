// [MP 1.4] 4: what a guest without ACPI finds.
#include "vmm/acpi/mp_table.h"

#include <catch2/catch.hpp>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace {

using Bytes = std::vector<uint8_t>;

struct Found {
  explicit Found(unsigned cpus) {
    vmm::AcpiConfig config;
    config.cpu_count = cpus;
    REQUIRE(vmm::BuildAcpiTables(config, memory));
    vmm::WriteMpTable(config, memory);
    // 4.1: the BIOS ROM's range is searched on 16-byte boundaries.
    for (uint64_t at = 0xf0000; at < 0x100000 && pointer.empty(); at += 16) {
      const Bytes bytes = Read(at, 16);
      if (std::string(bytes.begin(), bytes.begin() + 4) == "_MP_") pointer = bytes;
    }
    REQUIRE(pointer.size() == 16);
    const uint64_t address = Word(pointer, 4, 4);
    const Bytes header = Read(address, 44);
    table = Read(address, Word(header, 4, 2));
    for (size_t at = 44; at < table.size();) {
      const size_t size = table[at] == 0 ? 20 : 8;
      REQUIRE(at + size <= table.size());
      entries[table[at]].emplace_back(table.begin() + static_cast<ptrdiff_t>(at),
                                      table.begin() + static_cast<ptrdiff_t>(at + size));
      at += size;
      ++count;
    }
  }
  Bytes Read(uint64_t address, uint64_t size) const {
    Bytes bytes(size);
    REQUIRE(memory.Read(vmm::GuestPhys(address), bytes));
    return bytes;
  }
  static uint64_t Word(const Bytes& bytes, size_t offset, size_t size) {
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | bytes.at(offset + i);
    return value;
  }

  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(2 * vmm::kMiB).value());
  Bytes pointer, table;
  std::map<uint8_t, std::vector<Bytes>> entries;
  unsigned count = 0;
};

uint8_t Sum(const Bytes& bytes) {
  return static_cast<uint8_t>(std::accumulate(bytes.begin(), bytes.end(), 0));
}

TEST_CASE("The MP floating pointer and table have right checksums and counts") {
  Found found(4);
  CHECK(Sum(found.pointer) == 0);
  CHECK(found.pointer[8] == 1);
  CHECK(found.pointer[9] == 4);
  CHECK(found.pointer[11] == 0);  // 4.1: the table counts, not a default configuration
  CHECK(Sum(found.table) == 0);
  CHECK(std::string(found.table.begin(), found.table.begin() + 4) == "PCMP");
  CHECK(found.table[6] == 4);
  CHECK(Found::Word(found.table, 34, 2) == found.count);
  CHECK(Found::Word(found.table, 36, 4) == 0xFEE00000);
}

TEST_CASE("The MP table names processors, buses and the IOAPIC in the order of their types") {
  Found found(3);
  REQUIRE(found.entries[0].size() == 3);
  for (uint8_t cpu = 0; cpu < 3; ++cpu) {
    CHECK(found.entries[0][cpu][1] == cpu);
    CHECK(found.entries[0][cpu][3] == (cpu == 0 ? 3 : 1));  // 4.3.1: enabled; boot processor
  }
  CHECK(found.entries[1] == std::vector<Bytes>{{1, 0, 'P', 'C', 'I', ' ', ' ', ' '},
                                               {1, 1, 'I', 'S', 'A', ' ', ' ', ' '}});
  CHECK(found.entries[2] == std::vector<Bytes>{{2, 0, 0x20, 1, 0, 0, 0xc0, 0xfe}});
  uint8_t last = 0;
  for (size_t at = 44; at < found.table.size(); at += found.table[at] == 0 ? 20 : 8) {
    CHECK(found.table[at] >= last);  // 4.3: sorted by type
    last = found.table[at];
  }
}

TEST_CASE("The MP table wires ISA and PCI interrupts as ACPI does") {
  Found found(1);
  const auto& wires = found.entries[3];
  const auto has = [&](const Bytes& wire) {
    return std::find(wires.begin(), wires.end(), wire) != wires.end();
  };
  CHECK(wires.size() == 15 + 31 * 4);
  CHECK(has({3, 0, 0, 0, 1, 0, 0, 2}));            // the timer
  CHECK(has({3, 0, 0, 0, 1, 4, 0, 4}));            // COM1
  CHECK(has({3, 0, 0xd, 0, 1, 9, 0, 9}));          // the SCI: a level, active high
  CHECK(has({3, 0, 0, 0, 0, 1 << 2, 0, 16}));      // slot 1 INTA
  CHECK(has({3, 0, 0, 0, 0, 4 << 2 | 3, 0, 18}));  // slot 4 INTD
  for (const Bytes& wire : wires) CHECK_FALSE((wire[4] == 1 && wire[5] == 2));
  CHECK(found.entries[4] ==
        std::vector<Bytes>{{4, 3, 0, 0, 1, 0, 0, 0}, {4, 1, 0, 0, 1, 0, 0xff, 1}});
}

}  // namespace
