#include "vmm/core/block/cluster_codec.h"

#include <zlib.h>
#include <zstd.h>

namespace vmm {
namespace {

// [QCOW2] Compressed Clusters Descriptor: a window of 4 KiB, without zlib's header.
constexpr int kWindowBits = -12;

bool Inflate(std::span<const uint8_t> packed, std::span<uint8_t> cluster) {
  z_stream stream = {};
  if (inflateInit2(&stream, kWindowBits) != Z_OK) return false;
  stream.next_in = const_cast<uint8_t*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = cluster.data();
  stream.avail_out = static_cast<uInt>(cluster.size());
  inflate(&stream, Z_FINISH);
  const bool is_full = stream.avail_out == 0;
  inflateEnd(&stream);
  return is_full;
}

bool UnpackZstd(std::span<const uint8_t> packed, std::span<uint8_t> cluster) {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  if (context == nullptr) return false;
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  ZSTD_outBuffer out{cluster.data(), cluster.size(), 0};
  while (out.pos < out.size) {
    const size_t in_before = in.pos, out_before = out.pos;
    if (ZSTD_isError(ZSTD_decompressStream(context, &out, &in))) break;
    if (in.pos == in_before && out.pos == out_before) break;
  }
  ZSTD_freeDCtx(context);
  return out.pos == out.size;
}

std::vector<uint8_t> Deflate(std::span<const uint8_t> cluster) {
  std::vector<uint8_t> packed(cluster.size());
  z_stream stream = {};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWindowBits, 9,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    return {};
  }
  stream.next_in = const_cast<uint8_t*>(cluster.data());
  stream.avail_in = static_cast<uInt>(cluster.size());
  stream.next_out = packed.data();
  stream.avail_out = static_cast<uInt>(packed.size() - 1);
  const bool fits = deflate(&stream, Z_FINISH) == Z_STREAM_END;
  packed.resize(fits ? stream.total_out : 0);
  deflateEnd(&stream);
  return packed;
}

}  // namespace

bool DecompressCluster(Qcow2Header::Compression compression, std::span<const uint8_t> packed,
                       std::span<uint8_t> cluster) {
  return compression == Qcow2Header::Compression::kZlib ? Inflate(packed, cluster)
                                                        : UnpackZstd(packed, cluster);
}

std::vector<uint8_t> CompressCluster(Qcow2Header::Compression compression,
                                     std::span<const uint8_t> cluster) {
  if (compression == Qcow2Header::Compression::kZlib) return Deflate(cluster);
  std::vector<uint8_t> packed(cluster.size() - 1);
  const size_t size =
      ZSTD_compress(packed.data(), packed.size(), cluster.data(), cluster.size(), 3);
  packed.resize(ZSTD_isError(size) ? 0 : size);
  return packed;
}

}  // namespace vmm
