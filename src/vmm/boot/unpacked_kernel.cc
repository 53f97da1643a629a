#include "vmm/boot/unpacked_kernel.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "vmm/boot/bytes.h"
#include "vmm/boot/vmlinux.h"

namespace vmm {
namespace {

// Where the first segment of a 64-bit kernel lies in the file, by the linker's largest page:
// unpacked so far below its place, nearly all of it need not be moved.
constexpr uint64_t kFirstSegment64 = 2 * kMiB;
// How far a kernel may be from the start of its part of the address space: KERNEL_IMAGE_SIZE in
// arch/x86/include/asm/page_64_types.h (with KASLR) and page_32_types.h of Linux.
constexpr uint64_t kImageSize64 = 1 * kGiB, kImageSize32 = 512 * kMiB;
constexpr uint64_t kFourGiB = 4 * kGiB;

bool HasWord(std::string_view line, std::string_view word) {
  for (size_t at = line.find(word); at != line.npos; at = line.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || line[at - 1] == ' ') && (end == line.size() || line[end] == ' ')) return true;
  }
  return false;
}

// These say which memory a kernel may use: it is left where it wants to be.
bool ShapesMemory(std::string_view line) {
  return line.find("mem=") != line.npos || line.find("memmap=") != line.npos ||
         line.find("hugepages=") != line.npos;
}

// One of 0, step, 2 * step... up to `room`.
uint64_t RandomMultiple(uint64_t step, uint64_t room) {
  uint64_t number = 0;
  if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number)) return 0;
  return number % (room / step + 1) * step;
}

class Loader {
 public:
  Loader(const BootFile& kernel, const BzImageHeader& header, const BootRequest& request,
         const KernelPayload& payload, uint64_t initrd_size, RangePlan& plan)
      : kernel_(kernel),
        header_(header),
        request_(request),
        payload_(payload),
        initrd_size_(initrd_size),
        plan_(plan),
        room_(std::max(header.init_size, payload.unpacked_size)) {}

  Result<UnpackedKernel> Load();

 private:
  bool may_be_random() const {
    return request_.seed_random && header_.is_relocatable &&
           !HasWord(request_.command_line, "nokaslr");
  }
  uint64_t ChooseStart() const;
  Result<UnpackedKernel> Fill(std::span<uint8_t> bytes, uint64_t below, uint64_t start);

  const BootFile& kernel_;
  const BzImageHeader& header_;
  const BootRequest& request_;
  const KernelPayload& payload_;
  const uint64_t initrd_size_;
  RangePlan& plan_;
  const uint64_t room_;  // bytes that the kernel needs from its start on
};

uint64_t Loader::ChooseStart() const {
  const uint64_t start = header_.runtime_start;
  if (!may_be_random() || ShapesMemory(request_.command_line)) return start;
  uint64_t limit = std::min(plan_.low_ram_end(), header_.has_entry64 ? kFourGiB : kImageSize32);
  if (initrd_size_ != 0) limit = std::min(limit, header_.initrd_end_max);
  const uint64_t taken = start + room_ + AlignUp(initrd_size_, header_.alignment);
  return taken >= limit ? start : start + RandomMultiple(header_.alignment, limit - taken);
}

// `bytes`: guest RAM from `below` bytes under `start` on.
Result<UnpackedKernel> Loader::Fill(std::span<uint8_t> bytes, uint64_t below, uint64_t start) {
  auto unpacked = bytes.first(payload_.unpacked_size);
  if (auto done = Unpack(kernel_, payload_, unpacked); !done) return tl::unexpected(done.error());
  auto vmlinux = ParseVmlinux(unpacked);
  uint64_t up = 0;
  if (vmlinux && vmlinux->elf.segments.front().offset < below) {
    // Nearer to the start of the file than thought: all up, so that no segment has to go there.
    up = below - vmlinux->elf.segments.front().offset;
    std::memmove(unpacked.data() + up, unpacked.data(), unpacked.size());
    unpacked = bytes.subspan(up, unpacked.size());
    vmlinux = ParseVmlinux(unpacked);
  }
  if (!vmlinux) return kernel_.Invalid(vmlinux.error().message);
  const uint64_t size = vmlinux->end - vmlinux->start;
  if (vmlinux->start != header_.runtime_start || size > room_ ||
      !PlaceSegments(*vmlinux, unpacked, below - up)) {
    return kernel_.Invalid("unpacks to something else than its header tells");
  }
  const auto image = bytes.subspan(below, size);
  const bool can_move = !vmlinux->relocations.empty();
  UnpackedKernel result;
  result.start = GuestPhys(start);
  result.entry = GuestPhys(vmlinux->elf.entry - vmlinux->start + start);
  result.is_64 = vmlinux->elf.is_64;
  result.packing = payload_.packing;
  // One of 64 bits finds by itself where it is in physical memory; one of 32 bits has its virtual
  // addresses at a fixed distance from that.
  uint64_t distance = start - vmlinux->start;
  if (result.is_64) {
    result.is_random = can_move && may_be_random();
    // Never none, so that what is wrong with the list is always seen.
    const uint64_t step = header_.alignment, end = vmlinux->start + room_ + step;
    distance = result.is_random && end < kImageSize64
                   ? step + RandomMultiple(step, kImageSize64 - end)
                   : 0;
  } else {
    result.is_random = distance != 0;
    if (result.is_random && !can_move) return kernel_.Invalid("has no list of addresses");
  }
  if (distance != 0 && !Relocate(*vmlinux, image, distance)) {
    return kernel_.Invalid("has a list of addresses that lie outside it");
  }
  return result;
}

Result<UnpackedKernel> Loader::Load() {
  const uint64_t start = ChooseStart();
  const uint64_t below =
      header_.has_entry64 ? std::min(kFirstSegment64, start - kHighMemoryStart.value) : 0;
  auto host = plan_.Claim("kernel", start - below, below + room_);
  if (!host) return kernel_.Invalid(host.error().message);
  auto result = Fill({*host, below + room_}, below, start);
  if (!result) plan_.Release(start - below);
  return result;
}

}  // namespace

Result<UnpackedKernel> LoadUnpackedKernel(const BootFile& kernel, const BzImageHeader& header,
                                          const BootRequest& request, uint64_t initrd_size,
                                          RangePlan& plan) {
  auto payload = FindKernelPayload(kernel, header);
  if (!payload) return tl::unexpected(payload.error());
  return Loader(kernel, header, request, *payload, initrd_size, plan).Load();
}

}  // namespace vmm
