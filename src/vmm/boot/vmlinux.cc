#include "vmm/boot/vmlinux.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "vmm/boot/bytes.h"

namespace vmm {
namespace {

constexpr size_t kWord = 4;

// Each list starts behind a zero, the first of them right behind the ELF image. Kernels of 64 bits
// have three, from 6.15 two: nothing is relative to per-CPU data at zero any more.
std::optional<Relocations> ParseRelocations(std::span<const uint8_t> tail, bool is_64) {
  if (tail.size() < kWord) return Relocations{};
  if (tail.size() % kWord != 0 || Get<uint32_t>(tail, 0) != 0) return std::nullopt;
  std::vector<std::span<const uint8_t>> lists;
  for (size_t at = 0, end; at < tail.size(); at = end) {
    end = at + kWord;
    while (end < tail.size() && Get<uint32_t>(tail, end) != 0) end += kWord;
    lists.push_back(tail.subspan(at + kWord, end - at - kWord));
  }
  if (!is_64 && lists.size() == 1)
    return Relocations{.wide = {}, .inverse = {}, .narrow = lists[0]};
  if (is_64 && lists.size() == 2) {
    return Relocations{.wide = lists[0], .inverse = {}, .narrow = lists[1]};
  }
  if (is_64 && lists.size() == 3) {
    return Relocations{.wide = lists[0], .inverse = lists[1], .narrow = lists[2]};
  }
  return std::nullopt;
}

// Segments follow each other, in memory as in the file.
bool IsInOrder(const std::vector<ElfSegment>& segments) {
  for (size_t i = 1; i < segments.size(); ++i) {
    const ElfSegment& before = segments[i - 1];
    const ElfSegment& here = segments[i];
    if (here.offset < before.offset + before.file_size ||
        here.address < before.address + before.file_size) {
      return false;
    }
  }
  return true;
}

template <class Int>
bool Add(std::span<const uint8_t> list, std::span<uint8_t> image, uint64_t first, bool is_64,
         uint64_t distance) {
  for (size_t at = 0; at < list.size(); at += kWord) {
    const uint32_t word = Get<uint32_t>(list, at);
    const uint64_t address =
        is_64 ? static_cast<uint64_t>(static_cast<int32_t>(word)) : uint64_t{word};
    const uint64_t offset = address - first;
    if (offset > image.size() || image.size() - offset < sizeof(Int)) return false;
    Put<Int>(image, offset, static_cast<Int>(Get<Int>(image, offset) + distance));
  }
  return true;
}

}  // namespace

Result<Vmlinux> ParseVmlinux(std::span<const uint8_t> bytes) {
  const BootFile file = BootFile::FromBytes("the unpacked kernel", bytes);
  auto elf = ParseElf(file);
  if (!elf) return tl::unexpected(elf.error());
  const std::vector<ElfSegment>& segments = elf->segments;
  if (!IsInOrder(segments)) return file.Invalid("has segments out of order");
  auto relocations = ParseRelocations(bytes.subspan(elf->file_end), elf->is_64);
  if (!relocations) return file.Invalid("has lists of addresses of an unknown form");
  Vmlinux kernel;
  kernel.start = segments.front().address;
  kernel.end = segments.back().address + segments.back().file_size;
  kernel.relocations = *relocations;
  kernel.elf = std::move(*elf);
  if (kernel.elf.entry < kernel.start || kernel.elf.entry >= kernel.end) {
    return file.Invalid("is entered outside its segments");
  }
  return kernel;
}

bool PlaceSegments(const Vmlinux& kernel, std::span<uint8_t> bytes, uint64_t at) {
  const auto& segments = kernel.elf.segments;
  const auto place = [&](const ElfSegment& segment) { return at + segment.address - kernel.start; };
  // Upwards, one would run over the next.
  if (std::ranges::any_of(segments, [&](const auto& s) { return place(s) > s.offset; }))
    return false;
  for (const ElfSegment& segment : segments) {
    if (place(segment) == segment.offset) continue;
    std::memmove(bytes.data() + place(segment), bytes.data() + segment.offset, segment.file_size);
  }
  return true;
}

bool Relocate(const Vmlinux& kernel, std::span<uint8_t> image, uint64_t distance) {
  const bool is_64 = kernel.elf.is_64;
  const uint64_t first = kernel.elf.segments.front().virtual_address;
  const Relocations& lists = kernel.relocations;
  return Add<uint64_t>(lists.wide, image, first, is_64, distance) &&
         Add<uint32_t>(lists.inverse, image, first, is_64, -distance) &&
         Add<uint32_t>(lists.narrow, image, first, is_64, distance);
}

}  // namespace vmm
