// bzImages with a compressed kernel inside: an ELF image with two segments, and the lists of the
// places that hold addresses, packed in each of the ways that Linux is.
#pragma once

#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <catch2/catch.hpp>

#include "kernel_images.h"
#include "vmm/boot/kernel_payload.h"

namespace boot_test {

inline constexpr uint64_t kKernelStart = 0x1000000;  // as linked, physical
inline constexpr uint64_t kVirtual64 = 0xffffffff80000000, kVirtual32 = 0xc0000000;
// Fields in the first segment, as offsets from kKernelStart.
inline constexpr uint64_t kWideAt = 0x100, kInverseAt = 0x110, kNarrowAt = 0x120;
inline constexpr uint64_t kSecond = 0x5000;  // of the second segment, from kKernelStart
inline constexpr uint64_t kEntryAt = 0x40;

inline void AppendWord(Bytes& bytes, uint64_t word) {
  Put<uint32_t>(bytes, bytes.size(), static_cast<uint32_t>(word));
}

// What a bzImage unpacks to; `lists` of addresses of the 64-bit one: 0, 2 or 3.
inline Bytes Vmlinux64(unsigned lists = 3) {
  Bytes first(0x1000, 0x11);
  Put<uint64_t>(first, kWideAt, kVirtual64 + kKernelStart + 0x40);
  Put<uint32_t>(first, kInverseAt, 0x7f000000);
  Put<uint32_t>(first, kNarrowAt, static_cast<uint32_t>(kVirtual64 + kKernelStart + 0x48));
  const uint64_t up = kVirtual64;
  Bytes image = Elf64(kKernelStart + kEntryAt, {{kKernelStart, first, 0, up},
                                                {kKernelStart + kSecond, Bytes(16, 0x22), 64, up}});
  // The gap between the segments is no larger in memory than in the file, as a linker makes it.
  Bytes wide(image.begin(), image.end());
  const size_t second = image.size() - 16;
  Bytes gap(kSecond, 0);
  wide.insert(wide.begin() + static_cast<long>(second), gap.begin(), gap.end());
  Put<uint64_t>(wide, sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_offset),
                uint64_t{second + kSecond});
  if (lists == 0) return wide;
  AppendWord(wide, 0);
  AppendWord(wide, kVirtual64 + kKernelStart + kWideAt);
  if (lists == 3) {
    AppendWord(wide, 0);
    AppendWord(wide, kVirtual64 + kKernelStart + kInverseAt);
  }
  AppendWord(wide, 0);
  AppendWord(wide, kVirtual64 + kKernelStart + kNarrowAt);
  return wide;
}

inline Bytes Vmlinux32(bool with_list = true) {
  Bytes code(0x1000, 0x33);
  Put<uint32_t>(code, kNarrowAt, static_cast<uint32_t>(kVirtual32 + kKernelStart + 0x48));
  Bytes image = Elf32(kKernelStart + kEntryAt, {{kKernelStart, code, 0x2000, kVirtual32}});
  if (!with_list) return image;
  AppendWord(image, 0);
  AppendWord(image, kVirtual32 + kKernelStart + kNarrowAt);
  return image;
}

// What stands between payload_offset and payload_offset + payload_length.
inline Bytes Pack(vmm::Packing packing, const Bytes& in) {
  Bytes out(in.size() * 2 + 4096);
  size_t size = 0;
  if (packing == vmm::Packing::kGzip) {
    z_stream stream{};
    deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    stream.next_in = const_cast<uint8_t*>(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(out.size());
    CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    size = stream.total_out;
    deflateEnd(&stream);
  } else if (packing == vmm::Packing::kXz || packing == vmm::Packing::kLzma) {
    lzma_stream stream = LZMA_STREAM_INIT;
    lzma_options_lzma options;
    lzma_lzma_preset(&options, 1);
    lzma_filter filters[] = {
        {LZMA_FILTER_X86, nullptr}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
    const lzma_ret ready = packing == vmm::Packing::kXz
                               ? lzma_stream_encoder(&stream, filters, LZMA_CHECK_CRC32)
                               : lzma_alone_encoder(&stream, &options);
    CHECK(ready == LZMA_OK);
    stream.next_in = in.data();
    stream.avail_in = in.size();
    stream.next_out = out.data();
    stream.avail_out = out.size();
    CHECK(lzma_code(&stream, LZMA_FINISH) == LZMA_STREAM_END);
    size = stream.total_out;
    lzma_end(&stream);
  } else if (packing == vmm::Packing::kZstd) {
    size = ZSTD_compress(out.data(), out.size(), in.data(), in.size(), 3);
  } else {
    constexpr size_t kBlock = 8 << 20;  // of the legacy frame
    out.assign({0x02, 0x21, 0x4c, 0x18});
    for (size_t at = 0; at < in.size(); at += kBlock) {
      const int bytes = static_cast<int>(std::min(kBlock, in.size() - at));
      Bytes block(static_cast<size_t>(LZ4_compressBound(bytes)));
      const int packed = LZ4_compress_default(reinterpret_cast<const char*>(in.data() + at),
                                              reinterpret_cast<char*>(block.data()), bytes,
                                              static_cast<int>(block.size()));
      AppendWord(out, static_cast<uint64_t>(packed));
      out.insert(out.end(), block.begin(), block.begin() + packed);
    }
    size = out.size();
  }
  out.resize(size);
  if (packing != vmm::Packing::kGzip) AppendWord(out, in.size());
  return out;
}

// The bzImage around it. Where the kernel unpacks itself, it has 0x90.
inline Bytes PackedKernel(const Bytes& payload, bool is_64 = true) {
  constexpr uint32_t kOffset = 0x2cc;
  Bytes image = BzImage(kOffset + payload.size() + 64);
  std::copy(payload.begin(), payload.end(), image.begin() + 6 * 512 + kOffset);
  Put<uint32_t>(image, 0x248, kOffset);
  Put<uint32_t>(image, 0x24c, static_cast<uint32_t>(payload.size()));
  Put<uint16_t>(image, 0x236, is_64 ? 3 : 0);
  return image;
}

inline Bytes PackedKernel(vmm::Packing packing, const Bytes& vmlinux, bool is_64 = true) {
  return PackedKernel(Pack(packing, vmlinux), is_64);
}

}  // namespace boot_test
