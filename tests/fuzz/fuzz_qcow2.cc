// Any bytes as a qcow2 image: it is opened or refused, read, checked, repaired, written. Its
// backing file is never looked for.
#include <algorithm>
#include <cstdint>
#include <memory>

#include "tests/support/memory_file.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"
#include "vmm/core/block/qcow2_check.h"
#include "vmm/core/block/qcow2_image.h"

namespace {

using namespace vmm;

constexpr uint64_t kMostBytes = 16 << 20;  // of a file; what needs more gets ENOSPC
constexpr uint64_t kProbe = 200'000;       // bytes read and written at a place
// In a search most inputs would soon be tables that are as large as they may be, a second each:
// there nothing has larger ones, or is read for longer. The kept inputs are replayed without limit.
constexpr uint64_t kMostOfTable = 256 << 10;  // bytes
constexpr uint64_t kMostRead = 64 << 20;      // bytes, in all; then EIO
bool in_search = false;

std::unique_ptr<MemoryFile> FileOf(std::span<const uint8_t> bytes) {
  auto file =
      std::make_unique<MemoryFile>(std::vector<uint8_t>(bytes.begin(), bytes.end()), kMostBytes);
  if (in_search) file->readable = kMostRead;
  return file;
}

bool IsTooLarge(std::span<const uint8_t> bytes) {
  const auto header = Qcow2Image::ReadHeader(*FileOf(bytes));
  return header && (uint64_t{header->l1_entries} * 8 > kMostOfTable ||
                    (header->refcount_table_clusters > 1 &&
                     header->refcount_table_clusters * header->cluster_size() > kMostOfTable));
}

std::unique_ptr<Qcow2Image> Open(std::span<const uint8_t> bytes, bool writable) {
  auto file = FileOf(bytes);
  const auto header = Qcow2Image::ReadHeader(*file);
  if (!header) return nullptr;
  auto image = Qcow2Image::Open(std::move(file), *header, nullptr, writable);
  return image ? std::move(*image) : nullptr;
}

// Both ends of the disk, which may be as large as an image can say.
void ReadEnds(BlockImage& image) {
  const uint64_t length = std::min<uint64_t>(image.size(), kProbe);
  std::vector<uint8_t> bytes(length);
  static_cast<void>(ReadAt(image, 0, bytes));
  static_cast<void>(ReadAt(image, image.size() - length, bytes));
  BlockImage::Extent extent;
  for (uint64_t at = 0, steps = 0; at < image.size() && steps < 1000; ++steps) {
    if (image.Map(at, image.size() - at, &extent) != 0) break;
    CHECK(extent.length != 0 && extent.length <= image.size() - at);
    at += extent.length;
  }
}

// What was written must be read, or the image must have said that it can't.
void WriteEnds(BlockImage& image) {
  const uint64_t length = std::min<uint64_t>(image.size(), kProbe) / 512 * 512;
  std::vector<uint8_t> bytes(length, 0xA7), back(length);
  for (const uint64_t at : {uint64_t{0}, image.size() - length}) {
    if (WriteAt(image, at, bytes) != 0 || ReadAt(image, at, back) != 0) return;
    CHECK(bytes == back);
  }
  if (image.Flush() != 0) return;
  if (image.WriteZeroes(512 % std::max<uint64_t>(length, 1), length / 2, true) != 0) return;
  if (image.Discard(0, length) != 0) return;
  static_cast<void>(image.Flush());
}

}  // namespace

// libFuzzer calls it, what replays kept inputs does not.
extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  in_search = true;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  SetLogLevel(LogLevel::kError);
  const std::span<const uint8_t> bytes(data, size);
  if (in_search && IsTooLarge(bytes)) return -1;
  if (const auto image = Open(bytes, false)) ReadEnds(*image);
  if (const auto image = Open(bytes, true)) {
    WriteEnds(*image);
    ReadEnds(*image);
  }
  const auto file = FileOf(bytes);
  const auto report = CheckQcow2(*file);
  if (report && RepairQcow2(*file)) {
    file->readable = UINT64_MAX;
    const auto again = CheckQcow2(*file);
    CHECK(again && again->corruptions == 0 && again->leaks == 0);
  }
  return 0;
}
