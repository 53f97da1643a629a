#include "vmm/boot/bzimage.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "vmm/boot/boot_cpu.h"
#include "vmm/boot/bytes.h"
#include "vmm/boot/bzimage_header.h"
#include "vmm/boot/unpacked_kernel.h"
#include "vmm/core/base/log.h"

namespace vmm {

using linux_boot::At;
using linux_boot::Field;

namespace {

// Low memory is ours to arrange: no kernel is loaded below 1 MiB.
constexpr uint64_t kCommandLineFloor = 0x20000;
// The setup code in real mode has a segment of its own: code, then heap and stack.
constexpr uint64_t kSetupPlace = 0x10000, kSetupRoom = 0x10000;
constexpr uint16_t kSetupStack = 0xe000;
constexpr uint16_t kLargestSetup = 0xc000;

template <class Int>
Int Get(std::span<const uint8_t> bytes, Field field) {
  return vmm::Get<Int>(bytes, At(field));
}

template <class Int>
void Put(std::span<uint8_t> bytes, Field field, Int value) {
  vmm::Put<Int>(bytes, At(field), value);
}

// One boot of one bzImage, step by step.
class BzImageLoader {
 public:
  BzImageLoader(const BootInput& input, const BzImageHeader& header, RangePlan& plan)
      : kernel_(input.kernel),
        initrd_file_(input.initrd),
        header_(header),
        request_(input.request),
        plan_(plan) {}

  Result<BootEntry> Load(CpuState& boot_cpu);

 private:
  Result<EntryMode> ChooseMode() const;
  Result<EntryMode> LoadKernel();
  Result<void> LoadPayload();
  Result<void> LoadCommandLine();
  Result<void> LoadInitrd();
  Result<void> SeedRandom();
  Result<void> WriteParams();
  Result<void> EnterKernel(EntryMode mode, CpuState& boot_cpu);
  Result<void> EnterSetup(CpuState& boot_cpu);
  void PutLoaderFields(std::span<uint8_t> params) const;
  Result<uint8_t*> ClaimLow(std::string_view name, uint64_t size, uint64_t* address);
  uint64_t entry(EntryMode mode) const {
    if (unpacked_) return unpacked_->entry.value;
    if (mode == EntryMode::kReal16) return kSetupPlace + linux_boot::kSectorSize;
    return header_.load_address + (mode == EntryMode::kLong64 ? linux_boot::kEntry64Offset : 0);
  }

  const BootFile& kernel_;
  const std::optional<BootFile>& initrd_file_;
  const BzImageHeader& header_;
  const BootRequest& request_;
  RangePlan& plan_;
  std::optional<UnpackedKernel> unpacked_;
  uint64_t params_ = 0, command_line_ = 0, initrd_ = 0, initrd_size_ = 0, setup_data_ = 0;
};

Result<EntryMode> BzImageLoader::ChooseMode() const {
  if (request_.entry == ForceEntry::k16) return EntryMode::kReal16;
  if (request_.entry == ForceEntry::k32) return EntryMode::kProtected32;
  if (header_.has_entry64) {
    if (header_.payload_size <= linux_boot::kEntry64Offset) {
      return kernel_.Invalid("malformed: the 64-bit entry is past the end of the kernel");
    }
    return EntryMode::kLong64;
  }
  if (request_.entry == ForceEntry::k64) {
    return kernel_.Invalid("has no 64-bit entry (it is an i386 kernel, or older than Linux 3.8)");
  }
  return EntryMode::kProtected32;
}

Result<EntryMode> BzImageLoader::LoadKernel() {
  if (request_.entry == ForceEntry::kAuto || request_.entry == ForceEntry::kUnpacked) {
    const uint64_t initrd_size = initrd_file_ ? initrd_file_->size() : 0;
    auto unpacked = LoadUnpackedKernel(kernel_, header_, request_, initrd_size, plan_);
    if (unpacked) {
      unpacked_ = *unpacked;
      return unpacked->is_64 ? EntryMode::kLong64 : EntryMode::kProtected32;
    }
    if (request_.entry == ForceEntry::kUnpacked) return tl::unexpected(unpacked.error());
    Log(LogLevel::kDebug, unpacked.error().message + "; it unpacks itself");
  }
  auto mode = ChooseMode();
  if (!mode) return mode;
  if (auto loaded = LoadPayload(); !loaded) return tl::unexpected(loaded.error());
  return mode;
}

Result<void> BzImageLoader::LoadPayload() {
  const uint64_t end = header_.end();
  if (end > plan_.low_ram_end()) {
    return kernel_.Invalid(fmt::format(
        "needs at least {} of guest memory (it runs at {:#x} and needs {} there); memory is {}",
        SizeText(AlignUp(end, kMiB)), header_.runtime_start,
        SizeText(std::max(header_.init_size, header_.payload_size)),
        SizeText(plan_.memory().size())));
  }
  // An unpacking kernel that is not relocatable moves itself up: all between is its own.
  auto host = plan_.Claim("kernel", header_.load_address, end - header_.load_address);
  if (!host) return kernel_.Invalid(host.error().message);
  return kernel_.Read(header_.payload_offset, {*host, header_.payload_size});
}

Result<uint8_t*> BzImageLoader::ClaimLow(std::string_view name, uint64_t size, uint64_t* address) {
  const auto place = plan_.FindLowest(size, kPageSize, kBiosDataEnd.value, kEbdaStart.value);
  if (!place) return kernel_.Invalid(fmt::format("no room below 640 KiB for the {}", name));
  *address = *place;
  return plan_.Claim(name, *place, size);
}

Result<void> BzImageLoader::LoadCommandLine() {
  const std::string& text = request_.command_line;
  if (text.size() > header_.command_line_max) {
    return kernel_.Invalid(fmt::format("the command line has {} bytes; this kernel takes {}",
                                       text.size(), header_.command_line_max));
  }
  const uint64_t size = text.size() + 1;
  const auto place = plan_.FindLowest(size, 16, kCommandLineFloor, kEbdaStart.value);
  if (!place) {
    return kernel_.Invalid(fmt::format("the command line has {} bytes; no more than {} fit",
                                       text.size(), kEbdaStart.value - kCommandLineFloor - 1));
  }
  command_line_ = *place;
  auto host = plan_.Claim("command line", command_line_, size);
  if (!host) return tl::unexpected(host.error());
  std::memcpy(*host, text.c_str(), size);
  return {};
}

Result<void> BzImageLoader::LoadInitrd() {
  if (!initrd_file_) return {};
  const BootFile* file = &*initrd_file_;
  initrd_size_ = file->size();
  const auto place =
      plan_.FindHighest(initrd_size_, kPageSize, kHighMemoryStart.value, header_.initrd_end_max);
  if (!place) {
    const uint64_t needed = AlignUp(header_.end(), kPageSize) + initrd_size_;
    if (needed > header_.initrd_end_max) {
      return file->Invalid(
          fmt::format("is too large ({}): this kernel takes an initrd below {} only",
                      SizeText(initrd_size_), SizeText(header_.initrd_end_max)));
    }
    return file->Invalid(
        fmt::format("needs at least {} of guest memory, with the kernel; memory is {}",
                    SizeText(AlignUp(needed, kMiB)), SizeText(plan_.memory().size())));
  }
  initrd_ = *place;
  auto host = plan_.Claim("initrd", initrd_, initrd_size_);
  if (!host) return file->Invalid(host.error().message);
  return file->Read(0, {*host, initrd_size_});
}

// A host that has no random numbers to give (yet) is no reason not to boot.
Result<void> BzImageLoader::SeedRandom() {
  using linux_boot::SetupData;
  constexpr uint64_t kData = static_cast<uint64_t>(SetupData::DATA);
  std::array<uint8_t, 32> seed;
  if (!request_.seed_random || header_.version < linux_boot::kSetupDataVersion ||
      getrandom(seed.data(), seed.size(), GRND_NONBLOCK) != static_cast<ssize_t>(seed.size())) {
    return {};
  }
  auto host = ClaimLow("random seed", kData + seed.size(), &setup_data_);
  if (!host) return tl::unexpected(host.error());
  const std::span<uint8_t> node(*host, kData + seed.size());
  vmm::Put<uint64_t>(node, static_cast<uint64_t>(SetupData::NEXT), 0);
  vmm::Put<uint32_t>(node, static_cast<uint64_t>(SetupData::TYPE), linux_boot::kSetupRngSeed);
  vmm::Put<uint32_t>(node, static_cast<uint64_t>(SetupData::LEN), seed.size());
  std::copy(seed.begin(), seed.end(), node.begin() + kData);
  return {};
}

// What a loader says in the setup header, whether that stands in boot_params or in the setup code.
void BzImageLoader::PutLoaderFields(std::span<uint8_t> params) const {
  Put<uint8_t>(params, Field::TYPE_OF_LOADER, linux_boot::kLoaderUndefined);
  Put<uint16_t>(params, Field::VID_MODE, 0xffff);  // "normal"
  Put<uint32_t>(params, Field::CODE32_START, static_cast<uint32_t>(header_.load_address));
  Put<uint32_t>(params, Field::CMD_LINE_PTR, static_cast<uint32_t>(command_line_));
  Put<uint32_t>(params, Field::RAMDISK_IMAGE, static_cast<uint32_t>(initrd_));
  Put<uint32_t>(params, Field::RAMDISK_SIZE, static_cast<uint32_t>(initrd_size_));
  if (header_.version >= linux_boot::kSetupDataVersion) {
    Put<uint64_t>(params, Field::SETUP_DATA, setup_data_);
  }
}

// [LINUX-BOOT] "The Real-Mode Kernel Header", "Running the Kernel": the setup code makes
// boot_params itself, with what the services of a BIOS tell it.
Result<void> BzImageLoader::EnterSetup(CpuState& boot_cpu) {
  constexpr uint16_t kSegment = kSetupPlace >> 4;
  constexpr uint16_t kEntry = linux_boot::kSectorSize >> 4;  // paragraphs behind the boot sector
  if (header_.payload_offset > kLargestSetup) {
    return kernel_.Invalid(
        fmt::format("has {} bytes of setup code, too many", header_.payload_offset));
  }
  auto host = plan_.Claim("setup code", kSetupPlace, kSetupRoom);
  if (!host) return kernel_.Invalid(host.error().message);
  const std::span<uint8_t> setup(*host, kSetupRoom);
  std::memset(setup.data(), 0, setup.size());
  if (auto read = kernel_.Read(0, setup.first(header_.payload_offset)); !read) return read;
  PutLoaderFields(setup);
  Put<uint8_t>(setup, Field::LOADFLAGS,
               static_cast<uint8_t>(Get<uint8_t>(setup, Field::LOADFLAGS) |
                                    static_cast<uint8_t>(linux_boot::LoadFlags::CAN_USE_HEAP)));
  Put<uint16_t>(setup, Field::HEAP_END_PTR, kSetupStack - linux_boot::kSectorSize);
  EnterReal16(boot_cpu, kSegment, 0, kSetupStack);
  SegmentState& code = boot_cpu.seg[static_cast<size_t>(Seg::CS)];
  code.selector = kSegment + kEntry;
  code.base = uint64_t{code.selector} << 4;
  return {};
}

// [LINUX-BOOT] "64-bit Boot Protocol": all zero, then the header as the file has it, then what the
// loader says.
Result<void> BzImageLoader::WriteParams() {
  auto host = ClaimLow("boot_params", linux_boot::kBootParamsSize, &params_);
  if (!host) return tl::unexpected(host.error());
  const std::span<uint8_t> params(*host, linux_boot::kBootParamsSize);
  std::memset(params.data(), 0, params.size());
  std::memcpy(params.data() + linux_boot::kHeaderStart,
              header_.raw.data() + linux_boot::kHeaderStart,
              header_.header_end - linux_boot::kHeaderStart);

  PutLoaderFields(params);
  if (unpacked_) {
    auto flags = static_cast<unsigned>(Get<uint8_t>(params, Field::LOADFLAGS));
    constexpr auto kRandom = static_cast<unsigned>(linux_boot::LoadFlags::KASLR_FLAG);
    flags = unpacked_->is_random ? flags | kRandom : flags & ~kRandom;
    Put<uint8_t>(params, Field::LOADFLAGS, static_cast<uint8_t>(flags));
  }
  Put<uint64_t>(params, Field::ACPI_RSDP_ADDR, request_.acpi_rsdp.value);

  const auto map = BuildMemoryMap(plan_.memory());
  CHECK(map.size() <= linux_boot::kMaxE820Entries);
  Put<uint8_t>(params, Field::E820_ENTRIES, static_cast<uint8_t>(map.size()));
  uint64_t offset = At(Field::E820_TABLE);
  for (const MemoryMapEntry& entry : map) {
    vmm::Put<uint64_t>(params, offset, entry.start.value);
    vmm::Put<uint64_t>(params, offset + 8, entry.size);
    vmm::Put<uint32_t>(params, offset + 16, static_cast<uint32_t>(entry.type));
    offset += linux_boot::kE820EntrySize;
  }
  Put<uint32_t>(params, Field::ALT_MEM_K,
                static_cast<uint32_t>((plan_.low_ram_end() - kHighMemoryStart.value) / kKiB));
  return {};
}

Result<void> BzImageLoader::EnterKernel(EntryMode mode, CpuState& boot_cpu) {
  uint64_t gdt = 0, tables = 0;
  auto gdt_host = ClaimLow("boot GDT", kBootGdtSize, &gdt);
  if (!gdt_host) return tl::unexpected(gdt_host.error());
  WriteBootGdt(*gdt_host, mode);
  if (mode == EntryMode::kProtected32) {
    EnterProtected32(boot_cpu, GuestPhys(entry(mode)), GuestPhys(gdt));
  } else {
    auto tables_host = ClaimLow("boot page tables", kIdentityTablesSize, &tables);
    if (!tables_host) return tl::unexpected(tables_host.error());
    WriteIdentityTables(*tables_host, GuestPhys(tables));
    EnterLong64(boot_cpu, GuestPhys(entry(mode)), GuestPhys(gdt), GuestPhys(tables));
  }
  boot_cpu.gpr[static_cast<size_t>(Gpr::RSI)] = params_;
  return {};
}

Result<BootEntry> BzImageLoader::Load(CpuState& boot_cpu) {
  if (!request_.modules.empty()) {
    return kernel_.Invalid("is a Linux bzImage, which takes an initrd and no modules");
  }
  auto mode = LoadKernel();
  if (!mode) return tl::unexpected(mode.error());
  auto done = LoadCommandLine()
                  .and_then([&] { return LoadInitrd(); })
                  .and_then([&] { return SeedRandom(); })
                  .and_then([&] {
                    if (*mode == EntryMode::kReal16) return EnterSetup(boot_cpu);
                    return WriteParams().and_then([&] { return EnterKernel(*mode, boot_cpu); });
                  });
  if (!done) return tl::unexpected(done.error());

  BootEntry result;
  result.format = BootFormat::kBzImage;
  result.mode = *mode;
  result.entry = GuestPhys(entry(*mode));
  result.description =
      fmt::format("Linux {}, bzImage, boot protocol {}.{:02}{}",
                  header_.kernel_version.empty() ? "(no version text)" : header_.kernel_version,
                  header_.version >> 8, header_.version & 0xff,
                  unpacked_ ? fmt::format(", {}, unpacked", Name(unpacked_->packing)) : "");
  return result;
}

}  // namespace

Result<BootEntry> LoadBzImage(const BootInput& input, RangePlan& plan, CpuState& boot_cpu) {
  auto header = ParseBzImageHeader(input.kernel);
  if (!header) return tl::unexpected(header.error());
  return BzImageLoader(input, *header, plan).Load(boot_cpu);
}

}  // namespace vmm
