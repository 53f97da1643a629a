#include "vmm/snapshot/state_file.h"

#include <fcntl.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>

#include "../support/temp_dir.h"

namespace vmm::test {
namespace {

struct Thing {
  static constexpr uint32_t kVersion = 2;
  uint32_t value = 0;
};

Sections Example() {
  Sections sections;
  sections.Put("first", Thing{11});
  sections.Put("second", Thing{22});
  return sections;
}

GuestMemory Ram(uint64_t size = 4 * kMiB) {
  return std::move(GuestMemory::Create(size).value());
}

Result<void> WriteTo(const std::filesystem::path& path, const GuestMemory& memory) {
  auto file = StateFileWriter::Create(path);
  if (!file) return tl::unexpected(file.error());
  return WriteSections(Example(), **file)
      .and_then([&] { return WriteMemory(memory, **file); })
      .and_then([&] { return (*file)->Commit(); });
}

Result<Sections> ReadFrom(const std::filesystem::path& path, const GuestMemory& memory) {
  auto file = StateFileReader::Open(path);
  if (!file) return tl::unexpected(file.error());
  auto sections = ReadSections(**file);
  if (!sections) return sections;
  auto rest = ReadMemory(**file, memory).and_then([&] { return (*file)->Finish(); });
  if (!rest) return tl::unexpected(rest.error());
  return sections;
}

std::string Load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void Store(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

size_t FilesIn(const std::filesystem::path& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

// Bytes in memory instead of in a file.
struct Buffer final : ByteSink, ByteSource {
  std::vector<uint8_t> bytes;
  size_t at = 0;
  Result<void> Write(std::span<const uint8_t> more) override {
    bytes.insert(bytes.end(), more.begin(), more.end());
    return {};
  }
  Result<void> Read(std::span<uint8_t> out) override {
    if (out.size() > bytes.size() - at) return Fail(ExitCode::kConfigInvalid, "end");
    std::copy_n(bytes.begin() + static_cast<long>(at), out.size(), out.begin());
    at += out.size();
    return {};
  }
};

TEST_CASE("Sections and memory come back as they were, zero pages without a byte") {
  const TempDir folder;
  const auto path = folder.path() / "state";
  const GuestMemory memory = Ram();
  uint8_t* const ram = memory.regions()[0].host;
  std::memset(ram + 0x3000, 0xa5, 0x2800);  // two pages and a half
  ram[4 * kMiB - 1] = 1;
  std::memset(ram + 0x100000, 0, 0x10000);  // touched, and zero
  REQUIRE(WriteTo(path, memory));
  const auto size = std::filesystem::file_size(path);
  // What is only allocated is no memory that was used.
  REQUIRE(fallocate(memory.fd(), FALLOC_FL_KEEP_SIZE, 2 * kMiB, kMiB) == 0);
  REQUIRE(WriteTo(path, memory));
  CHECK(std::filesystem::file_size(path) == size);

  const GuestMemory other = Ram();
  auto sections = ReadFrom(path, other);
  REQUIRE(sections);
  CHECK(sections->Take<Thing>("second")->value == 22);
  CHECK(sections->Take<Thing>("first")->value == 11);
  CHECK(sections->CheckAllTaken());
  CHECK(std::memcmp(ram, other.regions()[0].host, 4 * kMiB) == 0);
  CHECK(std::filesystem::file_size(path) < 2000);
}

TEST_CASE("A section that is missing, of another version or left over is named") {
  Sections sections;
  sections.PutBytes("newer", 3, {1, 0, 0, 0});
  sections.PutBytes("short", 2, {1, 0, 0});
  const auto message = [&](std::string_view name) {
    auto taken = sections.Take<Thing>(name);
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == ExitCode::kConfigInvalid);
    return taken.error().message;
  };
  CHECK(message("gone") == "it holds no state of gone");
  CHECK(message("newer") ==
        "its state of newer has version 3, and this vmm reads version 2; it was written by a newer "
        "vmm");
  CHECK(message("short") == "its state of short is damaged");
  CHECK(sections.CheckAllTaken().error().message ==
        "it holds state of newer, which this machine does not have");
}

TEST_CASE("Every byte of a state file counts") {
  const TempDir folder;
  const auto path = folder.path() / "state";
  const GuestMemory memory = Ram();
  memory.regions()[0].host[5000] = 7;
  REQUIRE(WriteTo(path, memory));
  const std::string good = Load(path);
  const GuestMemory scratch = Ram();
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    Store(path, bad);
    const auto read = ReadFrom(path, scratch);
    // Bits of the frame's header that zstd does not use change nothing.
    if (read) {
      CHECK(i < 30);
    } else {
      CHECK(read.error().code == ExitCode::kConfigInvalid);
    }
  }
  for (size_t length = 0; length < good.size(); ++length) {
    Store(path, good.substr(0, length));
    CHECK_FALSE(ReadFrom(path, scratch));
  }
  Store(path, good + "x");
  CHECK_FALSE(ReadFrom(path, scratch));
}

TEST_CASE("Places in memory that do not exist are refused") {
  const GuestMemory memory = Ram();
  struct Run {
    uint64_t offset, length;
  };
  const auto read = [&](std::initializer_list<Run> runs, uint64_t size = 4 * kMiB) {
    Buffer buffer;
    const auto number = [&buffer](uint64_t value) {
      for (int i = 0; i < 8; ++i) buffer.bytes.push_back(static_cast<uint8_t>(value >> (8 * i)));
    };
    number(size);
    for (const Run& run : runs) {
      number(run.offset);
      number(run.length);
      if (run.length <= 0x2000) buffer.bytes.resize(buffer.bytes.size() + run.length);
    }
    return ReadMemory(buffer, memory).has_value();
  };
  CHECK(read({{0x1000, 0x1000}, {0x3000, 0x2000}, {0, 0}}));
  CHECK_FALSE(read({{0x1000, 0x1000}}));         // no end
  CHECK_FALSE(read({{0, 0}}, 8 * kMiB));         // another size
  CHECK_FALSE(read({{0x800, 0x1000}, {0, 0}}));  // half a page
  CHECK_FALSE(read({{0x1000, 0x800}, {0, 0}}));
  CHECK_FALSE(read({{0x1000, 0}, {0, 0}}));
  CHECK_FALSE(read({{0x2000, 0x1000}, {0x1000, 0x1000}, {0, 0}}));  // backwards
  CHECK_FALSE(read({{4 * kMiB, 0x1000}, {0, 0}}));
  CHECK_FALSE(read({{4 * kMiB - 0x1000, 0x2000}, {0, 0}}));
  CHECK_FALSE(read({{0x1000, ~uint64_t{0xfff}}, {0, 0}}));
}

TEST_CASE("Memory around the PCI hole comes back in its place") {
  const GuestMemory memory = Ram(GuestMemory::kLowRamEnd + kMiB);
  memory.regions()[0].host[GuestMemory::kLowRamEnd - 1] = 3;
  memory.regions()[1].host[0] = 4;
  Buffer buffer;
  REQUIRE(WriteMemory(memory, buffer));
  const GuestMemory other = Ram(GuestMemory::kLowRamEnd + kMiB);
  REQUIRE(ReadMemory(buffer, other));
  CHECK(other.regions()[0].host[GuestMemory::kLowRamEnd - 1] == 3);
  CHECK(other.regions()[1].host[0] == 4);
}

TEST_CASE("A state file is read by one run at a time, and not after it was used") {
  TempDir directory;
  const auto path = directory.path() / "state";
  GuestMemory memory = Ram();
  REQUIRE(WriteTo(path, memory));
  auto first = StateFileReader::Open(path);
  REQUIRE(first);
  const auto second = StateFileReader::Open(path);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == ExitCode::kUnavailable);
  CHECK(second.error().message.find("another run") != std::string::npos);
  first->reset();
  CHECK(StateFileReader::Open(path));
}

TEST_CASE("Until it is committed a state file is not there, and what was there stays") {
  const TempDir folder;
  const auto path = folder.path() / "state";
  Store(path, "precious");
  {
    auto file = StateFileWriter::Create(path);
    REQUIRE(file);
    REQUIRE(WriteSections(Example(), **file));
    CHECK(FilesIn(folder.path()) == 2);
  }
  CHECK(FilesIn(folder.path()) == 1);
  CHECK(Load(path) == "precious");
  CHECK(StateFileWriter::Create(folder.path() / "no" / "folder").error().code ==
        ExitCode::kCannotCreate);
}

}  // namespace
}  // namespace vmm::test
