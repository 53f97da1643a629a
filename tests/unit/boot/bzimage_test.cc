#include <algorithm>
#include <catch2/catch.hpp>

#include "kernel_images.h"
#include "vmm/boot/boot_cpu.h"

namespace {

using namespace boot_test;
using Catch::Matchers::Contains;
using vmm::Gpr;
using vmm::kMiB;
using vmm::Seg;

TEST_CASE("A bzImage is entered in long mode with boot_params in RSI") {
  // [LINUX-BOOT] "64-bit Boot Protocol"
  Boot boot;
  boot.request.command_line = "console=ttyS0 quiet";
  boot.request.acpi_rsdp = vmm::GuestPhys(0xe0000);
  auto entry = boot.Load(BzImage());
  REQUIRE(entry);
  CHECK(entry->format == vmm::BootFormat::kBzImage);
  CHECK(entry->mode == vmm::EntryMode::kLong64);
  CHECK(entry->entry == vmm::GuestPhys(0x1000200));
  CHECK_THAT(entry->description, Contains("6.1.0-test (builder) #1") && Contains("2.15"));
  CHECK(boot.Peek<uint32_t>(0x1000000) == 0x90909090);

  CHECK(boot.cpu.rip == 0x1000200);
  CHECK(boot.cpu.rflags == 2);
  CHECK((boot.cpu.cr0 & 0x80000001) == 0x80000001);
  CHECK((boot.cpu.cr0 & 0x60000000) == 0);  // caches on
  CHECK(boot.cpu.cr4 == 0x20);
  CHECK(boot.cpu.msr.efer == 0x500);
  CHECK(boot.seg(Seg::CS).selector == 0x10);
  CHECK(boot.seg(Seg::CS).l());
  CHECK_FALSE(boot.seg(Seg::CS).db());
  for (Seg seg : {Seg::DS, Seg::ES, Seg::SS}) CHECK(boot.seg(seg).selector == 0x18);

  const uint64_t params = boot.gpr(Gpr::RSI);
  CHECK(params % 4096 == 0);
  CHECK(boot.Peek<uint32_t>(params + 0x202) == 0x53726448);
  CHECK(boot.Peek<uint8_t>(params + 0x210) == 0xff);
  CHECK(boot.Peek<uint32_t>(params + 0x214) == 0x1000000);
  CHECK(boot.Text(boot.Peek<uint32_t>(params + 0x228)) == "console=ttyS0 quiet");
  CHECK(boot.Peek<uint64_t>(params + 0x070) == 0xe0000);
  CHECK(boot.Peek<uint32_t>(params + 0x218) == 0);
  CHECK(boot.Peek<uint8_t>(params + 0x1ef) == 0);  // sentinel: the page is clean
}

TEST_CASE("The page tables at a 64-bit entry map the first 4 GiB one to one") {
  Boot boot;
  REQUIRE(boot.Load(BzImage()));
  for (uint64_t address :
       {uint64_t{0}, uint64_t{0x1000200}, uint64_t{0xfee00000}, uint64_t{0xffffffff}}) {
    const uint64_t pml4e = boot.Peek<uint64_t>(boot.cpu.cr3 + (address >> 39) * 8);
    REQUIRE((pml4e & 3) == 3);
    const uint64_t pdpte = boot.Peek<uint64_t>((pml4e & ~0xfffull) + (address >> 30 & 511) * 8);
    REQUIRE((pdpte & 3) == 3);
    const uint64_t pde = boot.Peek<uint64_t>((pdpte & ~0xfffull) + (address >> 21 & 511) * 8);
    CHECK((pde & 0x83) == 0x83);
    CHECK((pde & ~0x1fffffull) == (address & ~0x1fffffull));
  }
}

TEST_CASE("The GDT of the boot CPU agrees with its segment registers") {
  for (vmm::ForceEntry force : {vmm::ForceEntry::k64, vmm::ForceEntry::k32}) {
    Boot boot;
    boot.request.entry = force;
    REQUIRE(boot.Load(BzImage()));
    for (Seg seg : {Seg::CS, Seg::DS}) {
      const vmm::SegmentState& state = boot.seg(seg);
      const auto descriptor = boot.Peek<uint64_t>(boot.cpu.gdtr.base + state.selector);
      CHECK(state.selector + 7 <= boot.cpu.gdtr.limit);
      CHECK((descriptor >> 40 & 0xf0ff) == state.access);
      CHECK((descriptor & 0xffff) == 0xffff);
    }
  }
}

TEST_CASE("A kernel without a 64-bit entry is entered in flat protected mode") {
  // [LINUX-BOOT] "32-bit Boot Protocol"
  Boot boot;
  Bytes kernel = BzImage();
  Put<uint16_t>(kernel, 0x236, 0);
  SECTION("as it is") {}
  SECTION("or with one that the user does not want") {
    Put<uint16_t>(kernel, 0x236, 1);
    boot.request.entry = vmm::ForceEntry::k32;
  }
  auto entry = boot.Load(kernel);
  REQUIRE(entry);
  CHECK(entry->mode == vmm::EntryMode::kProtected32);
  CHECK(boot.cpu.rip == 0x1000000);
  CHECK(boot.cpu.cr0 == 0x11);
  CHECK(boot.cpu.cr4 == 0);
  CHECK(boot.cpu.msr.efer == 0);
  CHECK(boot.seg(Seg::CS).selector == 0x10);
  CHECK(boot.seg(Seg::CS).db());
  CHECK(boot.seg(Seg::CS).limit == 0xffffffff);
  CHECK(boot.seg(Seg::DS).selector == 0x18);
  CHECK(boot.gpr(Gpr::RBP) == 0);
  CHECK(boot.gpr(Gpr::RDI) == 0);
  CHECK(boot.gpr(Gpr::RBX) == 0);
  CHECK(boot.Peek<uint32_t>(boot.gpr(Gpr::RSI) + 0x202) == 0x53726448);
}

TEST_CASE("The boot CPU's local APIC lets the 8259s through") {
  // [MP] 3.6.2.2
  Boot boot;
  REQUIRE(boot.Load(BzImage()));
  CHECK(boot.cpu.apic.regs[0x0f0 / 4] == 0x1ff);
  CHECK(boot.cpu.apic.regs[0x350 / 4] == 0x700);
  CHECK(boot.cpu.apic.regs[0x360 / 4] == 0x400);
  CHECK(boot.cpu.msr.mtrr_def_type == 0x806);
}

TEST_CASE("The E820 map keeps the EBDA, the BIOS area and the PCI hole from the kernel") {
  Boot boot;
  auto entry = boot.Load(BzImage());
  REQUIRE(entry);
  const uint64_t params = boot.gpr(Gpr::RSI);
  const unsigned count = boot.Peek<uint8_t>(params + 0x1e8);
  REQUIRE(count == entry->memory_map.size());
  struct Row {
    uint64_t start, size;
    uint32_t type;
    bool operator==(const Row&) const = default;
  };
  std::vector<Row> rows;
  for (unsigned i = 0; i < count; ++i) {
    const uint64_t at = params + 0x2d0 + 20 * i;
    rows.push_back(
        {boot.Peek<uint64_t>(at), boot.Peek<uint64_t>(at + 8), boot.Peek<uint32_t>(at + 16)});
  }
  CHECK(rows == std::vector<Row>{{0, 0x9fc00, 1},
                                 {0x9fc00, 0x400, 2},
                                 {0xe0000, 0x20000, 2},
                                 {0x100000, 63 * kMiB, 1},
                                 {0xfeffc000, 0x1004000, 2}});
  CHECK(boot.Peek<uint16_t>(0x40e) == 0x9fc0);
  CHECK(boot.Peek<uint16_t>(0x413) == 639);
}

TEST_CASE("The initrd lies as high as RAM and the kernel allow") {
  Boot boot;
  const TempFile initrd(Bytes(5000, 0x42));
  boot.request.initrd = initrd.path();
  Bytes kernel = BzImage();
  uint64_t end = 64 * kMiB;
  SECTION("at the top of RAM") {}
  SECTION("or below the kernel's own limit") {
    end = 48 * kMiB;
    Put<uint32_t>(kernel, 0x22c, static_cast<uint32_t>(end - 1));
  }
  auto entry = boot.Load(kernel);
  REQUIRE(entry);
  const uint64_t params = boot.gpr(Gpr::RSI);
  const uint64_t start = boot.Peek<uint32_t>(params + 0x218);
  CHECK(boot.Peek<uint32_t>(params + 0x21c) == 5000);
  CHECK(start == end - 8192);
  CHECK(boot.Peek<uint8_t>(start) == 0x42);
  CHECK(boot.Peek<uint8_t>(start + 4999) == 0x42);
  CHECK(std::any_of(entry->placed.begin(), entry->placed.end(), [&](const auto& placed) {
    return placed.name == "initrd" && placed.start.value == start && placed.size == 5000;
  }));
}

TEST_CASE("A kernel that is not relocatable is loaded at 1 MiB and keeps the way to its place") {
  Boot boot;
  Bytes kernel = BzImage();
  Put<uint8_t>(kernel, 0x234, 0);
  auto entry = boot.Load(kernel);
  REQUIRE(entry);
  CHECK(entry->entry == vmm::GuestPhys(0x100200));
  CHECK(boot.Peek<uint32_t>(0x100000) == 0x90909090);
}

TEST_CASE("Protocol 2.06 is enough, with what it lacks at its defaults") {
  Boot boot;
  Bytes kernel = BzImage();
  Put<uint16_t>(kernel, 0x206, 0x0206);
  Put<uint16_t>(kernel, 0x200, 0x3aeb);  // the header ends at 0x23c
  auto entry = boot.Load(kernel);
  REQUIRE(entry);
  CHECK(entry->mode == vmm::EntryMode::kProtected32);
  CHECK(entry->entry == vmm::GuestPhys(0x100000));
  // Nothing of the file beyond the header reaches boot_params.
  CHECK(boot.Peek<uint64_t>(boot.gpr(Gpr::RSI) + 0x258) == 0);
}

TEST_CASE("A kernel that knows setup_data gets a new random seed at each boot") {
  // [LINUX-BOOT] setup_data; SETUP_RNG_SEED is type 9
  Boot boot;
  const auto seed = [&boot] {
    REQUIRE(boot.Load(BzImage()));
    const uint64_t node = boot.Peek<uint64_t>(boot.gpr(Gpr::RSI) + 0x250);
    REQUIRE(node != 0);
    CHECK(boot.Peek<uint64_t>(node) == 0);
    CHECK(boot.Peek<uint32_t>(node + 8) == 9);
    CHECK(boot.Peek<uint32_t>(node + 12) == 32);
    return std::pair(boot.Peek<uint64_t>(node + 16), boot.Peek<uint64_t>(node + 40));
  };
  const auto first = seed();
  CHECK(seed() != first);
  boot.request.seed_random = false;
  REQUIRE(boot.Load(BzImage()));
  CHECK(boot.Peek<uint64_t>(boot.gpr(Gpr::RSI) + 0x250) == 0);
}

TEST_CASE("A kernel cut off anywhere is refused") {
  const Bytes kernel = BzImage(0x400);
  Boot boot;
  for (size_t size = 0; size + 16 < kernel.size(); size += 7) {
    INFO(size);
    const Bytes cut(kernel.begin(), kernel.begin() + static_cast<ptrdiff_t>(size));
    auto result = boot.Load(cut);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == vmm::ExitCode::kConfigInvalid);
  }
}

TEST_CASE("CPUs that are not the boot CPU find memory write-back and their APIC as after reset") {
  vmm::CpuState cpu, reset;
  vmm::ResetCpuState(cpu, 1, 0x600);
  vmm::ResetCpuState(reset, 1, 0x600);
  vmm::ApplyFirmwareCpuState(cpu, false);
  CHECK(cpu.msr.mtrr_def_type == 0x806);
  CHECK(cpu.apic.regs == reset.apic.regs);
}

TEST_CASE("A command line may be as long as the kernel says and not a byte longer") {
  Boot boot;
  boot.request.command_line = std::string(2047, 'x');
  CHECK(boot.Load(BzImage()));
  boot.request.command_line.push_back('x');
  CHECK_THAT(boot.Refusal(BzImage()), Contains("has 2048 bytes") && Contains("takes 2047"));
  Bytes boundless = BzImage();
  Put<uint32_t>(boundless, 0x238, 0xffffffff);
  boot.request.command_line = std::string(kMiB, 'x');
  CHECK_THAT(boot.Refusal(boundless), Contains("has 1048576 bytes"));
  boot.request.command_line = std::string("a\0b", 3);
  CHECK_THAT(boot.Refusal(BzImage()), Contains("NUL"));
}

TEST_CASE("Too little memory is told with the amount that is needed") {
  Boot boot(23 * kMiB);
  CHECK_THAT(boot.Refusal(BzImage()), Contains("at least 24 MiB") && Contains("memory is 23 MiB"));
  Boot enough(24 * kMiB);
  CHECK(enough.Load(BzImage()));
  const TempFile initrd(Bytes(30 * kMiB, 1));
  Boot initrd_too_large(64 * kMiB);
  initrd_too_large.request.initrd = initrd.path();
  Bytes kernel = BzImage();
  Put<uint32_t>(kernel, 0x260, 40 * kMiB);
  CHECK_THAT(initrd_too_large.Refusal(kernel),
             Contains(initrd.path()) && Contains("at least 86 MiB"));
  Put<uint32_t>(kernel, 0x22c, 60 * kMiB);
  CHECK_THAT(initrd_too_large.Refusal(kernel), Contains("below 61 MiB only"));
}

TEST_CASE("A broken setup header is refused with the reason") {
  struct Case {
    const char* what;
    const char* reason;
    void (*spoil)(Bytes&);
  };
  const Case cases[] = {
      {"old protocol", "2.05; 2.06", [](Bytes& k) { Put<uint16_t>(k, 0x206, 0x205); }},
      {"zImage", "zImage", [](Bytes& k) { Put<uint8_t>(k, 0x211, 0); }},
      {"short header", "too short", [](Bytes& k) { Put<uint8_t>(k, 0x201, 0x30); }},
      {"no payload", "empty", [](Bytes& k) { Put<uint32_t>(k, 0x1f4, 0); }},
      {"half a payload", "truncated", [](Bytes& k) { k.resize(k.size() - 16); }},
      {"only setup", "truncated", [](Bytes& k) { k.resize(6 * 512); }},
      {"half a header", "truncated", [](Bytes& k) { k.resize(900); }},
      {"huge payload", "truncated", [](Bytes& k) { Put<uint32_t>(k, 0x1f4, 0xffffffff); }},
      {"high place", "preferred address", [](Bytes& k) { Put<uint64_t>(k, 0x258, 1ull << 40); }},
      {"low place", "preferred address", [](Bytes& k) { Put<uint64_t>(k, 0x258, 0x7c00); }},
      {"alignment 3", "alignment", [](Bytes& k) { Put<uint32_t>(k, 0x230, 3); }},
      {"alignment 0", "alignment", [](Bytes& k) { Put<uint32_t>(k, 0x230, 0); }},
      {"huge alignment", "guest memory", [](Bytes& k) { Put<uint32_t>(k, 0x230, 1u << 31); }},
      {"huge init_size", "at least", [](Bytes& k) { Put<uint32_t>(k, 0x260, 0xffffffff); }},
  };
  for (const Case& test : cases) {
    INFO(test.what);
    Boot boot;
    Bytes kernel = BzImage();
    test.spoil(kernel);
    auto result = boot.Load(kernel);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == vmm::ExitCode::kConfigInvalid);
    CHECK_THAT(result.error().message, Contains("kernel test") && Contains(test.reason));
  }
}

TEST_CASE("A 64-bit entry that the kernel does not have is refused") {
  Boot boot;
  boot.request.entry = vmm::ForceEntry::k64;
  Bytes kernel = BzImage();
  Put<uint16_t>(kernel, 0x236, 0);
  CHECK_THAT(boot.Refusal(kernel), Contains("no 64-bit entry"));
  CHECK_THAT(boot.Refusal(BzImage(0x200)), Contains("past the end"));
}

TEST_CASE("A bzImage takes no modules") {
  Boot boot;
  const TempFile module(Bytes{1});
  boot.request.modules.push_back({module.path(), ""});
  CHECK_THAT(boot.Refusal(BzImage()), Contains("no modules"));
}

TEST_CASE("RAM above 4 GiB is in the memory map") {
  auto memory = vmm::GuestMemory::Create(4 * vmm::kGiB);
  if (!memory) {
    WARN("skipped: " << memory.error().message);
    return;
  }
  const auto map = vmm::BuildMemoryMap(*memory);
  REQUIRE(map.size() == 6);
  CHECK(map[3] ==
        vmm::MemoryMapEntry{vmm::GuestPhys(0x100000), 3 * vmm::kGiB - kMiB, vmm::MemoryType::kRam});
  CHECK(map[5] ==
        vmm::MemoryMapEntry{vmm::GuestPhys(4 * vmm::kGiB), vmm::kGiB, vmm::MemoryType::kRam});
  CHECK(std::is_sorted(map.begin(), map.end(),
                       [](const auto& a, const auto& b) { return a.start < b.start; }));
}

}  // namespace
