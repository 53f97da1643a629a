#include "vmm/core/block/qcow2_header.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/core/base/check.h"
#include "vmm/core/block/big_endian.h"

namespace vmm {
namespace {

constexpr uint32_t kMagic = 0x514649FB;  // "QFI\xFB"
constexpr uint32_t kHeader2 = 72;        // bytes of a version 2 header
constexpr uint32_t kHeader3 = 104;       // of the smallest version 3 header
constexpr uint32_t kOurHeader = 112;
constexpr uint32_t kMaxSnapshots = 65536;

// [QCOW2] Header extensions.
enum Extension : uint32_t {
  kEnd = 0,
  kBackingFormat = 0xE2792ACA,
  kFeatureNames = 0x6803F857,
  kBitmapsExtension = 0x23852875,
  kEncryption = 0x0537BE77,
};

tl::unexpected<Error> Corrupt(const std::string& name, const std::string& what) {
  return Fail(ExitCode::kImageCorrupt, fmt::format("{}: {}; fix: restore a backup", name, what));
}

// The name that the image itself gives to a feature that it needs.
std::string FeatureName(std::span<const uint8_t> table, unsigned bit) {
  for (; table.size() >= 48; table = table.subspan(48)) {
    if (table[0] != 0 || table[1] != bit) continue;
    const auto* text = reinterpret_cast<const char*>(table.data()) + 2;
    std::string name(text, strnlen(text, 46));
    for (char& c : name) {
      if (c < ' ' || c > '~') c = '?';
    }
    return fmt::format("'{}' (bit {})", name, bit);
  }
  return fmt::format("bit {}", bit);
}

// Reads the fields that have places; nothing is judged but what decides where they are.
Qcow2Header ReadFields(const uint8_t* bytes) {
  Qcow2Header header;
  header.version = LoadBigEndian<uint32_t>(bytes + 4);
  header.cluster_bits = LoadBigEndian<uint32_t>(bytes + 20);
  header.size = LoadBigEndian<uint64_t>(bytes + Qcow2Header::kSizeField);
  header.l1_entries = LoadBigEndian<uint32_t>(bytes + 36);
  header.l1_offset = LoadBigEndian<uint64_t>(bytes + 40);
  header.refcount_table_offset = LoadBigEndian<uint64_t>(bytes + 48);
  header.refcount_table_clusters = LoadBigEndian<uint32_t>(bytes + 56);
  header.snapshots = LoadBigEndian<uint32_t>(bytes + 60);
  header.snapshots_offset = LoadBigEndian<uint64_t>(bytes + 64);
  return header;
}

Result<void> CheckPlaces(const Qcow2Header& h, uint64_t file_size, const std::string& name) {
  const uint64_t mask = h.cluster_size() - 1;
  if (h.size > INT64_MAX || h.needed_l1_entries() * 8 > Qcow2Header::kMaxL1Bytes) {
    return Corrupt(name, fmt::format("its disk of {} bytes is larger than clusters of {} bytes "
                                     "allow",
                                     h.size, h.cluster_size()));
  }
  if (uint64_t{h.l1_entries} * 8 > Qcow2Header::kMaxL1Bytes) {
    return Corrupt(name, fmt::format("its L1 table has {} entries", h.l1_entries));
  }
  if (h.l1_entries < h.needed_l1_entries()) {
    return Corrupt(name, fmt::format("its L1 table has {} entries and needs {}", h.l1_entries,
                                     h.needed_l1_entries()));
  }
  if (h.l1_entries != 0 &&
      ((h.l1_offset & mask) != 0 || h.l1_offset == 0 || h.l1_offset >= file_size)) {
    return Corrupt(name, fmt::format("its L1 table can't lie at {:#x}", h.l1_offset));
  }
  if (h.refcount_table_clusters == 0 ||
      h.refcount_table_clusters > Qcow2Header::kMaxRefcountTableBytes >> h.cluster_bits) {
    return Corrupt(name,
                   fmt::format("its refcount table has {} clusters", h.refcount_table_clusters));
  }
  if ((h.refcount_table_offset & mask) != 0 || h.refcount_table_offset == 0 ||
      h.refcount_table_offset >= file_size) {
    return Corrupt(name,
                   fmt::format("its refcount table can't lie at {:#x}", h.refcount_table_offset));
  }
  if (h.snapshots > kMaxSnapshots ||
      (h.snapshots != 0 && ((h.snapshots_offset & mask) != 0 || h.snapshots_offset >= file_size))) {
    return Corrupt(name, "its table of snapshots can't be right");
  }
  return {};
}

}  // namespace

uint64_t Qcow2Header::needed_l1_entries() const {
  const unsigned shift = cluster_bits + cluster_bits - 3;
  return (size >> shift) + ((size & ((uint64_t{1} << shift) - 1)) != 0);
}

bool Qcow2Header::IsQcow2(std::span<const uint8_t> start) {
  return start.size() >= 4 && LoadBigEndian<uint32_t>(start.data()) == kMagic;
}

uint64_t Qcow2Header::LengthToParse(std::span<const uint8_t> start) {
  if (start.size() < kHeader2) return start.size();
  const uint32_t bits = LoadBigEndian<uint32_t>(start.data() + 20);
  return uint64_t{1} << std::clamp<uint32_t>(bits, 9, 21);
}

Result<Qcow2Header> Qcow2Header::Parse(std::span<const uint8_t> start, uint64_t file_size,
                                       const std::string& name) {
  if (!IsQcow2(start)) return Corrupt(name, "it is no qcow2 image");
  if (start.size() < kHeader2) return Corrupt(name, "the file ends within its header");
  const uint8_t* bytes = start.data();
  Qcow2Header header = ReadFields(bytes);
  if (header.version != 2 && header.version != 3) {
    return Fail(ExitCode::kUnavailable,
                fmt::format("{}: version {} of qcow2 is not known; fix: convert it by qemu-img",
                            name, header.version));
  }
  if (header.cluster_bits < 9 || header.cluster_bits > 21) {
    return Corrupt(name, fmt::format("its clusters have 2^{} bytes", header.cluster_bits));
  }
  uint32_t length = kHeader2;
  if (header.version == 3) {
    if (start.size() < kHeader3) return Corrupt(name, "the file ends within its header");
    header.incompatible = LoadBigEndian<uint64_t>(bytes + kIncompatibleField);
    header.compatible = LoadBigEndian<uint64_t>(bytes + 80);
    header.autoclear = LoadBigEndian<uint64_t>(bytes + kAutoclearField);
    header.refcount_order = LoadBigEndian<uint32_t>(bytes + 96);
    length = LoadBigEndian<uint32_t>(bytes + 100);
    if (length < kHeader3 || length % 8 != 0 || length > header.cluster_size() ||
        length > start.size()) {
      return Corrupt(name, fmt::format("its header has {} bytes", length));
    }
    if (header.refcount_order > 6) {
      return Corrupt(name, fmt::format("its refcounts have 2^{} bits", header.refcount_order));
    }
    const uint8_t type = length > kHeader3 ? bytes[kHeader3] : 0;
    if ((header.incompatible & kCompressionType) == 0 && type != 0) {
      return Corrupt(name, "its compression type contradicts its features");
    }
    if (type > 1) {
      return Fail(ExitCode::kUnavailable, fmt::format("{}: compression type {} is not known; fix: "
                                                      "convert it by qemu-img",
                                                      name, type));
    }
    header.compression = static_cast<Compression>(type);
  }
  if (const uint32_t method = LoadBigEndian<uint32_t>(bytes + 32); method != 0) {
    return Fail(ExitCode::kUnavailable,
                fmt::format("{}: it is encrypted; fix: decrypt it by qemu-img convert", name));
  }

  const uint64_t backing_offset = LoadBigEndian<uint64_t>(bytes + 8);
  const uint32_t backing_length = LoadBigEndian<uint32_t>(bytes + 16);
  const uint64_t limit = std::min<uint64_t>(header.cluster_size(), start.size());
  if (backing_offset != 0) {
    if (backing_length > kMaxBackingName || backing_offset > limit ||
        backing_length > limit - backing_offset) {
      return Corrupt(name, "the name of its backing file lies outside the header");
    }
    header.backing_file.assign(reinterpret_cast<const char*>(bytes) + backing_offset,
                               backing_length);
    if (header.backing_file.find('\0') != std::string::npos) {
      return Corrupt(name, "the name of its backing file has a zero in it");
    }
  }

  std::span<const uint8_t> feature_names;
  const uint64_t end = backing_offset != 0 ? backing_offset : limit;
  for (uint64_t at = length; at <= end && end - at >= 8;) {
    const uint32_t kind = LoadBigEndian<uint32_t>(bytes + at);
    const uint32_t size = LoadBigEndian<uint32_t>(bytes + at + 4);
    if (kind == kEnd) break;
    at += 8;
    if (size > end - at) return Corrupt(name, "an extension of its header is too long");
    if (kind == kBackingFormat) {
      header.backing_format.assign(reinterpret_cast<const char*>(bytes) + at, size);
    } else if (kind == kFeatureNames) {
      feature_names = start.subspan(at, size);
    } else if (kind == kBitmapsExtension) {
      header.has_bitmaps = true;
    }
    at += (uint64_t{size} + 7) / 8 * 8;
  }

  if (const uint64_t unknown =
          header.incompatible & ~uint64_t{kDirty | kCorrupt | kCompressionType}) {
    const auto bit = static_cast<unsigned>(__builtin_ctzll(unknown));
    const std::string what = bit == 2   ? "keeps its data in a second file"
                             : bit == 4 ? "has extended L2 entries"
                                        : "needs the feature " + FeatureName(feature_names, bit);
    return Fail(ExitCode::kUnavailable,
                fmt::format("{}: it {}, which vmm does not know; fix: convert it by qemu-img "
                            "convert -O qcow2",
                            name, what));
  }
  if (auto places = CheckPlaces(header, file_size, name); !places) {
    return tl::unexpected(places.error());
  }
  header.size = (header.size + 511) / 512 * 512;
  return header;
}

std::vector<uint8_t> Qcow2Header::Serialize() const {
  std::vector<uint8_t> out(cluster_size());
  uint8_t* bytes = out.data();
  const auto put32 = [&](uint64_t at, uint32_t value) { StoreBigEndian(bytes + at, value); };
  const auto put64 = [&](uint64_t at, uint64_t value) { StoreBigEndian(bytes + at, value); };
  put32(0, kMagic);
  put32(4, version);
  put32(20, cluster_bits);
  put64(kSizeField, size);
  put32(36, l1_entries);
  put64(40, l1_offset);
  put64(48, refcount_table_offset);
  put32(56, refcount_table_clusters);
  uint64_t at = kHeader2;
  if (version == 3) {
    put64(kIncompatibleField, incompatible);
    put64(80, compatible);
    put64(kAutoclearField, autoclear);
    put32(96, refcount_order);
    put32(100, kOurHeader);
    out[104] = static_cast<uint8_t>(compression);
    at = kOurHeader;
  }
  if (!backing_format.empty()) {
    put32(at, kBackingFormat);
    put32(at + 4, static_cast<uint32_t>(backing_format.size()));
    std::ranges::copy(backing_format, bytes + at + 8);
    at += 8 + (backing_format.size() + 7) / 8 * 8;
  }
  at += 8;  // the end of the extensions
  if (!backing_file.empty()) {
    CHECK(at + backing_file.size() <= out.size());
    put64(8, at);
    put32(16, static_cast<uint32_t>(backing_file.size()));
    std::ranges::copy(backing_file, bytes + at);
  }
  return out;
}

}  // namespace vmm
