#include "vmm/core/memory/guest_memory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>

namespace {

using vmm::GuestMemory;
using vmm::GuestPhys;
using vmm::kGiB;
using vmm::kMiB;

uint64_t HostMemoryAndSwap() {
  struct sysinfo info{};
  sysinfo(&info);
  return (uint64_t{info.totalram} + info.totalswap) * info.mem_unit;
}

TEST_CASE("Small guest memory is one region from address 0, zeroed, at a huge page boundary") {
  auto memory = GuestMemory::Create(64 * kMiB);
  REQUIRE(memory);
  REQUIRE(memory->size() == 64 * kMiB);
  REQUIRE(memory->regions().size() == 1);
  const vmm::RamRegion& region = memory->regions()[0];
  REQUIRE(region.start == GuestPhys(0));
  REQUIRE(region.size == 64 * kMiB);
  REQUIRE(region.file_offset == 0);
  REQUIRE(reinterpret_cast<uintptr_t>(region.host) % (2 * kMiB) == 0);
  REQUIRE(region.host[0] == 0);
  REQUIRE(region.host[64 * kMiB - 1] == 0);
}

TEST_CASE("Memory above 3 GiB continues at 4 GiB, leaving the PCI hole") {
  if (HostMemoryAndSwap() < 5 * kGiB) {
    WARN("skipped: the host has less than 5 GiB");
    return;
  }
  auto memory = GuestMemory::Create(4 * kGiB);
  REQUIRE(memory);
  REQUIRE(memory->regions().size() == 2);
  const vmm::RamRegion& high = memory->regions()[1];
  REQUIRE(high.start == GuestPhys(4 * kGiB));
  REQUIRE(high.size == kGiB);
  REQUIRE(high.file_offset == 3 * kGiB);
  REQUIRE(memory->Host(GuestPhys(3 * kGiB), 1) == nullptr);
  REQUIRE(memory->Host(GuestPhys(3 * kGiB - 1), 2) == nullptr);
  REQUIRE(memory->Host(GuestPhys(4 * kGiB - 1), 2) == nullptr);
  REQUIRE(memory->Host(GuestPhys(4 * kGiB), kGiB) == high.host);
  REQUIRE(memory->Host(GuestPhys(5 * kGiB), 1) == nullptr);
}

TEST_CASE("Read and Write copy inside RAM and touch nothing when any byte is outside") {
  auto memory = GuestMemory::Create(2 * kMiB);
  REQUIRE(memory);
  const std::array<uint8_t, 4> in = {1, 2, 3, 4};
  std::array<uint8_t, 4> out = {9, 9, 9, 9};
  REQUIRE(memory->Write(GuestPhys(2 * kMiB - 4), in));
  REQUIRE(memory->Read(GuestPhys(2 * kMiB - 4), out));
  REQUIRE(out == in);
  REQUIRE_FALSE(memory->Write(GuestPhys(2 * kMiB - 3), in));
  out = {9, 9, 9, 9};
  REQUIRE_FALSE(memory->Read(GuestPhys(2 * kMiB - 3), out));
  REQUIRE(out == std::array<uint8_t, 4>{9, 9, 9, 9});
  REQUIRE_FALSE(memory->Read(GuestPhys(~uint64_t{0} - 1), out));
  REQUIRE(memory->Host(GuestPhys(0), ~uint64_t{0}) == nullptr);
}

TEST_CASE("The memfd holds the same bytes and can't be resized by whoever gets it") {
  auto memory = GuestMemory::Create(4 * kMiB);
  REQUIRE(memory);
  const uint8_t byte = 0x5a;
  REQUIRE(pwrite(memory->fd(), &byte, 1, 0x1234) == 1);
  REQUIRE(*memory->Host(GuestPhys(0x1234), 1) == 0x5a);
  REQUIRE(ftruncate(memory->fd(), 0) != 0);
  REQUIRE(ftruncate(memory->fd(), 8 * kMiB) != 0);
  REQUIRE((fcntl(memory->fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("More memory than the host has is refused with both sizes") {
  auto memory = GuestMemory::Create((HostMemoryAndSwap() / kMiB + 1) * kMiB);
  REQUIRE_FALSE(memory);
  REQUIRE(memory.error().code == vmm::ExitCode::kHostMemory);
  REQUIRE(memory.error().message.find("MiB") != std::string::npos);
  REQUIRE_FALSE(GuestMemory::Create(uint64_t{1} << 62));
  REQUIRE_FALSE(GuestMemory::Create(~uint64_t{0xfff}));
}

TEST_CASE("Odd and tiny sizes are refused as bad configuration") {
  for (uint64_t size : {uint64_t{0}, kMiB, 2 * kMiB + 1}) {
    auto memory = GuestMemory::Create(size);
    REQUIRE_FALSE(memory);
    REQUIRE(memory.error().code == vmm::ExitCode::kConfigInvalid);
  }
}

TEST_CASE("Moving guest memory keeps the mapping and frees it once") {
  auto memory = GuestMemory::Create(2 * kMiB);
  REQUIRE(memory);
  uint8_t* host = memory->Host(GuestPhys(0), 1);
  GuestMemory moved = std::move(*memory);
  REQUIRE(moved.Host(GuestPhys(0), 1) == host);
  *host = 7;
  auto other = GuestMemory::Create(2 * kMiB);
  REQUIRE(other);
  moved = std::move(*other);
  REQUIRE(*moved.Host(GuestPhys(0), 1) == 0);
}

}  // namespace
