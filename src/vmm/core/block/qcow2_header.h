// The first cluster of a qcow2 image as plain, checked data.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/core/base/result.h"

namespace vmm {

// [QCOW2] Header.
struct Qcow2Header {
  enum Incompatible : uint64_t {
    kDirty = 1 << 0,
    kCorrupt = 1 << 1,
    kExternalData = 1 << 2,
    kCompressionType = 1 << 3,
    kExtendedL2 = 1 << 4,
  };
  enum Compatible : uint64_t { kLazyRefcounts = 1 << 0 };
  enum Autoclear : uint64_t { kBitmaps = 1 << 0, kRawExternal = 1 << 1 };
  enum class Compression : uint8_t { kZlib = 0, kZstd = 1 };

  // Where fields that are rewritten later stand, bytes.
  static constexpr uint64_t kSizeField = 24, kL1Fields = 36, kRefcountFields = 48,
                            kIncompatibleField = 72, kAutoclearField = 88;
  // QEMU's bounds; a larger table belongs to no image that anybody made in good faith.
  static constexpr uint64_t kMaxL1Bytes = 32 << 20;
  static constexpr uint64_t kMaxRefcountTableBytes = 8 << 20;
  static constexpr unsigned kMaxBackingName = 1023;

  uint32_t version = 3;        // 2 or 3
  unsigned cluster_bits = 16;  // 9 to 21
  uint64_t size = 0;           // bytes of the disk, a multiple of 512
  uint32_t l1_entries = 0;
  uint64_t l1_offset = 0;
  uint64_t refcount_table_offset = 0;
  uint32_t refcount_table_clusters = 0;
  unsigned refcount_order = 4;  // a count has 2^n bits
  uint32_t snapshots = 0;
  uint64_t snapshots_offset = 0;
  uint64_t incompatible = 0, compatible = 0, autoclear = 0;
  Compression compression = Compression::kZlib;
  std::string backing_file;  // as written; empty: none
  std::string backing_format;
  bool has_bitmaps = false;  // an extension that names clusters of its own

  uint64_t cluster_size() const { return uint64_t{1} << cluster_bits; }
  uint64_t l2_entries() const { return cluster_size() / 8; }
  // L1 entries that the disk needs.
  uint64_t needed_l1_entries() const;
  bool is_dirty() const { return (incompatible & kDirty) != 0; }
  bool is_corrupt() const { return (incompatible & kCorrupt) != 0; }

  // Does a file begin as qcow2 images do?
  static bool IsQcow2(std::span<const uint8_t> start);
  // From the start of the file: its first cluster, or less if the file is shorter. Every number is
  // within its bounds afterwards. `name` begins the message. Error: kImageCorrupt for what can't
  // be, kUnavailable for what this program does not know.
  static Result<Qcow2Header> Parse(std::span<const uint8_t> start, uint64_t file_size,
                                   const std::string& name);
  // How much of the file Parse() wants; the start has at least 104 bytes or all there are.
  static uint64_t LengthToParse(std::span<const uint8_t> start);
  // A first cluster.
  std::vector<uint8_t> Serialize() const;
};

}  // namespace vmm
