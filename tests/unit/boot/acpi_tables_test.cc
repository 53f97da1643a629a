// [ACPI] 5.2: what a guest finds from the RSDP on.
#include "vmm/acpi/acpi_tables.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "vmm/acpi/aml.h"
#include "vmm/boot/memory_map.h"

namespace {

using Catch::Matchers::Contains;
using vmm::AcpiConfig;
using vmm::GuestPhys;
using Bytes = std::vector<uint8_t>;

struct Tables {
  explicit Tables(const AcpiConfig& config = {}) {
    rsdp = vmm::BuildAcpiTables(config, memory).value().value;
  }
  template <class Int>
  Int Peek(uint64_t address) const {
    Int value{};
    REQUIRE(memory.Read(GuestPhys(address), {reinterpret_cast<uint8_t*>(&value), sizeof(value)}));
    return value;
  }
  Bytes Read(uint64_t address, uint64_t size) const {
    Bytes bytes(size);
    REQUIRE(memory.Read(GuestPhys(address), bytes));
    return bytes;
  }
  Bytes Table(uint64_t address) const { return Read(address, Peek<uint32_t>(address + 4)); }
  // Every table by signature, found as a guest does.
  std::map<std::string, uint64_t> All() const {
    std::map<std::string, uint64_t> all;
    const auto add = [&](uint64_t address) {
      const Bytes name = Read(address, 4);
      all[std::string(name.begin(), name.end())] = address;
    };
    const uint64_t xsdt = Peek<uint64_t>(rsdp + 24);
    add(xsdt);
    add(Peek<uint32_t>(rsdp + 16));
    for (uint64_t at = 36; at < Peek<uint32_t>(xsdt + 4); at += 8) add(Peek<uint64_t>(xsdt + at));
    add(Peek<uint32_t>(all.at("FACP") + 36));
    add(Peek<uint64_t>(all.at("FACP") + 140));
    return all;
  }

  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(2 * vmm::kMiB).value());
  uint64_t rsdp = 0;
};

uint8_t Sum(const Bytes& bytes) {
  return static_cast<uint8_t>(std::accumulate(bytes.begin(), bytes.end(), 0));
}

TEST_CASE("The RSDP is found by the search of the BIOS area, with both checksums right") {
  // [ACPI] 5.2.5.1: on a 16-byte boundary in 0xE0000-0xFFFFF
  Tables tables;
  const Bytes signature{'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  uint64_t found = 0;
  for (uint64_t at = 0xe0000; at < 0x100000 && found == 0; at += 16) {
    if (tables.Read(at, 8) == signature) found = at;
  }
  REQUIRE(found == tables.rsdp);
  CHECK(Sum(tables.Read(found, 20)) == 0);
  CHECK(Sum(tables.Read(found, 36)) == 0);
  CHECK(tables.Peek<uint8_t>(found + 15) == 2);
}

TEST_CASE("All tables are there, apart from each other, with right checksums") {
  AcpiConfig config;
  config.cpu_count = AcpiConfig::kMaxCpus;
  Tables tables(config);
  const auto all = tables.All();
  std::vector<std::string> names;
  std::map<uint64_t, uint64_t> ranges{{tables.rsdp, tables.rsdp + 36}};
  for (const auto& [name, address] : all) {
    names.push_back(name);
    INFO(name);
    CHECK(address % 16 == 0);
    const Bytes table = tables.Table(address);
    if (name != "FACS") CHECK(Sum(table) == 0);
    ranges[address] = address + table.size();
  }
  CHECK(names ==
        std::vector<std::string>{"APIC", "DSDT", "FACP", "FACS", "HPET", "RSDT", "SSDT", "XSDT"});
  CHECK(all.at("FACS") % 64 == 0);
  uint64_t last = vmm::kBiosAreaStart.value;
  for (const auto& [start, end] : ranges) {
    CHECK(start >= last);
    last = end;
  }
  CHECK(last <= vmm::kHighMemoryStart.value);
  // The 32-bit list says the same as the 64-bit one.
  const uint64_t rsdt = all.at("RSDT"), xsdt = all.at("XSDT");
  for (unsigned i = 0; i < 4; ++i) {
    CHECK(tables.Peek<uint32_t>(rsdt + 36 + 4 * i) == tables.Peek<uint64_t>(xsdt + 36 + 8 * i));
  }
}

TEST_CASE("The FADT describes the PIIX4's fixed hardware") {
  // [ACPI] 5.2.9, table 5.9
  Tables tables;
  const uint64_t fadt = tables.All().at("FACP");
  CHECK(tables.Peek<uint8_t>(fadt + 8) == 6);
  CHECK(tables.Peek<uint32_t>(fadt + 4) == 276);
  CHECK(tables.Peek<uint16_t>(fadt + 46) == 9);
  CHECK(tables.Peek<uint32_t>(fadt + 48) == 0xb2);
  CHECK(tables.Peek<uint8_t>(fadt + 52) == 0xf1);
  CHECK(tables.Peek<uint8_t>(fadt + 53) == 0xf0);
  CHECK(tables.Peek<uint32_t>(fadt + 56) == 0x600);
  CHECK(tables.Peek<uint32_t>(fadt + 64) == 0x604);
  CHECK(tables.Peek<uint32_t>(fadt + 76) == 0x608);
  CHECK(tables.Peek<uint32_t>(fadt + 80) == 0xafe0);
  CHECK(tables.Peek<uint8_t>(fadt + 92) == 4);
  CHECK(tables.Peek<uint16_t>(fadt + 96) > 100);    // no C2
  CHECK(tables.Peek<uint16_t>(fadt + 98) > 1000);   // no C3
  CHECK(tables.Peek<uint16_t>(fadt + 109) == 0x7);  // legacy devices, 8042, no VGA
  const uint32_t flags = tables.Peek<uint32_t>(fadt + 112);
  CHECK((flags & 1u << 4) == 0);   // the power button is fixed hardware
  CHECK((flags & 1u << 5) != 0);   // no such sleep button
  CHECK((flags & 1u << 8) != 0);   // 32-bit PM timer
  CHECK((flags & 1u << 10) != 0);  // the reset register works
  CHECK((flags & 1u << 20) == 0);  // not hardware-reduced
  CHECK(tables.Peek<uint64_t>(fadt + 120) == 0xcf9);
  CHECK(tables.Peek<uint8_t>(fadt + 128) == 6);
  // The extended addresses repeat the plain ones.
  const std::pair<unsigned, unsigned> twins[] = {{56, 148}, {64, 172}, {76, 208}, {80, 220}};
  for (const auto& [plain, extended] : twins) {
    CHECK(tables.Peek<uint8_t>(fadt + extended) == 1);
    CHECK(tables.Peek<uint64_t>(fadt + extended + 4) == tables.Peek<uint32_t>(fadt + plain));
  }
}

TEST_CASE("The MADT lists every processor, the IOAPIC and how ISA interrupts differ") {
  // [ACPI] 5.2.12
  AcpiConfig config;
  config.cpu_count = 4;
  Tables tables(config);
  const uint64_t madt = tables.All().at("APIC");
  CHECK(tables.Peek<uint32_t>(madt + 36) == 0xfee00000);
  CHECK(tables.Peek<uint32_t>(madt + 40) == 1);
  const Bytes table = tables.Table(madt);
  std::vector<Bytes> entries;
  for (size_t at = 44; at < table.size(); at += table[at + 1]) {
    REQUIRE(table[at + 1] >= 2);
    REQUIRE(at + table[at + 1] <= table.size());
    entries.emplace_back(table.begin() + static_cast<ptrdiff_t>(at),
                         table.begin() + static_cast<ptrdiff_t>(at + table[at + 1]));
  }
  CHECK(entries == std::vector<Bytes>{{0, 8, 0, 0, 1, 0, 0, 0},
                                      {0, 8, 1, 1, 1, 0, 0, 0},
                                      {0, 8, 2, 2, 1, 0, 0, 0},
                                      {0, 8, 3, 3, 1, 0, 0, 0},
                                      {1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0},
                                      {2, 10, 0, 0, 2, 0, 0, 0, 0, 0},
                                      {2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0},
                                      {4, 6, 0xff, 0, 0, 1}});
}

TEST_CASE("The HPET's table says what its registers say") {
  // [HPET] 3.2.4: event timer block ID, base address, minimum ticks of a periodic timer
  Tables tables;
  const uint64_t hpet = tables.All().at("HPET");
  CHECK(tables.Peek<uint32_t>(hpet + 4) == 56);
  CHECK(tables.Peek<uint32_t>(hpet + 36) == 0x8086A201);
  CHECK(tables.Peek<uint8_t>(hpet + 40) == 0);  // in memory
  CHECK(tables.Peek<uint64_t>(hpet + 44) == 0xFED00000);
  CHECK(tables.Peek<uint8_t>(hpet + 52) == 0);
  CHECK(tables.Peek<uint16_t>(hpet + 53) == 10'000);  // 100 us
}

TEST_CASE("A processor count outside the tables' range is an internal error") {
  auto memory = vmm::GuestMemory::Create(2 * vmm::kMiB);
  for (unsigned count : {0u, AcpiConfig::kMaxCpus + 1}) {
    AcpiConfig config;
    config.cpu_count = count;
    auto result = vmm::BuildAcpiTables(config, *memory);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == vmm::ExitCode::kInternal);
  }
}

TEST_CASE("AML packages count their own length bytes") {
  // [ACPI] 20.2.4
  const auto head = [](size_t content) {
    const auto code = vmm::aml::Scope("ABCD", Bytes(content));
    return Bytes(code.begin() + 1, code.begin() + 4);
  };
  CHECK(head(0)[0] == 5);
  CHECK(head(58)[0] == 63);
  CHECK((head(59)[0] == 0x41 && head(59)[1] == 4));                            // 65: 0x1 + 4 * 16
  CHECK((head(4089)[0] == 0x4f && head(4089)[1] == 0xff));                     // 4095
  CHECK((head(4090)[0] == 0x81 && head(4090)[1] == 0 && head(4090)[2] == 1));  // 4097
}

// The reference: Intel's disassembler reads the tables.
class Iasl {
 public:
  Iasl() { std::filesystem::create_directory(directory_); }
  ~Iasl() { std::filesystem::remove_all(directory_); }
  static bool Present() { return std::system("iasl -v >/dev/null 2>&1") == 0; }

  // The source text of table `which`. Code must compile again as it was taken apart.
  std::string Disassemble(const Tables& tables, const std::string& which) {
    const Bytes table = tables.Table(tables.All().at(which));
    std::ofstream(directory_ / (which + ".dat"), std::ios::binary)
        .write(reinterpret_cast<const char*>(table.data()),
               static_cast<std::streamsize>(table.size()));
    Run("iasl -d " + which + ".dat");
    if (which == "DSDT" || which == "SSDT") Run("iasl " + which + ".dsl");
    std::ifstream file(directory_ / (which + ".dsl"));
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

 private:
  void Run(const std::string& command) {
    const std::string line =
        "cd '" + directory_.string() + "' && " + command + " >log 2>&1 || { cat log; false; }";
    INFO(line);
    CHECK(std::system(line.c_str()) == 0);
  }
  const std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("vmm-acpi-" + std::to_string(getpid()));
};

TEST_CASE("Intel's disassembler reads every table and finds what was meant") {
  if (!Iasl::Present()) {
    WARN("skipped: no iasl");
    return;
  }
  AcpiConfig config;
  config.cpu_count = 3;
  Tables tables(config);
  Iasl iasl;
  CHECK_THAT(iasl.Disassemble(tables, "FACP"),
             Contains("Reset Register Supported (V2) : 1") &&
                 Contains("PM Timer Block Address : 00000608") &&
                 Contains("Control Method Power Button (V1) : 0"));
  CHECK_THAT(iasl.Disassemble(tables, "APIC"), Contains("Local Apic Address : FEE00000") &&
                                                   Contains("Local APIC NMI") &&
                                                   Contains("I/O Apic ID : 00"));
  CHECK_THAT(iasl.Disassemble(tables, "XSDT"), Contains("Table Length : 00000044"));
  CHECK_THAT(iasl.Disassemble(tables, "HPET"), Contains("Hardware Block ID : 8086A201") &&
                                                   Contains("Address : 00000000FED00000") &&
                                                   Contains("Minimum Clock Ticks : 2710"));
  CHECK_THAT(iasl.Disassemble(tables, "FACS"), Contains("Version : 02"));
  CHECK_THAT(iasl.Disassemble(tables, "SSDT"),
             Contains("Device (C002)") && Contains("\"ACPI0007\"") && !Contains("C003"));
  CHECK_THAT(iasl.Disassemble(tables, "DSDT"),
             Contains("PNP0501") && Contains("Name (_S5") && Contains("PNP0103"));
}

}  // namespace
