#include "vmm/boot/kernel_payload.h"

#include <fmt/format.h>
#include <lz4.h>
#include <lzma.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "vmm/boot/bytes.h"
#include "vmm/boot/range_plan.h"
#include "vmm/core/base/types.h"

namespace vmm {
namespace {

// Behind the compressed bytes; gzip ends with it by itself. [GZIP] 2.3.1: ISIZE
constexpr uint64_t kSizeField = 4;
constexpr uint64_t kMaxUnpacked = 1 * kGiB;  // no kernel has a larger image: KERNEL_IMAGE_SIZE
// [LZ4-FRAME] "Legacy frame": the magic number, then blocks of a size field and compressed bytes;
// every block but the last holds 8 MiB.
constexpr uint64_t kLz4Magic = 4, kLz4SizeField = 4, kLz4Block = 8 * kMiB;
// What an LZMA decoder may take for its tables and its window, which kernels make as large as
// 128 MiB.
constexpr uint64_t kLzmaMemory = 256 * kMiB;

struct Sign {
  std::string_view magic;
  Packing packing;
};
// The first bytes, as lib/decompress.c of Linux tells them apart.
constexpr Sign kSigns[] = {
    {{"\x1f\x8b", 2}, Packing::kGzip},         {{"\xfd\x37zXZ\0", 6}, Packing::kXz},
    {{"\x5d\0\0", 3}, Packing::kLzma},         {{"\x02\x21\x4c\x18", 4}, Packing::kLz4},
    {{"\x28\xb5\x2f\xfd", 4}, Packing::kZstd},
};

// Mapped, not from the heap: that would keep the megabytes for as long as the machine runs.
struct Unmap {
  size_t size;
  void operator()(uint8_t* bytes) const { munmap(bytes, size); }
};
using Bytes = std::unique_ptr<uint8_t[], Unmap>;

Result<Bytes> MapBytes(const BootFile& file, uint64_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    auto failed =
        FailErrno(ExitCode::kHostMemory, file.label() + ": no memory to unpack it", errno);
    failed.value().message += fmt::format(
        "; fix: free {} of the host's memory, or raise this process's limit", SizeText(size));
    return failed;
  }
  return Bytes(static_cast<uint8_t*>(memory), {size});
}

Result<Bytes> ReadBytes(const BootFile& file, uint64_t offset, uint64_t size) {
  auto bytes = MapBytes(file, size);
  if (!bytes) return bytes;
  if (auto read = file.Read(offset, {bytes->get(), size}); !read) {
    return tl::unexpected(read.error());
  }
  return bytes;
}

bool UnpackGzip(std::span<const uint8_t> in, std::span<uint8_t> out) {
  constexpr int kGzipWindow = 16 + MAX_WBITS;  // a gzip header, not zlib's
  z_stream stream{};
  if (inflateInit2(&stream, kGzipWindow) != Z_OK) return false;
  stream.next_in = const_cast<uint8_t*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  const int status = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  return status == Z_STREAM_END && stream.avail_out == 0;
}

bool UnpackLzma(Packing packing, std::span<const uint8_t> in, std::span<uint8_t> out) {
  lzma_stream stream = LZMA_STREAM_INIT;
  const lzma_ret ready = packing == Packing::kXz
                             ? lzma_stream_decoder(&stream, kLzmaMemory, LZMA_IGNORE_CHECK)
                             : lzma_alone_decoder(&stream, kLzmaMemory);
  if (ready != LZMA_OK) return false;
  stream.next_in = in.data();
  stream.avail_in = in.size();
  stream.next_out = out.data();
  stream.avail_out = out.size();
  lzma_ret status = LZMA_OK;
  while (status == LZMA_OK) status = lzma_code(&stream, LZMA_RUN);
  lzma_end(&stream);
  return status == LZMA_STREAM_END && stream.avail_out == 0;
}

bool UnpackZstd(std::span<const uint8_t> in, std::span<uint8_t> out) {
  const size_t frame = ZSTD_findFrameCompressedSize(in.data(), in.size());
  return ZSTD_isError(frame) == 0 &&
         ZSTD_decompress(out.data(), out.size(), in.data(), frame) == out.size();
}

struct Lz4Block {
  uint64_t offset, size;  // bytes in the kernel file
};

Result<std::vector<Lz4Block>> FindLz4Blocks(const BootFile& kernel, const KernelPayload& payload) {
  std::vector<Lz4Block> blocks;
  const uint64_t end = payload.offset + payload.size;
  for (uint64_t at = payload.offset + kLz4Magic; at + kLz4SizeField <= end;) {
    std::array<uint8_t, kLz4SizeField> field;
    if (auto read = kernel.Read(at, field); !read) return tl::unexpected(read.error());
    const uint64_t size = Get<uint32_t>(field, 0);
    at += kLz4SizeField;
    if (size > end - at || size > LZ4_COMPRESSBOUND(kLz4Block)) break;
    blocks.push_back({at, size});
    at += size;
  }
  return blocks;
}

// Blocks know nothing of each other, so that each processor can take the next one.
Result<bool> UnpackLz4(const BootFile& kernel, const KernelPayload& payload,
                       std::span<uint8_t> out) {
  auto blocks = FindLz4Blocks(kernel, payload);
  if (!blocks) return tl::unexpected(blocks.error());
  if (blocks->empty() || blocks->size() != (out.size() + kLz4Block - 1) / kLz4Block) return false;
  std::atomic<size_t> next = 0;
  std::atomic<bool> failed = false;
  Result<bool> outcome = true;
  const auto fail = [&](Result<bool> why) {  // the first one is told
    if (!failed.exchange(true)) outcome = std::move(why);
  };
  const uint64_t largest =
      std::max<uint64_t>(std::ranges::max(*blocks, {}, &Lz4Block::size).size, 1);
  const auto work = [&] {
    const auto bytes = MapBytes(kernel, largest);
    if (!bytes) return fail(tl::unexpected(bytes.error()));
    for (size_t i; !failed && (i = next++) < blocks->size();) {
      const Lz4Block& block = (*blocks)[i];
      const auto part = out.subspan(i * kLz4Block, std::min(kLz4Block, out.size() - i * kLz4Block));
      if (auto read = kernel.Read(block.offset, {bytes->get(), block.size}); !read) {
        return fail(tl::unexpected(std::move(read.error())));
      }
      if (LZ4_decompress_safe(reinterpret_cast<const char*>(bytes->get()),
                              reinterpret_cast<char*>(part.data()), static_cast<int>(block.size),
                              static_cast<int>(part.size())) != static_cast<int>(part.size())) {
        return fail(false);
      }
    }
  };
  std::vector<std::jthread> helpers;
  try {
    const size_t wanted = std::min<size_t>(std::thread::hardware_concurrency(), blocks->size());
    while (helpers.size() + 1 < wanted) helpers.emplace_back(work);
  } catch (const std::system_error&) {
    // No more threads are allowed: those that there are do it.
  }
  work();
  helpers.clear();
  return outcome;
}

Result<bool> UnpackBytes(const BootFile& kernel, const KernelPayload& payload,
                         std::span<uint8_t> out) {
  if (payload.packing == Packing::kLz4) return UnpackLz4(kernel, payload, out);
  auto bytes = ReadBytes(kernel, payload.offset, payload.size);
  if (!bytes) return tl::unexpected(bytes.error());
  const std::span<const uint8_t> in(bytes->get(), payload.size);
  if (payload.packing == Packing::kGzip) return UnpackGzip(in, out);
  if (payload.packing == Packing::kZstd) return UnpackZstd(in, out);
  return UnpackLzma(payload.packing, in, out);
}

}  // namespace

std::string_view Name(Packing packing) {
  switch (packing) {
    case Packing::kGzip:
      return "gzip";
    case Packing::kXz:
      return "xz";
    case Packing::kLzma:
      return "lzma";
    case Packing::kLz4:
      return "LZ4";
    case Packing::kZstd:
      return "zstd";
  }
  return "unknown";
}

Result<KernelPayload> FindKernelPayload(const BootFile& kernel, const BzImageHeader& header) {
  if (header.version < linux_boot::kPayloadVersion) {
    return kernel.Invalid("does not tell where its compressed part is (boot protocol before 2.08)");
  }
  const uint64_t offset = Get<uint32_t>(header.raw, At(linux_boot::Field::PAYLOAD_OFFSET));
  const uint64_t size = Get<uint32_t>(header.raw, At(linux_boot::Field::PAYLOAD_LENGTH));
  if (size <= 2 * kSizeField || offset >= header.payload_size ||
      size > header.payload_size - offset) {
    return kernel.Invalid("has no compressed part");
  }
  KernelPayload payload;
  payload.offset = header.payload_offset + offset;
  payload.size = size;
  std::array<uint8_t, 8> head;
  std::array<uint8_t, kSizeField> told;
  auto read = kernel.Read(payload.offset, head).and_then([&] {
    return kernel.Read(payload.offset + size - kSizeField, told);
  });
  if (!read) return tl::unexpected(read.error());
  const auto* sign = std::ranges::find_if(kSigns, [&](const Sign& known) {
    return std::memcmp(head.data(), known.magic.data(), known.magic.size()) == 0;
  });
  if (sign == std::end(kSigns)) return kernel.Invalid("is packed in a way not known here");
  payload.packing = sign->packing;
  payload.unpacked_size = Get<uint32_t>(told, 0);
  if (payload.unpacked_size > kMaxUnpacked) {
    return kernel.Invalid(fmt::format("unpacks to {} bytes, too many", payload.unpacked_size));
  }
  if (payload.packing != Packing::kGzip) payload.size -= kSizeField;
  return payload;
}

Result<void> Unpack(const BootFile& kernel, const KernelPayload& payload, std::span<uint8_t> out) {
  auto unpacked = UnpackBytes(kernel, payload, out);
  if (!unpacked) return tl::unexpected(unpacked.error());
  if (!*unpacked) {
    return kernel.Invalid(
        fmt::format("its compressed part ({}) is damaged", Name(payload.packing)));
  }
  return {};
}

}  // namespace vmm
