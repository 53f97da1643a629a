#include "vmm/boot/multiboot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "vmm/boot/boot_cpu.h"
#include "vmm/boot/boot_info.h"
#include "vmm/boot/bytes.h"
#include "vmm/boot/elf_image.h"
#include "vmm/boot/multiboot_regs.h"

namespace vmm {

using namespace multiboot;  // the map of one structure, used by this file alone

namespace {

constexpr char kLoaderName[] = "vmm";
constexpr uint64_t kFourGiB = 4 * kGiB;

template <class Enum>
constexpr uint64_t At(Enum field) {
  return static_cast<uint64_t>(field);
}

uint32_t Field(std::span<const uint8_t> header, Header field) {
  return Get<uint32_t>(header, At(field));
}

bool Has(uint32_t flags, HeaderFlags flag) {
  return (flags & static_cast<uint32_t>(flag)) != 0;
}

// The image by the address fields of the header; gives the entry. [MULTIBOOT] 3.1.3
Result<uint64_t> LoadByAddresses(const BootInput& input, std::span<const uint8_t> header,
                                 uint64_t header_offset, RangePlan& plan) {
  const BootFile& file = input.kernel;
  const uint64_t header_addr = Field(header, Header::HEADER_ADDR);
  const uint64_t load = Field(header, Header::LOAD_ADDR);
  const uint64_t load_end = Field(header, Header::LOAD_END_ADDR);
  const uint64_t bss_end = Field(header, Header::BSS_END_ADDR);
  const uint64_t entry = Field(header, Header::ENTRY_ADDR);
  if (load > header_addr || header_addr - load > header_offset) {
    return file.Invalid(fmt::format("malformed: load address {:#x} for a Multiboot header at {:#x}",
                                    load, header_addr));
  }
  const uint64_t offset = header_offset - (header_addr - load);
  if (load_end != 0 && load_end <= load) {
    return file.Invalid(fmt::format("malformed: it is loaded from {:#x} to {:#x}", load, load_end));
  }
  const uint64_t file_size = load_end != 0 ? load_end - load : file.size() - offset;
  if (file_size > file.size() - offset) {
    return file.Invalid(fmt::format("truncated: {} bytes are wanted at offset {}, the file has {}",
                                    file_size, offset, file.size()));
  }
  if (bss_end != 0 && bss_end < load + file_size) {
    return file.Invalid(fmt::format("malformed: the BSS ends at {:#x}, inside the image", bss_end));
  }
  const uint64_t memory_size = bss_end != 0 ? bss_end - load : file_size;
  if (entry - load >= memory_size) {
    return file.Invalid(fmt::format("malformed: the entry {:#x} is outside the image", entry));
  }
  auto host = plan.Claim("kernel", load, memory_size);
  if (!host) return file.Invalid(host.error().message);
  if (auto read = file.Read(offset, {*host, file_size}); !read) return tl::unexpected(read.error());
  if (!input.request.memory_is_zero) std::memset(*host + file_size, 0, memory_size - file_size);
  return entry;
}

// e_entry is a physical address; kernels linked high give the virtual one instead.
std::optional<uint64_t> PhysicalEntry(const ElfImage& image) {
  if (image.Holds(image.entry)) return image.entry;
  for (const ElfSegment& segment : image.segments) {
    const uint64_t offset = image.entry - segment.virtual_address;
    if (offset < segment.memory_size) return segment.address + offset;
  }
  return std::nullopt;
}

Result<uint64_t> LoadElf(const BootInput& input, RangePlan& plan) {
  auto image = ParseElf(input.kernel);
  if (!image) return tl::unexpected(image.error());
  const auto entry = PhysicalEntry(*image);
  if (!entry || *entry >= kFourGiB) {
    return input.kernel.Invalid(
        fmt::format("malformed: the entry {:#x} is in no segment below 4 GiB", image->entry));
  }
  auto loaded = LoadSegments(*image, input.kernel, input.request.memory_is_zero, plan);
  if (!loaded) return tl::unexpected(loaded.error());
  return *entry;
}

// Each on a page of its own, above 1 MiB, at the lowest free place: that is behind the kernel, as
// other loaders do it.
Result<std::vector<PlacedModule>> LoadModules(const BootInput& input, RangePlan& plan) {
  std::vector<PlacedModule> placed;
  const auto load = [&](const BootFile& file, const std::string& text) -> Result<void> {
    uint64_t floor = kHighMemoryStart.value;
    for (const BootEntry::Placed& taken : plan.placed()) {
      floor = std::max(floor, taken.start.value + taken.size);
    }
    const auto start = plan.FindLowest(file.size(), kPageSize, floor, kFourGiB);
    if (!start) {
      return file.Invalid(fmt::format("does not fit into guest memory ({}) behind the kernel",
                                      SizeText(plan.memory().size())));
    }
    auto host = plan.Claim(file.role(), *start, file.size());
    if (!host) return file.Invalid(host.error().message);
    placed.push_back({*start, file.size(), text});
    return file.Read(0, {*host, file.size()});
  };
  if (input.initrd) {
    if (auto done = load(*input.initrd, ""); !done) return tl::unexpected(done.error());
  }
  for (size_t i = 0; i < input.modules.size(); ++i) {
    auto done = load(input.modules[i], input.request.modules[i].command_line);
    if (!done) return tl::unexpected(done.error());
  }
  return placed;
}

// The information structure and all that it points at, as one block that will lie at `base`.
std::vector<uint8_t> BuildBlock(const BootRequest& request,
                                const std::vector<PlacedModule>& modules, const RangePlan& plan,
                                uint64_t base) {
  const auto map = BuildMemoryMap(plan.memory());
  const uint64_t map_at = kInfoSize;
  const uint64_t modules_at = map_at + map.size() * kMmapSize;
  std::vector<uint8_t> block(modules_at + modules.size() * kModuleSize);
  const auto put = [&block](uint64_t offset, uint64_t value) {
    Put<uint32_t>(block, offset, static_cast<uint32_t>(value));
  };
  const auto put_text = [&](uint64_t offset, const std::string& text) {
    const uint64_t at = AppendText(block, text);
    put(offset, base + at);
  };

  put(At(Info::FLAGS), At(InfoFlags::MEMORY) | At(InfoFlags::CMDLINE) | At(InfoFlags::MODS) |
                           At(InfoFlags::MMAP) | At(InfoFlags::BOOT_LOADER_NAME));
  put(At(Info::MEM_LOWER), kEbdaStart.value / kKiB);
  put(At(Info::MEM_UPPER), (plan.low_ram_end() - kHighMemoryStart.value) / kKiB);
  put(At(Info::MODS_COUNT), modules.size());
  put(At(Info::MODS_ADDR), base + modules_at);
  put(At(Info::MMAP_LENGTH), map.size() * kMmapSize);
  put(At(Info::MMAP_ADDR), base + map_at);
  for (size_t i = 0; i < map.size(); ++i) {
    const uint64_t at = map_at + i * kMmapSize;
    put(at + At(Mmap::SIZE), kMmapSize - 4);
    Put<uint64_t>(block, at + At(Mmap::BASE_ADDR), map[i].start.value);
    Put<uint64_t>(block, at + At(Mmap::LENGTH), map[i].size);
    put(at + At(Mmap::TYPE), static_cast<uint32_t>(map[i].type));
  }
  for (size_t i = 0; i < modules.size(); ++i) {
    const uint64_t at = modules_at + i * kModuleSize;
    put(at + At(Module::MOD_START), modules[i].start);
    put(at + At(Module::MOD_END), modules[i].start + modules[i].size);
    put_text(at + At(Module::STRING), modules[i].command_line);
  }
  put_text(At(Info::CMDLINE), request.command_line);
  put_text(At(Info::BOOT_LOADER_NAME), kLoaderName);
  return block;
}

}  // namespace

std::optional<uint64_t> FindMultibootHeader(std::span<const uint8_t> head) {
  const uint64_t limit = std::min<uint64_t>(head.size(), kSearchLimit);
  for (uint64_t at = 0; at + kShortHeader <= limit; at += 4) {
    if (Get<uint32_t>(head, at) != kHeaderMagic) continue;
    const auto header = head.subspan(at);
    const uint32_t flags = Field(header, Header::FLAGS);
    if (kHeaderMagic + flags + Field(header, Header::CHECKSUM) != 0) continue;
    if (Has(flags, HeaderFlags::ADDRESSES) && at + kAddressHeader > limit) continue;
    return at;
  }
  return std::nullopt;
}

Result<BootEntry> LoadMultiboot(const BootInput& input, std::span<const uint8_t> head,
                                uint64_t header_offset, RangePlan& plan, CpuState& boot_cpu) {
  const auto header = head.subspan(header_offset);
  const uint32_t flags = Field(header, Header::FLAGS);
  if (const uint32_t unknown = flags & kRequirements & ~kKnownRequirements; unknown != 0) {
    return input.kernel.Invalid(
        fmt::format("asks for Multiboot features that vmm does not have (flags {:#x})", unknown));
  }
  const bool addresses = Has(flags, HeaderFlags::ADDRESSES);
  if (!addresses && !IsElf(head)) {
    return input.kernel.Invalid("has a Multiboot header, but is neither ELF nor gives addresses");
  }
  auto entry =
      addresses ? LoadByAddresses(input, header, header_offset, plan) : LoadElf(input, plan);
  if (!entry) return tl::unexpected(entry.error());
  auto modules = LoadModules(input, plan);
  if (!modules) return tl::unexpected(modules.error());
  auto info = PlaceBootInfo(input.kernel, plan, [&](uint64_t base) {
    return BuildBlock(input.request, *modules, plan, base);
  });
  if (!info) return tl::unexpected(info.error());

  EnterProtected32(boot_cpu, GuestPhys(*entry), info->gdt);
  boot_cpu.gpr[static_cast<size_t>(Gpr::RAX)] = kBootMagic;
  boot_cpu.gpr[static_cast<size_t>(Gpr::RBX)] = info->block.value;

  BootEntry result;
  result.format = BootFormat::kMultiboot;
  result.mode = EntryMode::kProtected32;
  result.entry = GuestPhys(*entry);
  result.description = "Multiboot kernel";
  return result;
}

}  // namespace vmm
