#include <catch2/catch.hpp>
#include <set>

#include "packed_kernels.h"

namespace {

using namespace boot_test;
using Catch::Matchers::Contains;
using vmm::ForceEntry;
using vmm::Gpr;
using vmm::kMiB;
using vmm::Packing;

constexpr uint8_t kKaslrFlag = 2;  // in loadflags

// A request that puts the kernel where it was linked.
struct StillBoot : Boot {
  explicit StillBoot(uint64_t size = 64 * kMiB) : Boot(size) { request.seed_random = false; }
};

uint8_t LoadFlags(const Boot& boot) {
  return boot.Peek<uint8_t>(boot.gpr(Gpr::RSI) + 0x211);
}

uint64_t StartOf(const vmm::BootEntry& entry) {
  return entry.entry.value - kEntryAt;
}

TEST_CASE("A packed kernel of 64 bits is unpacked and entered in the kernel proper") {
  for (Packing packing :
       {Packing::kGzip, Packing::kXz, Packing::kLzma, Packing::kLz4, Packing::kZstd}) {
    CAPTURE(Name(packing));
    StillBoot boot;
    boot.request.command_line = "console=ttyS0";
    auto entry = boot.Load(PackedKernel(packing, Vmlinux64()));
    REQUIRE(entry);
    CHECK(entry->mode == vmm::EntryMode::kLong64);
    CHECK(entry->entry == vmm::GuestPhys(kKernelStart + kEntryAt));
    CHECK(boot.cpu.rip == kKernelStart + kEntryAt);
    CHECK_THAT(entry->description, Contains(std::string(Name(packing)) + ", unpacked"));
    CHECK(boot.Peek<uint32_t>(kKernelStart) == 0x11111111);
    CHECK(boot.Peek<uint32_t>(kKernelStart + 0xffc) == 0x11111111);
    CHECK(boot.Peek<uint64_t>(kKernelStart + kSecond) == 0x2222222222222222);
    CHECK(boot.Peek<uint64_t>(kKernelStart + kWideAt) == kVirtual64 + kKernelStart + 0x40);
    CHECK((LoadFlags(boot) & kKaslrFlag) == 0);
    CHECK(boot.Text(boot.Peek<uint32_t>(boot.gpr(Gpr::RSI) + 0x228)) == "console=ttyS0");
  }
}

TEST_CASE("A kernel of several LZ4 blocks is put together from all of them", "[threads]") {
  Bytes vmlinux = Vmlinux64(0);
  vmlinux.resize(20 << 20, 0x44);  // no lists: their first word is not zero
  Bytes image = PackedKernel(Packing::kLz4, vmlinux);
  Put<uint32_t>(image, 0x260, 24u << 20);
  StillBoot boot;
  boot.request.entry = ForceEntry::kUnpacked;
  CHECK_THAT(boot.Refusal(image), Contains("lists of addresses of an unknown form"));

  vmlinux = Vmlinux64(0);
  const uint64_t size = 18 << 20;
  Bytes code(size);
  for (size_t i = 0; i < size; i += 4) Put<uint32_t>(code, i, static_cast<uint32_t>(i));
  image = PackedKernel(Packing::kLz4, Elf64(kKernelStart, {{kKernelStart, code, 0, kVirtual64}}));
  Put<uint32_t>(image, 0x260, 24u << 20);
  REQUIRE(boot.Load(image));
  for (uint64_t at : {uint64_t{0}, size / 2, (uint64_t{16} << 20) - 4, size - 4}) {
    CHECK(boot.Peek<uint32_t>(kKernelStart + at) == at);
  }
}

TEST_CASE("An unpacked kernel of 64 bits gets a random virtual address") {
  std::set<uint64_t> distances, starts;
  for (unsigned lists : {2u, 3u}) {
    const Bytes image = PackedKernel(Packing::kZstd, Vmlinux64(lists));
    for (int i = 0; i < 20; ++i) {
      Boot boot(128 * kMiB);
      boot.request.entry = ForceEntry::kUnpacked;
      auto entry = boot.Load(image);
      REQUIRE(entry);
      const uint64_t start = StartOf(*entry);
      const uint64_t distance =
          boot.Peek<uint64_t>(start + kWideAt) - (kVirtual64 + kKernelStart + 0x40);
      CHECK(start % (2 * kMiB) == 0);
      CHECK(distance % (2 * kMiB) == 0);
      CHECK(distance <= vmm::kGiB - kKernelStart - 8 * kMiB);
      CHECK(boot.Peek<uint32_t>(start + kNarrowAt) ==
            static_cast<uint32_t>(kVirtual64 + kKernelStart + 0x48 + distance));
      CHECK(boot.Peek<uint32_t>(start + kInverseAt) ==
            static_cast<uint32_t>(0x7f000000 - (lists == 3 ? distance : 0)));
      CHECK((LoadFlags(boot) & kKaslrFlag) != 0);
      distances.insert(distance);
      starts.insert(start);
    }
  }
  CHECK(distances.size() > 10);
  CHECK(starts.size() > 5);
}

TEST_CASE("An unpacked kernel that can't move, or is told not to, stays where it was linked") {
  const Bytes image = PackedKernel(Packing::kGzip, Vmlinux64());
  Bytes fixed = image;
  Put<uint8_t>(fixed, 0x234, 0);  // relocatable_kernel
  for (const auto& [kernel, line] : {std::pair<Bytes, std::string>{image, "nokaslr"},
                                     {image, "quiet nokaslr panic=1"},
                                     {fixed, ""}}) {
    CAPTURE(line);
    Boot boot(128 * kMiB);
    boot.request.entry = ForceEntry::kUnpacked;
    boot.request.command_line = line;
    auto entry = boot.Load(kernel);
    REQUIRE(entry);
    CHECK(StartOf(*entry) == kKernelStart);
    CHECK(boot.Peek<uint64_t>(kKernelStart + kWideAt) == kVirtual64 + kKernelStart + 0x40);
    CHECK((LoadFlags(boot) & kKaslrFlag) == 0);
  }
}

TEST_CASE("A command line that shapes the memory keeps the kernel's physical address") {
  for (const char* line : {"mem=100M", "memmap=1M@64M", "hugepages=8"}) {
    Boot boot(128 * kMiB);
    boot.request.command_line = line;
    auto entry = boot.Load(PackedKernel(Packing::kGzip, Vmlinux64()));
    REQUIRE(entry);
    CHECK(StartOf(*entry) == kKernelStart);
    CHECK((LoadFlags(boot) & kKaslrFlag) != 0);
  }
}

TEST_CASE("A kernel without lists of addresses is not at a random virtual address") {
  Boot boot;
  boot.request.entry = ForceEntry::kUnpacked;
  REQUIRE(boot.Load(PackedKernel(Packing::kGzip, Vmlinux64(0))));
  CHECK((LoadFlags(boot) & kKaslrFlag) == 0);
}

TEST_CASE("An unpacked kernel of 32 bits moves in both address spaces") {
  const Bytes image = PackedKernel(Packing::kXz, Vmlinux32(), /*is_64=*/false);
  std::set<uint64_t> starts;
  for (int i = 0; i < 20; ++i) {
    Boot boot(128 * kMiB);
    auto entry = boot.Load(image);
    REQUIRE(entry);
    CHECK(entry->mode == vmm::EntryMode::kProtected32);
    const uint64_t start = StartOf(*entry);
    CHECK(boot.Peek<uint32_t>(start) == 0x33333333);
    CHECK(boot.Peek<uint32_t>(start + kNarrowAt) == kVirtual32 + start + 0x48);
    starts.insert(start);
  }
  CHECK(starts.size() > 5);

  // Without its list it can't move: where it would have to, it unpacks itself.
  const Bytes still = PackedKernel(Packing::kXz, Vmlinux32(false), false);
  StillBoot boot;
  auto entry = boot.Load(still);
  REQUIRE(entry);
  CHECK(StartOf(*entry) == kKernelStart);
}

TEST_CASE("Room for the initrd is left above a kernel at a random address") {
  const TempFile initrd(Bytes(40 << 20, 0x77));
  const Bytes image = PackedKernel(Packing::kGzip, Vmlinux64());
  for (int i = 0; i < 10; ++i) {
    Boot boot(80 * kMiB);
    boot.request.initrd = initrd.path();
    auto entry = boot.Load(image);
    REQUIRE(entry);
    CHECK(StartOf(*entry) + 8 * kMiB <= 40 * kMiB);
  }
  // Where the kernel takes an initrd below 80 MiB only.
  Bytes low = image;
  Put<uint32_t>(low, 0x22c, (80 << 20) - 1);
  for (int i = 0; i < 30; ++i) {
    Boot boot(128 * kMiB);
    boot.request.initrd = initrd.path();
    REQUIRE(boot.Load(low));
  }
}

TEST_CASE("What can't be unpacked unpacks itself, and says why where it must not") {
  const Bytes good = Pack(Packing::kGzip, Vmlinux64());
  Bytes damaged = good;
  damaged[damaged.size() / 2] ^= 0x10;
  Bytes unknown = good;
  unknown[0] = 'B';
  Bytes larger = Pack(Packing::kZstd, Vmlinux64());
  Put<uint32_t>(larger, larger.size() - 4, uint32_t{0x6000});
  Bytes huge = Pack(Packing::kZstd, Vmlinux64());
  Put<uint32_t>(huge, huge.size() - 4, uint32_t{0xffffffff});
  Bytes lz4 = Pack(Packing::kLz4, Vmlinux64());
  Put<uint32_t>(lz4, 4, uint32_t{0x7fffffff});
  Bytes lists = Vmlinux64();
  AppendWord(lists, 0);  // a fourth
  Bytes far = Vmlinux64();
  Put<uint32_t>(far, far.size() - 4, uint32_t{0x90000000});
  Bytes low = Vmlinux64();
  Put<uint64_t>(low, offsetof(Elf64_Ehdr, e_entry), kKernelStart - 1);
  Bytes up = Vmlinux64();
  Put<uint64_t>(up, sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_paddr),
                kKernelStart + 0x20000);
  const std::pair<Bytes, const char*> cases[] = {
      {damaged, "its compressed part (gzip) is damaged"},
      {unknown, "is packed in a way not known here"},
      {larger, "its compressed part (zstd) is damaged"},
      {huge, "too many"},
      {lz4, "its compressed part (LZ4) is damaged"},
      {Pack(Packing::kGzip, lists), "lists of addresses of an unknown form"},
      {Pack(Packing::kGzip, far), "lie outside it"},
      {Pack(Packing::kGzip, low), "is entered outside its segments"},
      {Pack(Packing::kGzip, up), "something else than its header tells"},
      {Pack(Packing::kGzip, Bytes(5000, 0x41)), "the unpacked kernel"},
      {Bytes(4, 0x1f), "has no compressed part"},
  };
  for (const auto& [payload, reason] : cases) {
    CAPTURE(reason);
    // The distance is drawn: one of none would hide a list that leads outside.
    for (int i = 0; i < 3; ++i) {
      Boot boot;
      auto entry = boot.Load(PackedKernel(payload));
      REQUIRE(entry);
      CHECK(entry->entry == vmm::GuestPhys(kKernelStart + 0x200));
      CHECK(boot.Peek<uint32_t>(kKernelStart + 0x200) == 0x90909090);
      CHECK_THAT(entry->description, !Contains("unpacked"));
    }
    Boot boot;
    boot.request.entry = ForceEntry::kUnpacked;
    CHECK_THAT(boot.Refusal(PackedKernel(payload)), Contains(reason));
  }
  const Bytes outside = PackedKernel(Pack(Packing::kGzip, far));
  for (int i = 0; i < 2000; ++i) {
    Boot boot;
    boot.request.entry = ForceEntry::kUnpacked;
    REQUIRE_THAT(boot.Refusal(outside), Contains("lie outside it"));
  }
}

TEST_CASE("A bzImage's own entries are taken when they are asked for") {
  const Bytes image = PackedKernel(Packing::kGzip, Vmlinux64());
  for (const auto& [force, at] :
       {std::pair{ForceEntry::k64, 0x200}, std::pair{ForceEntry::k32, 0}}) {
    Boot boot;
    boot.request.entry = force;
    auto entry = boot.Load(image);
    REQUIRE(entry);
    CHECK(entry->entry == vmm::GuestPhys(kKernelStart + static_cast<uint64_t>(at)));
  }
  Boot boot;
  boot.request.entry = ForceEntry::kUnpacked;
  CHECK_THAT(boot.Refusal(Elf64(kMiB, {{kMiB, Bytes(16, 0x90)}}, PvhNotes(kMiB))),
             Contains("is no bzImage"));
}

TEST_CASE("Too little memory for a packed kernel is told as for any other") {
  StillBoot boot(20 * kMiB);
  CHECK_THAT(boot.Refusal(PackedKernel(Packing::kGzip, Vmlinux64())),
             Contains("needs at least 24 MiB of guest memory"));
}

}  // namespace
