#include "vmm/boot/pvh.h"

#include <fmt/format.h>

#include <cstring>
#include <span>

#include "vmm/boot/boot_cpu.h"
#include "vmm/boot/boot_info.h"
#include "vmm/boot/bytes.h"

namespace vmm {
namespace {

// struct hvm_start_info, version 1, and what it points at: byte offsets. [PVH] "start_info"
enum class StartInfo : uint64_t {
  MAGIC = 0,            // 4
  VERSION = 4,          // 4
  FLAGS = 8,            // 4
  NR_MODULES = 12,      // 4
  MODLIST_PADDR = 16,   // 8
  CMDLINE_PADDR = 24,   // 8
  RSDP_PADDR = 32,      // 8
  MEMMAP_PADDR = 40,    // 8
  MEMMAP_ENTRIES = 48,  // 4
};
enum class ModList : uint64_t { PADDR = 0, SIZE = 8, CMDLINE_PADDR = 16 };  // 8 each
enum class MemMap : uint64_t { ADDR = 0, SIZE = 8, TYPE = 16 };             // 8, 8, 4

constexpr uint32_t kStartMagic = 0x336ec578;  // "xEn3" with the high bit of E set
constexpr uint64_t kStartInfoSize = 56, kModListSize = 32, kMemMapSize = 24;
constexpr uint64_t kFourGiB = 4 * kGiB;

template <class Enum>
constexpr uint64_t At(Enum field) {
  return static_cast<uint64_t>(field);
}

// Modules go as high as RAM goes: the kernel proper may grow behind its end.
Result<std::vector<PlacedModule>> LoadModules(const BootInput& input, RangePlan& plan) {
  std::vector<PlacedModule> placed;
  const auto load = [&](const BootFile& file, const std::string& text) -> Result<void> {
    const auto start = plan.FindHighest(file.size(), kPageSize, kHighMemoryStart.value, kFourGiB);
    if (!start) {
      return file.Invalid(fmt::format("does not fit into guest memory ({}) beside the kernel",
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

// start_info, memory map, module list and texts as one block that will lie at `base`. Its size does
// not depend on `base`.
std::vector<uint8_t> BuildBlock(const BootRequest& request,
                                const std::vector<PlacedModule>& modules,
                                const std::vector<MemoryMapEntry>& map, uint64_t base) {
  const uint64_t map_at = kStartInfoSize;
  const uint64_t list_at = map_at + map.size() * kMemMapSize;
  std::vector<uint8_t> block(list_at + modules.size() * kModListSize);
  const uint64_t command_line = AppendText(block, request.command_line);

  Put<uint32_t>(block, At(StartInfo::MAGIC), kStartMagic);
  Put<uint32_t>(block, At(StartInfo::VERSION), 1);
  Put<uint32_t>(block, At(StartInfo::NR_MODULES), static_cast<uint32_t>(modules.size()));
  if (!modules.empty()) Put<uint64_t>(block, At(StartInfo::MODLIST_PADDR), base + list_at);
  Put<uint64_t>(block, At(StartInfo::CMDLINE_PADDR), base + command_line);
  Put<uint64_t>(block, At(StartInfo::RSDP_PADDR), request.acpi_rsdp.value);
  Put<uint64_t>(block, At(StartInfo::MEMMAP_PADDR), base + map_at);
  Put<uint32_t>(block, At(StartInfo::MEMMAP_ENTRIES), static_cast<uint32_t>(map.size()));
  for (size_t i = 0; i < map.size(); ++i) {
    const uint64_t at = map_at + i * kMemMapSize;
    Put<uint64_t>(block, at + At(MemMap::ADDR), map[i].start.value);
    Put<uint64_t>(block, at + At(MemMap::SIZE), map[i].size);
    Put<uint32_t>(block, at + At(MemMap::TYPE), static_cast<uint32_t>(map[i].type));
  }
  for (size_t i = 0; i < modules.size(); ++i) {
    const uint64_t at = list_at + i * kModListSize;
    Put<uint64_t>(block, at + At(ModList::PADDR), modules[i].start);
    Put<uint64_t>(block, at + At(ModList::SIZE), modules[i].size);
    if (modules[i].command_line.empty()) continue;
    const uint64_t text = AppendText(block, modules[i].command_line);
    Put<uint64_t>(block, at + At(ModList::CMDLINE_PADDR), base + text);
  }
  return block;
}

}  // namespace

Result<BootEntry> LoadPvh(const BootInput& input, const ElfImage& image, RangePlan& plan,
                          CpuState& boot_cpu) {
  const uint64_t entry = *image.pvh_entry;
  if (entry >= kFourGiB || !image.Holds(entry)) {
    return input.kernel.Invalid(
        fmt::format("malformed: the PVH entry {:#x} is in no segment below 4 GiB", entry));
  }
  if (auto loaded = LoadSegments(image, input.kernel, input.request.memory_is_zero, plan);
      !loaded) {
    return tl::unexpected(loaded.error());
  }
  auto modules = LoadModules(input, plan);
  if (!modules) return tl::unexpected(modules.error());

  const auto map = BuildMemoryMap(plan.memory());
  auto info = PlaceBootInfo(input.kernel, plan, [&](uint64_t base) {
    return BuildBlock(input.request, *modules, map, base);
  });
  if (!info) return tl::unexpected(info.error());

  EnterProtected32(boot_cpu, GuestPhys(entry), info->gdt);
  boot_cpu.gpr[static_cast<size_t>(Gpr::RBX)] = info->block.value;

  BootEntry result;
  result.format = BootFormat::kPvh;
  result.mode = EntryMode::kProtected32;
  result.entry = GuestPhys(entry);
  result.description = fmt::format("ELF{} kernel, PVH entry", image.is_64 ? 64 : 32);
  return result;
}

}  // namespace vmm
