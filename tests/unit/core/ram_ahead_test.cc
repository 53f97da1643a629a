#include "vmm/core/memory/ram_ahead.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "tests/support/pagemap.h"
#include "vmm/core/host/unique_fd.h"
#include "vmm/core/memory/guest_memory.h"

namespace vmm {
namespace {

constexpr uint64_t kChunk = RamAhead::kChunk;

GuestMemory Ram(uint64_t size) {
  auto memory = GuestMemory::Create(size);
  REQUIRE(memory);
  return std::move(*memory);
}

uint64_t Allocated(int fd) {
  struct stat about{};
  REQUIRE(fstat(fd, &about) == 0);
  return static_cast<uint64_t>(about.st_blocks) * 512;
}

template <class F>
bool Becomes(F&& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

bool HasBytes(const GuestMemory& memory, uint64_t bytes) {
  return Becomes([&] { return Allocated(memory.fd()) == bytes; });
}

}  // namespace

TEST_CASE("RAM around a page that is written is allocated and mapped", "[threads]") {
  const GuestMemory memory = Ram(64 * kMiB);
  const uint8_t* const chunk = memory.All().data() + 5 * kChunk;
  RamAhead ahead(memory.All(), memory.fd());
  CHECK_FALSE(ahead.Knows(5 * kChunk));
  ahead.OnWriter(5 * kChunk + 3 * kPageSize);
  CHECK(ahead.Knows(5 * kChunk));
  CHECK(HasBytes(memory, kChunk));
  CHECK(Becomes([&] { return IsMapped(chunk + kChunk - kPageSize); }));
  for (uint64_t at = 0; at < kChunk; at += kPageSize) REQUIRE(IsMapped(chunk + at));
  CHECK_FALSE(IsMapped(chunk - kPageSize));
  CHECK_FALSE(IsMapped(chunk + kChunk));
}

TEST_CASE("Who goes upwards has the next RAM already, where there is any", "[threads]") {
  const GuestMemory memory = Ram(8 * kChunk + kChunk / 2);
  RamAhead ahead(memory.All(), memory.fd());
  ahead.OnWriter(2 * kChunk);
  REQUIRE(HasBytes(memory, kChunk));
  ahead.OnWriter(3 * kChunk);
  REQUIRE(HasBytes(memory, 3 * kChunk));
  ahead.OnWriter(7 * kChunk);
  REQUIRE(HasBytes(memory, 4 * kChunk));
  ahead.OnWriter(8 * kChunk);  // half of one, and nothing behind it
  REQUIRE(HasBytes(memory, 4 * kChunk + kChunk / 2));
  ahead.OnWriter(6 * kChunk);  // downwards
  CHECK(HasBytes(memory, 5 * kChunk + kChunk / 2));
}

TEST_CASE("RAM that was full before the guest ran is not asked for", "[threads]") {
  const GuestMemory memory = Ram(64 * kMiB);
  uint8_t* const ram = memory.regions()[0].host;
  std::memset(ram + 8 * kChunk - kPageSize, 1, 2 * kChunk + 2 * kPageSize);
  RamAhead ahead(memory.All(), memory.fd());
  ahead.OnWriter(0);
  REQUIRE(Becomes([&] { return ahead.Knows(9 * kChunk); }));
  CHECK(ahead.Knows(8 * kChunk));
  CHECK_FALSE(ahead.Knows(7 * kChunk));
  CHECK_FALSE(ahead.Knows(10 * kChunk));
  const uint64_t before = Allocated(memory.fd());
  ahead.OnWriter(7 * kChunk);
  CHECK(HasBytes(memory, before + kChunk - kPageSize));
}

TEST_CASE("A host that refuses to allocate is asked no more", "[threads]") {
  const GuestMemory memory = Ram(256 * kMiB);
  const UniqueFd read_only(
      open(fmt::format("/proc/self/fd/{}", memory.fd()).c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(read_only.get() >= 0);
  const std::span<uint8_t> ram = memory.All();
  REQUIRE(mprotect(ram.data(), ram.size(), PROT_READ) == 0);
  RamAhead ahead(ram, read_only.get());
  ahead.OnWriter(0);
  CHECK(Becomes([&] { return ahead.Knows(kChunk) && ahead.Knows(memory.size() - kPageSize); }));
  ahead.OnWriter(kChunk);
  CHECK(Allocated(memory.fd()) == 0);
}

TEST_CASE("It ends in the middle of its work, and does none afterwards", "[threads]") {
  bool left_work = false;
  for (unsigned i = 0; i < 20 && !left_work; ++i) {
    const GuestMemory memory = Ram(256 * kMiB);
    {
      RamAhead ahead(memory.All(), memory.fd());
      for (uint64_t at = 0; at < memory.size(); at += kChunk) ahead.OnWriter(at);
      while (Allocated(memory.fd()) == 0) std::this_thread::yield();
    }
    const uint64_t bytes = Allocated(memory.fd());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    REQUIRE(Allocated(memory.fd()) == bytes);
    left_work = bytes < memory.size() / 2;
  }
  CHECK(left_work);
}

TEST_CASE("Several processors ask at the same time", "[threads]") {
  const GuestMemory memory = Ram(64 * kMiB);
  RamAhead ahead(memory.All(), memory.fd());
  const auto touch = [&](uint64_t first) {
    for (uint64_t at = first; at < memory.size(); at += kChunk) {
      ahead.OnWriter(at);
      memory.regions()[0].host[at] = 1;
    }
  };
  std::jthread one(touch, 0), two(touch, kPageSize);
  CHECK(HasBytes(memory, memory.size()));
}

}  // namespace vmm
