#include "vmm/boot/load_kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "vmm/boot/boot_cpu.h"
#include "vmm/boot/boot_input.h"
#include "vmm/boot/bytes.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/bzimage_header.h"
#include "vmm/boot/elf_image.h"
#include "vmm/boot/multiboot.h"
#include "vmm/boot/multiboot_regs.h"
#include "vmm/boot/pvh.h"
#include "vmm/boot/real_mode_services.h"

namespace vmm {
namespace {

// Files that people take for kernels, by their first bytes, and what to do instead.
struct KnownFile {
  uint64_t offset;
  std::string_view magic;
  std::string_view advice;
};
constexpr KnownFile kKnownFiles[] = {
    {0, "\x1f\x8b", "is compressed by gzip; unpack it first"},
    {0, "\x28\xb5\x2f\xfd", "is compressed by zstd; unpack it first"},
    {0,
     "\xfd"
     "7zXZ",
     "is compressed by xz; unpack it first"},
    {0, "BZh", "is compressed by bzip2; unpack it first"},
    {0, "070701", "is a cpio archive: an initrd, not a kernel"},
    {0, "QFI\xfb", "is a qcow2 disk image, not a kernel"},
    {0, "KDMV", "is a VMDK disk image, not a kernel"},
    {0x38, "ARM\x64", "is a kernel for ARM64; an x86 one is needed"},
    {0, "MZ", "is a Windows or UEFI program, not a kernel"},
    {0, "#!", "is a script, not a kernel"},
    {0, "!<arch>", "is a package or a library, not a kernel"},
};

tl::unexpected<Error> Unknown(const BootFile& kernel, std::span<const uint8_t> head) {
  for (const KnownFile& known : kKnownFiles) {
    if (known.offset + known.magic.size() <= head.size() &&
        std::memcmp(head.data() + known.offset, known.magic.data(), known.magic.size()) == 0) {
      return kernel.Invalid(known.advice);
    }
  }
  constexpr uint64_t kBootSectorEnd = 0x200;
  if (head.size() >= kBootSectorEnd && Get<uint16_t>(head, kBootSectorEnd - 2) == 0xaa55) {
    return kernel.Invalid("starts with a boot sector: it is a disk image or a very old kernel");
  }
  return kernel.Invalid("is no kernel: neither a bzImage nor ELF with a PVH note nor Multiboot");
}

Result<BootEntry> Dispatch(const BootInput& input, RangePlan& plan, CpuState& boot_cpu) {
  const BootFile& kernel = input.kernel;
  std::vector<uint8_t> head(std::min<uint64_t>(kernel.size(), multiboot::kSearchLimit));
  if (auto read = kernel.Read(0, head); !read) return tl::unexpected(read.error());

  if (IsBzImage(head)) return LoadBzImage(input, plan, boot_cpu);
  const ForceEntry entry = input.request.entry;
  if (entry != ForceEntry::kAuto && entry != ForceEntry::k32) {
    return kernel.Invalid("is no bzImage: PVH and Multiboot kernels have a 32-bit entry only");
  }
  const auto multiboot_header = FindMultibootHeader(head);
  if (IsElf(head)) {
    auto image = ParseElf(kernel);
    if (!image) return tl::unexpected(image.error());
    if (image->pvh_entry) return LoadPvh(input, *image, plan, boot_cpu);
    if (!multiboot_header) {
      return kernel.Invalid(
          "is an ELF file without a PVH note and without a Multiboot header; for Linux give the "
          "bzImage (arch/x86/boot/bzImage, /boot/vmlinuz-*) or a vmlinux built with CONFIG_PVH=y");
    }
  }
  if (!multiboot_header) return Unknown(kernel, head);
  return LoadMultiboot(input, head, *multiboot_header, plan, boot_cpu);
}

}  // namespace

std::string_view Name(BootFormat format) {
  switch (format) {
    case BootFormat::kBzImage:
      return "bzImage";
    case BootFormat::kPvh:
      return "PVH";
    case BootFormat::kMultiboot:
      return "Multiboot";
  }
  return "unknown";
}

Result<BootEntry> LoadKernel(const BootRequest& request, GuestMemory& memory, CpuState& boot_cpu) {
  auto kernel = BootFile::Open("kernel", request.kernel);
  if (!kernel) return tl::unexpected(kernel.error());
  kernel->Prefetch();
  return LoadKernel(*kernel, request, memory, boot_cpu);
}

Result<BootEntry> LoadKernel(const BootFile& kernel, const BootRequest& request,
                             GuestMemory& memory, CpuState& boot_cpu) {
  BootInput input{.kernel = kernel, .request = request, .initrd = {}, .modules = {}};
  // Everything is opened before anything is loaded: the disk reads ahead, and what is missing
  // shows.
  if (!request.initrd.empty()) {
    auto file = BootFile::Open("initrd", request.initrd);
    if (!file) return tl::unexpected(file.error());
    file->Prefetch();
    input.initrd = std::move(*file);
  }
  for (size_t i = 0; i < request.modules.size(); ++i) {
    auto file = BootFile::Open(fmt::format("module {}", i), request.modules[i].path);
    if (!file) return tl::unexpected(file.error());
    file->Prefetch();
    input.modules.push_back(std::move(*file));
  }
  const auto has_nul = [](const std::string& text) { return text.find('\0') != text.npos; };
  if (has_nul(request.command_line) ||
      std::any_of(request.modules.begin(), request.modules.end(),
                  [&](const BootModule& module) { return has_nul(module.command_line); })) {
    return kernel.Invalid("the command line has a NUL character in it");
  }

  RangePlan plan(memory);
  if (plan.low_ram_end() <= kHighMemoryStart.value) {
    return Fail(ExitCode::kConfigInvalid, "guest memory must be more than 1 MiB");
  }
  auto result = Dispatch(input, plan, boot_cpu);
  if (!result) return result;
  if (result->mode == EntryMode::kReal16) {
    WriteRealModeServices(memory);
  } else {
    WriteBiosDataArea(memory);
  }
  ApplyFirmwareCpuState(boot_cpu, true);
  result->placed = plan.placed();
  result->memory_map = BuildMemoryMap(memory);
  return result;
}

}  // namespace vmm
