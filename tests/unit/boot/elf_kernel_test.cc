// PVH and Multiboot kernels: [PVH], [MULTIBOOT].
#include <catch2/catch.hpp>

#include "kernel_images.h"

namespace {

using namespace boot_test;
using Catch::Matchers::Contains;
using vmm::Gpr;
using vmm::kMiB;
using vmm::Seg;

constexpr uint32_t kBase = 0x200000;
const Bytes kCode(64, 0xf4);

void CheckFlatProtectedMode(const Boot& boot) {
  CHECK(boot.cpu.cr0 == 0x11);
  CHECK(boot.cpu.cr4 == 0);
  CHECK(boot.cpu.msr.efer == 0);
  CHECK(boot.cpu.rflags == 2);
  CHECK(boot.seg(Seg::CS).access == 0xc09b);
  for (Seg seg : {Seg::DS, Seg::ES, Seg::SS}) CHECK(boot.seg(seg).access == 0xc093);
  CHECK(boot.seg(Seg::SS).limit == 0xffffffff);
  CHECK(boot.cpu.tr.access == 0x8b);
  CHECK(boot.cpu.tr.limit == 0x67);
}

TEST_CASE("A PVH kernel starts in protected mode with hvm_start_info in EBX") {
  Boot boot;
  boot.request.command_line = "root=/dev/vda";
  boot.request.acpi_rsdp = vmm::GuestPhys(0xe0000);
  const TempFile initrd(Bytes(5000, 0x33)), module(Bytes(100, 0x44));
  boot.request.initrd = initrd.path();
  boot.request.modules.push_back({module.path(), "second"});
  boot.memory.Host(vmm::GuestPhys(kBase + 64), 1)[0] = 0x55;  // left from an earlier run
  Bytes kernel;
  SECTION("of 64 bits, whose ELF entry is a virtual address") {
    kernel = Elf64(0xffffffff81000000, {{kBase, kCode, 0x10000, 0xffffffff80000000}},
                   PvhNotes(kBase + 4));
  }
  SECTION("of 32 bits") {
    kernel = Elf32(kBase, {{kBase, kCode, 0x10000}}, PvhNotes(kBase + 4));
  }
  auto entry = boot.Load(kernel);
  REQUIRE(entry);
  CHECK(entry->format == vmm::BootFormat::kPvh);
  CheckFlatProtectedMode(boot);
  CHECK(boot.cpu.rip == kBase + 4);
  CHECK(boot.Peek<uint8_t>(kBase + 63) == 0xf4);
  CHECK(boot.Peek<uint8_t>(kBase + 64) == 0);

  const uint64_t info = boot.gpr(Gpr::RBX);
  CHECK(boot.Peek<uint32_t>(info) == 0x336ec578);
  CHECK(boot.Peek<uint32_t>(info + 4) == 1);
  CHECK(boot.Text(boot.Peek<uint64_t>(info + 24)) == "root=/dev/vda");
  CHECK(boot.Peek<uint64_t>(info + 32) == 0xe0000);

  REQUIRE(boot.Peek<uint32_t>(info + 12) == 2);
  const uint64_t list = boot.Peek<uint64_t>(info + 16);
  CHECK(boot.Peek<uint64_t>(list + 8) == 5000);
  CHECK(boot.Peek<uint8_t>(boot.Peek<uint64_t>(list) + 4999) == 0x33);
  CHECK(boot.Peek<uint64_t>(list + 16) == 0);
  CHECK(boot.Peek<uint64_t>(list + 32 + 8) == 100);
  CHECK(boot.Peek<uint8_t>(boot.Peek<uint64_t>(list + 32)) == 0x44);
  CHECK(boot.Text(boot.Peek<uint64_t>(list + 32 + 16)) == "second");

  const uint64_t map = boot.Peek<uint64_t>(info + 40);
  REQUIRE(boot.Peek<uint32_t>(info + 48) == entry->memory_map.size());
  for (size_t i = 0; i < entry->memory_map.size(); ++i) {
    CHECK(boot.Peek<uint64_t>(map + 24 * i) == entry->memory_map[i].start.value);
    CHECK(boot.Peek<uint64_t>(map + 24 * i + 8) == entry->memory_map[i].size);
    CHECK(boot.Peek<uint32_t>(map + 24 * i + 16) ==
          static_cast<uint32_t>(entry->memory_map[i].type));
  }
}

TEST_CASE("A Multiboot kernel gets its magic, the memory map, its modules and its texts") {
  // [MULTIBOOT] 3.2, 3.3
  Boot boot;
  boot.request.command_line = "verbose";
  const TempFile first(Bytes(5000, 1)), second(Bytes(3, 2));
  boot.request.initrd = first.path();
  boot.request.modules.push_back({second.path(), "two words"});
  Bytes code = MultibootHeader(3);
  code.resize(256, 0xf4);
  Bytes kernel;
  SECTION("as ELF of 32 bits") {
    kernel = Elf32(kBase + 12, {{kBase, code, 0x3000}});
  }
  SECTION("as ELF of 64 bits") {
    kernel = Elf64(kBase + 12, {{kBase, code, 0x3000}});
  }
  SECTION("linked high, with a virtual entry") {
    kernel = Elf32(0xc0000000 + kBase + 12, {{kBase, code, 0x3000, 0xc0000000}});
  }
  SECTION("by the address fields, ended by its own sizes") {
    kernel = Bytes(32, 0xaa);
    const Bytes header =
        MultibootHeader(0x10003, {kBase + 16, kBase, kBase + 300, kBase + 0x3000, kBase + 12});
    std::copy(header.begin(), header.end(), std::back_inserter(kernel));
    kernel.erase(kernel.begin(), kernel.begin() + 16);
    kernel.resize(1000, 0xf4);
  }
  auto entry = boot.Load(kernel);
  REQUIRE(entry);
  CHECK(entry->format == vmm::BootFormat::kMultiboot);
  CheckFlatProtectedMode(boot);
  CHECK(boot.cpu.rip == kBase + 12);
  CHECK(boot.gpr(Gpr::RAX) == 0x2badb002);
  CHECK(boot.Peek<uint8_t>(kBase + 0x2fff) == 0);

  const uint64_t info = boot.gpr(Gpr::RBX);
  CHECK(boot.Peek<uint32_t>(info) == 0x24d);
  CHECK(boot.Peek<uint32_t>(info + 4) == 639);
  CHECK(boot.Peek<uint32_t>(info + 8) == 63 * 1024);
  CHECK(boot.Text(boot.Peek<uint32_t>(info + 16)) == "verbose");
  CHECK(boot.Text(boot.Peek<uint32_t>(info + 64)) == "vmm");

  REQUIRE(boot.Peek<uint32_t>(info + 20) == 2);
  const uint64_t modules = boot.Peek<uint32_t>(info + 24);
  const uint32_t start = boot.Peek<uint32_t>(modules);
  CHECK(start == kBase + 0x3000);
  CHECK(boot.Peek<uint32_t>(modules + 4) == start + 5000);
  CHECK(boot.Peek<uint8_t>(start + 4999) == 1);
  const uint32_t next = boot.Peek<uint32_t>(modules + 16);
  CHECK(next == start + 0x2000);
  CHECK(boot.Peek<uint32_t>(modules + 20) == next + 3);
  CHECK(boot.Text(boot.Peek<uint32_t>(modules + 24)) == "two words");

  const uint64_t map = boot.Peek<uint32_t>(info + 48);
  REQUIRE(boot.Peek<uint32_t>(info + 44) == 24 * entry->memory_map.size());
  for (size_t i = 0; i < entry->memory_map.size(); ++i) {
    CHECK(boot.Peek<uint32_t>(map + 24 * i) == 20);
    CHECK(boot.Peek<uint64_t>(map + 24 * i + 4) == entry->memory_map[i].start.value);
    CHECK(boot.Peek<uint64_t>(map + 24 * i + 12) == entry->memory_map[i].size);
  }
}

TEST_CASE("The address fields may leave the end of the image and of the BSS to the file") {
  Boot boot;
  Bytes kernel = MultibootHeader(0x10000, {kBase, kBase, 0, 0, kBase + 32});
  kernel.resize(500, 0xf4);
  REQUIRE(boot.Load(kernel));
  CHECK(boot.Peek<uint8_t>(kBase + 499) == 0xf4);
  CHECK(boot.cpu.rip == kBase + 32);
}

TEST_CASE("A Multiboot kernel in low memory is not overwritten by its own boot information") {
  Boot boot;
  Bytes code = MultibootHeader(0);
  code.resize(0x80000, 0xf4);
  REQUIRE(boot.Load(Elf32(0x1000, {{0x1000, code}})));
  CHECK(boot.gpr(Gpr::RBX) >= 0x81000);
  CHECK(boot.Peek<uint8_t>(0x80fff) == 0xf4);
}

TEST_CASE("A Multiboot header counts only where the specification says, with its checksum") {
  Bytes code(16384, 0xf4);
  const Bytes header = MultibootHeader(0);
  const auto with_header_at = [&](size_t offset) {
    Bytes kernel = code;
    std::copy(header.begin(), header.end(), kernel.begin() + static_cast<ptrdiff_t>(offset));
    return kernel;
  };
  // A header found in a file that is no ELF and has no address fields leads to the ELF error.
  const auto found = [&](const Bytes& kernel) {
    return Boot().Refusal(kernel).find("is no kernel") == std::string::npos;
  };
  CHECK(found(with_header_at(8192 - 12)));
  CHECK_FALSE(found(with_header_at(8192 - 8)));
  CHECK_FALSE(found(with_header_at(6)));
  Bytes wrong_sum = with_header_at(0);
  wrong_sum[8] ^= 1;
  CHECK_FALSE(found(wrong_sum));
}

TEST_CASE("Multiboot kernels that can't be loaded are refused with the reason") {
  struct Case {
    const char* reason;
    Bytes kernel;
  };
  const auto addressed = [](std::vector<uint32_t> addresses) {
    Bytes kernel = MultibootHeader(0x10000, addresses);
    kernel.resize(500, 0xf4);
    return kernel;
  };
  Bytes code = MultibootHeader(0);
  code.resize(64, 0xf4);
  Bytes unknown_feature = MultibootHeader(8);
  unknown_feature.resize(64, 0xf4);
  const Case cases[] = {
      {"features", Elf32(kBase, {{kBase, unknown_feature}})},
      {"load address", addressed({kBase - 1, kBase, 0, 0, kBase})},
      {"load address", addressed({kBase + 4, kBase, 0, 0, kBase})},
      {"loaded from", addressed({kBase, kBase, kBase - 1, 0, kBase})},
      {"truncated", addressed({kBase, kBase, kBase + 501, 0, kBase})},
      {"BSS", addressed({kBase, kBase, 0, kBase + 400, kBase})},
      {"entry", addressed({kBase, kBase, 0, 0, kBase + 500})},
      {"entry", addressed({kBase, kBase, 0, 0, kBase - 1})},
      {"guest memory", addressed({kBase, kBase, 0, 0xfffffff0, kBase})},
      {"guest memory", addressed({0xfffffff0, 0xfffffff0, 0, 0, 0xfffffff4})},
      {"the BIOS", addressed({0xa0000, 0xa0000, 0, 0, 0xa0000})},
      {"entry", Elf32(kBase - 1, {{kBase, code}})},
      {"BIOS data area", Elf32(0x500, {{0x500, code}})},
      {"neither ELF", code},
  };
  for (const Case& test : cases) {
    INFO(test.reason);
    Boot boot;
    auto result = boot.Load(test.kernel);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == vmm::ExitCode::kConfigInvalid);
    CHECK_THAT(result.error().message, Contains("kernel test") && Contains(test.reason));
  }
}

TEST_CASE("Modules that do not fit are named") {
  Boot boot(4 * kMiB);
  const TempFile large(Bytes(3 * kMiB, 1));
  boot.request.modules.push_back({large.path(), ""});
  Bytes code = MultibootHeader(0);
  code.resize(64, 0xf4);
  CHECK_THAT(boot.Refusal(Elf32(kBase, {{kBase, code}})), Contains("module 0 " + large.path()));
  CHECK_THAT(boot.Refusal(Elf32(kBase, {{kBase, kCode}}, PvhNotes(kBase))),
             Contains("module 0 " + large.path()));
}

TEST_CASE("A broken ELF kernel is refused with the reason") {
  struct Case {
    const char* reason;
    void (*spoil)(Bytes&);
  };
  // Offsets in the file: program header 0 at 64, its fields in the order of Elf64_Phdr.
  const Case cases[] = {
      {"truncated inside", [](Bytes& k) { k.resize(40); }},
      {"truncated", [](Bytes& k) { k.resize(70); }},
      {"truncated", [](Bytes& k) { k.resize(k.size() - 1); }},
      {"byte order", [](Bytes& k) { k[EI_DATA] = ELFDATA2MSB; }},
      {"ELF class 9", [](Bytes& k) { k[EI_CLASS] = 9; }},
      {"machine 183", [](Bytes& k) { Put<uint16_t>(k, 18, EM_AARCH64); }},
      {"no executable", [](Bytes& k) { Put<uint16_t>(k, 16, ET_REL); }},
      {"program headers", [](Bytes& k) { Put<uint16_t>(k, 54, 32); }},
      {"program headers", [](Bytes& k) { Put<uint16_t>(k, 56, 0); }},
      {"program headers", [](Bytes& k) { Put<uint16_t>(k, 56, 0xffff); }},
      {"truncated", [](Bytes& k) { Put<uint64_t>(k, 32, ~0ull); }},
      {"truncated", [](Bytes& k) { Put<uint64_t>(k, 32, k.size() - 1); }},
      {"nothing to load", [](Bytes& k) { Put<uint32_t>(k, 64, PT_NULL); }},
      {"nothing to load",
       [](Bytes& k) {
         Put<uint64_t>(k, 64 + 32, 0);
         Put<uint64_t>(k, 64 + 40, 0);
       }},
      {"truncated", [](Bytes& k) { Put<uint64_t>(k, 64 + 8, ~0ull - 3); }},
      {"truncated", [](Bytes& k) { Put<uint64_t>(k, 64 + 32, ~0ull); }},
      {"larger in the file", [](Bytes& k) { Put<uint64_t>(k, 64 + 40, 63); }},
      {"address space", [](Bytes& k) { Put<uint64_t>(k, 64 + 40, ~0ull); }},
      {"guest memory", [](Bytes& k) { Put<uint64_t>(k, 64 + 40, 64 * kMiB); }},
      {"PVH entry", [](Bytes& k) { Put<uint32_t>(k, k.size() - 4, kBase + 64); }},
  };
  for (const Case& test : cases) {
    INFO(test.reason);
    Boot boot;
    Bytes kernel = Elf64(kBase, {{kBase, kCode}}, PvhNotes(kBase));
    test.spoil(kernel);
    auto result = boot.Load(kernel);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == vmm::ExitCode::kConfigInvalid);
    CHECK_THAT(result.error().message, Contains("kernel test") && Contains(test.reason));
  }
}

TEST_CASE("Segments of an ELF kernel may not overlap") {
  Boot boot;
  CHECK_THAT(boot.Refusal(Elf64(kBase, {{kBase, kCode}, {kBase + 63, kCode}}, PvhNotes(kBase))),
             Contains("kernel segment 1") && Contains("overlaps kernel segment 0"));
}

TEST_CASE("A vmlinux without a PVH note is refused with what to take instead") {
  Boot boot;
  const auto check_advice = [&boot](const Bytes& some_notes) {
    CHECK_THAT(boot.Refusal(Elf64(kBase, {{kBase, kCode}}, some_notes)),
               Contains("without a PVH note") && Contains("bzImage"));
  };
  check_advice({});
  // Notes that end early or lie about their size hold no entry and crash nothing.
  Bytes notes = PvhNotes(kBase);
  for (size_t size = 1; size < notes.size(); ++size) {
    check_advice(Bytes(notes.begin(), notes.begin() + static_cast<ptrdiff_t>(size)));
  }
  for (size_t field : {0, 4, 24, 28}) {
    Bytes broken = notes;
    Put<uint32_t>(broken, field, 0xffffffff);
    check_advice(broken);
  }
}

TEST_CASE("Files that are no kernel are told apart") {
  const auto refusal = [](std::string_view start) {
    Bytes file(start.begin(), start.end());
    file.resize(9000);
    return Boot().Refusal(file);
  };
  CHECK_THAT(refusal("\x1f\x8b"), Contains("compressed by gzip"));
  CHECK_THAT(refusal("070701"), Contains("an initrd, not a kernel"));
  CHECK_THAT(refusal("QFI\xfb"), Contains("qcow2"));
  CHECK_THAT(refusal("hello"), Contains("is no kernel"));
  CHECK_THAT(Boot().Refusal(Bytes{0x7f}), Contains("is no kernel"));
  CHECK_THAT(Boot().Refusal(Bytes{0x7f, 'E', 'L', 'F'}), Contains("is no kernel"));
  Boot force;
  force.request.entry = vmm::ForceEntry::k64;
  CHECK_THAT(force.Refusal(Elf64(kBase, {{kBase, kCode}}, PvhNotes(kBase))),
             Contains("32-bit entry only"));
}

}  // namespace
