// Starts in real mode: boot sectors, ROM images and the services where a BIOS would be.
#include "vmm/boot/boot_sector.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "../support/temp_dir.h"
#include "vmm/boot/memory_map.h"
#include "vmm/boot/real_mode_services.h"

namespace {

using vmm::GuestMemory;
using vmm::GuestPhys;
using vmm::Seg;

std::string Sector(size_t size, const std::string& code = "\xEB\xFE") {
  std::string bytes(size, '\0');
  bytes.replace(0, code.size(), code);
  if (size >= 512) bytes.replace(510, 2, "\x55\xAA");
  return bytes;
}

struct Start {
  uint32_t Peek(uint64_t address, unsigned size) {
    uint32_t value = 0;
    REQUIRE(memory.Read(GuestPhys(address), {reinterpret_cast<uint8_t*>(&value), size}));
    return value;
  }
  vmm::Result<void> Load(const std::string& image) {
    return vmm::LoadBootSector(temp.Write("image", image), memory, cpu);
  }
  TempDir temp;
  GuestMemory memory = std::move(GuestMemory::Create(64 * vmm::kMiB).value());
  vmm::CpuState cpu{};
};

}  // namespace

TEST_CASE("A boot sector starts at 0000:7C00 in real mode with its drive in DL") {
  // [PC-AT] bootstrap loader
  Start start;
  REQUIRE(start.Load(Sector(512)));
  CHECK(start.Peek(0x7C00, 2) == 0xFEEB);
  CHECK(start.Peek(0x7DFE, 2) == 0xAA55);
  CHECK(start.cpu.rip == 0x7C00);
  CHECK(start.cpu.seg[static_cast<size_t>(Seg::CS)].base == 0);
  CHECK(start.cpu.seg[static_cast<size_t>(Seg::SS)].base == 0);
  CHECK(start.cpu.gpr[static_cast<size_t>(vmm::Gpr::RSP)] == 0x7C00);
  CHECK(start.cpu.gpr[static_cast<size_t>(vmm::Gpr::RDX)] == 0);
  CHECK((start.cpu.cr0 & 1) == 0);
  CHECK((start.cpu.rflags & 0x200) == 0);  // nothing can interrupt
  CHECK(start.cpu.idtr.base == 0);
  CHECK(start.cpu.idtr.limit == 0x3FF);
}

TEST_CASE("Of a disk image what fits below 639 KiB is there; its drive is a hard disk") {
  Start start;
  std::string image = Sector(4 << 20);
  image[0x8000] = 'x';
  REQUIRE(start.Load(image));
  CHECK(start.cpu.gpr[static_cast<size_t>(vmm::Gpr::RDX)] == 0x80);
  CHECK(start.Peek(0x7C00 + 0x8000, 1) == 'x');
  CHECK(start.Peek(0x9FC00, 4) == 0);
}

TEST_CASE("What is no boot sector is refused") {
  Start start;
  CHECK_THAT(start.Load("short").error().message, Catch::Contains("has 5 bytes"));
  CHECK_THAT(start.Load(std::string(512, 'x')).error().message,
             Catch::Contains("no boot signature"));
  CHECK(vmm::LoadBootSector("/nowhere/x", start.memory, start.cpu).error().code ==
        vmm::ExitCode::kFileMissing);
}

TEST_CASE("Every real-mode vector leads into the services, and they know the memory map") {
  Start start;
  vmm::WriteRealModeServices(start.memory);
  for (unsigned vector = 0; vector < 256; ++vector) {
    CHECK(start.Peek(vector * 4 + 2, 2) == 0xF000);
    CHECK(start.Peek(vector * 4, 2) >= 0xE000);
  }
  CHECK(start.Peek(0x15 * 4, 2) != start.Peek(0xFF * 4, 2));
  const auto map = vmm::BuildMemoryMap(start.memory);
  CHECK(start.Peek(0xFE016, 2) == map.size());
  CHECK(start.Peek(0xFE018 + 8, 4) == 0x9FC00);
  CHECK(start.Peek(0xFE010, 2) == 63 * 1024);       // AH=88h: KiB above 1 MiB
  CHECK(start.Peek(0xFE012, 2) == 15 * 1024);       // E801h: below 16 MiB
  CHECK(start.Peek(0xFE014, 2) == (64 - 16) * 16);  // and above
  CHECK(start.Peek(0xFFFF0, 1) == 0xEA);            // the reset vector: a far jump
  CHECK(start.Peek(0x413, 2) == 639);
  CHECK(start.Peek(0x400, 2) == 0x3F8);
}

TEST_CASE("A ROM image ends at 4 GiB, is read only, and its tail is shadowed below 1 MiB") {
  TempDir temp;
  std::string image(256 << 10, 'a');
  image.replace(image.size() - (128 << 10), 5, "tail!");
  image.replace(image.size() - 16, 3, "\xEA\x5B\xE0");
  const auto path = temp.Write("rom", image);
  REQUIRE(vmm::RomImageSize(path).value() == 256 << 10);
  auto memory = std::move(GuestMemory::Create(4 * vmm::kMiB, 256 << 10).value());
  REQUIRE(vmm::LoadRomImage(path, memory));
  vmm::ShadowRom(memory);
  const auto text = [&](uint64_t address, size_t size) {
    std::string bytes(size, '\0');
    REQUIRE(memory.Read(GuestPhys(address), {reinterpret_cast<uint8_t*>(bytes.data()), size}));
    return bytes;
  };
  CHECK(text(0xFFFFFFF0, 3) == "\xEA\x5B\xE0");
  CHECK(text(0xFFFC0000, 1) == "a");
  CHECK(text(0xFFFF0, 3) == "\xEA\x5B\xE0");
  CHECK(text(0xE0000, 5) == "tail!");
  const uint8_t byte = 1;
  CHECK_FALSE(memory.Write(GuestPhys(0xFFFFFFF0), {&byte, 1}));
  CHECK(memory.Ram(GuestPhys(0xFFFC0000), 1) == nullptr);
  CHECK(memory.Host(GuestPhys(0xFFFBFFFF), 2) == nullptr);
  CHECK(memory.Host(GuestPhys(0xFFFFFFFF), 2) == nullptr);
  REQUIRE(memory.regions().size() == 1);  // the ROM is no RAM
}

TEST_CASE("A ROM image of a wrong size is refused") {
  TempDir temp;
  for (size_t size : {size_t{4096}, size_t{65537}, size_t{17 << 20}}) {
    const auto result = vmm::RomImageSize(temp.Write("rom", std::string(size, 'x')));
    REQUIRE_FALSE(result);
    CHECK(result.error().code == vmm::ExitCode::kConfigInvalid);
    CHECK_THAT(result.error().message, Catch::Contains("64 KiB to 16 MiB"));
  }
}
