#include "vmm/boot/bzimage_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "vmm/boot/bytes.h"
#include "vmm/core/base/types.h"

namespace vmm {

using linux_boot::At;
using linux_boot::Field;

namespace {

constexpr uint64_t kDefaultLoadAddress = 0x100000;
constexpr uint64_t kFourGiB = 4 * kGiB;
constexpr uint64_t kSmallestSetup = 2 * linux_boot::kSectorSize;
constexpr uint64_t kOldCommandLineMax = 255;
constexpr uint64_t kOldInitrdEnd = 0x38000000;
constexpr uint64_t kMaxVersionText = 120;

template <class Int>
Int Get(std::span<const uint8_t> bytes, Field field) {
  return vmm::Get<Int>(bytes, At(field));
}

// The text that the header points at; only a decoration, so that a wrong pointer is no error.
std::string ReadVersionText(const BootFile& kernel, uint64_t setup_size, uint64_t pointer) {
  const uint64_t offset = pointer + linux_boot::kSectorSize;
  if (pointer == 0 || offset >= setup_size) return {};
  std::vector<uint8_t> bytes(std::min(kMaxVersionText, setup_size - offset));
  if (!kernel.Read(offset, bytes)) return {};
  std::string text;
  for (uint8_t byte : bytes) {
    if (byte < 0x20 || byte > 0x7e) break;
    text.push_back(static_cast<char>(byte));
  }
  return text;
}

// Where the kernel is put and where it will run. [LINUX-BOOT] "Details of Header Fields":
// pref_address, init_size
Result<void> PlaceKernel(const BootFile& kernel, BzImageHeader& header) {
  const std::span<const uint8_t> raw = header.raw;
  header.load_address = header.runtime_start = kDefaultLoadAddress;
  if (header.version < 0x020a) return {};
  header.init_size = Get<uint32_t>(raw, Field::INIT_SIZE);
  const uint64_t preferred = Get<uint64_t>(raw, Field::PREF_ADDRESS);
  if (preferred >= kFourGiB || (preferred != 0 && preferred < kDefaultLoadAddress)) {
    return kernel.Invalid(fmt::format("malformed: preferred address {:#x}", preferred));
  }
  if (preferred != 0) header.runtime_start = preferred;
  if (Get<uint8_t>(raw, Field::RELOCATABLE_KERNEL) == 0) return {};
  const uint64_t alignment = Get<uint32_t>(raw, Field::KERNEL_ALIGNMENT);
  if (!IsPowerOfTwo(alignment)) {
    return kernel.Invalid(fmt::format("malformed: alignment {:#x}", alignment));
  }
  header.is_relocatable = true;
  header.alignment = alignment;
  header.runtime_start = AlignUp(header.runtime_start, alignment);
  header.load_address = header.runtime_start;
  return {};
}

}  // namespace

uint64_t BzImageHeader::end() const {
  return std::max(load_address + payload_size, runtime_start + init_size);
}

bool IsBzImage(std::span<const uint8_t> head) {
  return head.size() >= linux_boot::kHeaderLimit &&
         Get<uint32_t>(head, Field::HEADER) == linux_boot::kHeaderMagic &&
         Get<uint16_t>(head, Field::BOOT_FLAG) == linux_boot::kBootFlag;
}

Result<BzImageHeader> ParseBzImageHeader(const BootFile& kernel) {
  BzImageHeader header;
  if (kernel.size() < kSmallestSetup) return kernel.Invalid("truncated inside the setup header");
  if (auto read = kernel.Read(0, header.raw); !read) return tl::unexpected(read.error());
  const std::span<const uint8_t> raw = header.raw;

  header.version = Get<uint16_t>(raw, Field::VERSION);
  if (header.version < linux_boot::kOldestVersion) {
    return kernel.Invalid(
        fmt::format("speaks boot protocol {}.{:02}; 2.06 (Linux 2.6.22) or newer is needed",
                    header.version >> 8, header.version & 0xff));
  }
  if ((Get<uint8_t>(raw, Field::LOADFLAGS) &
       static_cast<uint8_t>(linux_boot::LoadFlags::LOADED_HIGH)) == 0) {
    return kernel.Invalid("is a zImage, which loads below 1 MiB; a bzImage is needed");
  }
  header.header_end = At(Field::HEADER) + Get<uint8_t>(raw, At(Field::JUMP) + 1);
  if (header.header_end < At(Field::CMDLINE_SIZE) + sizeof(uint32_t)) {
    return kernel.Invalid("malformed: the setup header is too short for its protocol version");
  }
  header.header_end = std::min(header.header_end, linux_boot::kHeaderLimit);

  const uint8_t sectors = Get<uint8_t>(raw, Field::SETUP_SECTS);
  header.payload_offset =
      (uint64_t{sectors == 0 ? uint8_t{4} : sectors} + 1) * linux_boot::kSectorSize;
  const uint64_t told = uint64_t{Get<uint32_t>(raw, Field::SYSSIZE)} * 16;
  if (told == 0) return kernel.Invalid("malformed: the kernel proper is empty");
  // The size is told in paragraphs of 16 bytes; the last one may be short.
  if (header.payload_offset >= kernel.size() || told > kernel.size() - header.payload_offset + 15) {
    return kernel.Invalid(
        fmt::format("truncated: {} bytes of {}", kernel.size(), header.payload_offset + told));
  }
  header.payload_size = std::min(told, kernel.size() - header.payload_offset);

  if (auto placed = PlaceKernel(kernel, header); !placed) return tl::unexpected(placed.error());
  header.command_line_max = Get<uint32_t>(raw, Field::CMDLINE_SIZE);
  if (header.command_line_max == 0) header.command_line_max = kOldCommandLineMax;
  header.initrd_end_max = uint64_t{Get<uint32_t>(raw, Field::INITRD_ADDR_MAX)} + 1;
  if (header.initrd_end_max == 1) header.initrd_end_max = kOldInitrdEnd;
  header.has_entry64 = header.version >= 0x020c &&
                       (Get<uint16_t>(raw, Field::XLOADFLAGS) &
                        static_cast<uint16_t>(linux_boot::XLoadFlags::XLF_KERNEL_64)) != 0;
  header.kernel_version =
      ReadVersionText(kernel, header.payload_offset, Get<uint16_t>(raw, Field::KERNEL_VERSION));
  return header;
}

}  // namespace vmm
