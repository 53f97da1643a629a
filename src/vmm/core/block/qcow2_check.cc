#include "vmm/core/block/qcow2_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "vmm/core/block/big_endian.h"
#include "vmm/core/block/qcow2_image.h"
#include "vmm/core/block/qcow2_refcounts.h"

namespace vmm {
namespace {

constexpr uint64_t kMaxClusters = uint64_t{1} << 27;         // of a file, for 640 MiB of memory
constexpr uint64_t kMaxSnapshotEntries = uint64_t{1} << 26;  // of the L1 tables of all snapshots

class Checker {
 public:
  Checker(BlockFile& file, const Qcow2Header& header, const CheckProgress& progress)
      : file_(file), header_(header), progress_(progress), stored_(file, header) {}

  Result<void> Walk();
  Result<void> CompareCounts();
  Result<void> Repair();
  Qcow2CheckReport& report() { return report_; }

 private:
  struct Table {
    uint32_t users = 0;  // L1 entries of all snapshots, and the disk's
    bool of_disk = false;
    uint64_t first = 0;     // cluster of the guest
    bool copied = false;    // what the disk's L1 entry says
    uint64_t entry_at = 0;  // where it stands
  };

  uint64_t ClusterOf(uint64_t offset) const { return offset >> header_.cluster_bits; }
  Result<void> Failed(int error) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", file_.name()), error);
  }
  void Bad(std::string message) {
    ++report_.corruptions;
    Say(std::move(message));
  }
  void Unmendable(std::string message) {
    ++report_.unmendable;
    Bad(std::move(message));
  }
  void Say(std::string message) {
    if (report_.messages.size() < Qcow2CheckReport::kMaxMessages) {
      report_.messages.push_back(std::move(message));
    }
  }
  void Use(uint64_t cluster, uint32_t times, bool is_table, const char* what);
  Result<void> WalkL1(uint64_t offset, uint64_t entries, bool of_disk);
  Result<void> WalkSnapshots();
  Result<void> WalkL2(uint64_t offset, const Table& table, bool fix);
  Result<void> CheckCopied(uint64_t value, uint64_t host, uint64_t at, const char* what, bool fix);

  BlockFile& file_;
  const Qcow2Header header_;
  const CheckProgress& progress_;
  Qcow2Refcounts stored_;
  Qcow2CheckReport report_;
  std::vector<uint32_t> counts_;
  std::vector<bool> is_table_;
  std::map<uint64_t, Table> tables_;  // L2, by offset
};

void Checker::Use(uint64_t cluster, uint32_t times, bool is_table, const char* what) {
  if (cluster >= counts_.size()) {
    Unmendable(fmt::format("{} at {:#x} lies behind the end of the file", what,
                           cluster << header_.cluster_bits));
    return;
  }
  if (counts_[cluster] != 0 && (is_table || is_table_[cluster])) {
    Unmendable(fmt::format("{} at {:#x} lies where something else does", what,
                           cluster << header_.cluster_bits));
  }
  if (is_table) is_table_[cluster] = true;
  counts_[cluster] += std::min(times, UINT32_MAX - counts_[cluster]);
}

Result<void> Checker::WalkL1(uint64_t offset, uint64_t entries, bool of_disk) {
  std::vector<uint8_t> bytes(entries * 8);
  if (const int error = ReadAt(file_, offset, bytes)) return Failed(error);
  const uint64_t end = ClusterOf(entries * 8 + header_.cluster_size() - 1);
  for (uint64_t i = 0; i < end; ++i) Use(ClusterOf(offset) + i, 1, true, "an L1 table");
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t value = LoadBigEndian<uint64_t>(&bytes[i * 8]);
    const uint64_t at = value & Qcow2Image::kOffsetMask;
    if ((value & ~(Qcow2Image::kCopied | Qcow2Image::kOffsetMask)) != 0 ||
        (at & (header_.cluster_size() - 1)) != 0) {
      Unmendable(fmt::format("entry {} of an L1 table is {:#x}, which can't be right", i, value));
      continue;
    }
    if (at == 0) continue;
    Table& table = tables_[at];
    if (of_disk && table.of_disk) {
      Unmendable(fmt::format("two entries of the L1 table lead to {:#x}", at));
      continue;
    }
    ++table.users;
    if (!of_disk) continue;
    table = {table.users, true, i << (header_.cluster_bits - 3), (value & Qcow2Image::kCopied) != 0,
             offset + i * 8};
  }
  return {};
}

// [QCOW2] Snapshots: 40 bytes, then three things of variable length.
Result<void> Checker::WalkSnapshots() {
  uint64_t at = header_.snapshots_offset, entries = 0;
  for (uint32_t i = 0; i < header_.snapshots; ++i) {
    uint8_t fixed[40];
    if (const int error = ReadAt(file_, at, fixed)) return Failed(error);
    const uint64_t l1 = LoadBigEndian<uint64_t>(fixed);
    const uint32_t count = LoadBigEndian<uint32_t>(fixed + 8);
    entries += count;
    if (entries > kMaxSnapshotEntries || uint64_t{count} * 8 > Qcow2Header::kMaxL1Bytes ||
        (l1 & (header_.cluster_size() - 1)) != 0 || l1 >= file_.size()) {
      Unmendable(fmt::format("the L1 table of snapshot {} can't be right", i));
      return {};
    }
    if (auto walked = WalkL1(l1, count, false); !walked) return walked;
    const uint64_t more = uint64_t{LoadBigEndian<uint16_t>(fixed + 12)} +
                          LoadBigEndian<uint16_t>(fixed + 14) + LoadBigEndian<uint32_t>(fixed + 36);
    at += (40 + more + 7) / 8 * 8;
    if (at > file_.size() + 8) {
      Unmendable("the table of snapshots leads behind the end of the file");
      return {};
    }
  }
  if (header_.snapshots == 0) return {};
  const uint64_t last = ClusterOf(at - 1);
  for (uint64_t c = ClusterOf(header_.snapshots_offset); c <= last && c < counts_.size(); ++c) {
    Use(c, 1, true, "the table of snapshots");
  }
  return {};
}

Result<void> Checker::WalkL2(uint64_t offset, const Table& table, bool fix) {
  if (!fix) {
    Use(ClusterOf(offset), table.users, true, "an L2 table");
    if (offset >= file_.size()) return {};
  }
  std::vector<uint8_t> bytes(header_.cluster_size());
  if (const int error = ReadAt(file_, offset, bytes)) return Failed(error);
  for (uint64_t i = 0; i < header_.l2_entries(); ++i) {
    const uint64_t value = LoadBigEndian<uint64_t>(&bytes[i * 8]);
    Qcow2Image::Mapping mapping;
    if (!Qcow2Image::Decode(header_, value, &mapping)) {
      Unmendable(fmt::format("entry {} of the L2 table at {:#x} is {:#x}, which can't be right", i,
                             offset, value));
      continue;
    }
    const bool is_packed = mapping.kind == Qcow2Image::Mapping::Kind::kCompressed;
    if (table.of_disk && !fix && mapping.kind != Qcow2Image::Mapping::Kind::kUnallocated) {
      report_.allocated += mapping.host != 0;
      report_.compressed += is_packed;
    }
    if (mapping.host == 0) continue;
    if (fix) {
      if (is_packed || !table.of_disk) continue;
      if (auto done = CheckCopied(value, mapping.host, offset + i * 8, "", true); !done) {
        return done;
      }
      continue;
    }
    const uint64_t last = ClusterOf(mapping.host + (is_packed ? mapping.packed_length - 1 : 0));
    for (uint64_t c = ClusterOf(mapping.host); c <= last; ++c) {
      // A compressed cluster's last sector may lie behind the end of the file.
      if (is_packed && c != ClusterOf(mapping.host) && c >= counts_.size()) break;
      Use(c, table.users, false, is_packed ? "a compressed cluster" : "a cluster");
    }
    if (is_packed || !table.of_disk) continue;
    if (auto done = CheckCopied(value, mapping.host, 0, "a cluster", false); !done) return done;
  }
  return {};
}

// The mark says that the cluster is used once. `fix`: by the counts of the walk.
Result<void> Checker::CheckCopied(uint64_t value, uint64_t host, uint64_t at, const char* what,
                                  bool fix) {
  uint64_t count = 0;
  if (!fix) {
    if (const int error = stored_.Get(ClusterOf(host), &count)) return Failed(error);
  } else {
    count = counts_[ClusterOf(host)];
  }
  const bool copied = (value & Qcow2Image::kCopied) != 0;
  if (copied == (count == 1)) return {};
  if (!fix) {
    Bad(fmt::format("{} at {:#x} is {}marked as used once, and is counted {} times", what, host,
                    copied ? "" : "not ", count));
    return {};
  }
  uint8_t bytes[8];
  StoreBigEndian(bytes, value ^ Qcow2Image::kCopied);
  if (const int error = WriteAt(file_, at, bytes)) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't write {}", file_.name()), error);
  }
  return {};
}

Result<void> Checker::Walk() {
  const uint64_t clusters = ClusterOf(file_.size() + header_.cluster_size() - 1);
  if (clusters > kMaxClusters) {
    return Fail(ExitCode::kUnavailable,
                fmt::format("{} has {} clusters, too many to check; fix: copy it by vmm disk "
                            "convert, with larger clusters",
                            file_.name(), clusters));
  }
  counts_.resize(clusters);
  is_table_.resize(clusters);
  report_.clusters = ClusterOf(header_.size + header_.cluster_size() - 1);
  if (const int error = stored_.Load()) {
    if (error != EIO) return Failed(error);
    Bad(stored_.problem());
  }
  Use(0, 1, true, "the header");
  for (const uint64_t cluster : stored_.OwnClusters()) {
    if (cluster >= clusters && cluster != ClusterOf(header_.refcount_table_offset)) {
      Bad(fmt::format("a refcount block at {:#x} lies behind the end of the file",
                      cluster << header_.cluster_bits));
      continue;
    }
    Use(cluster, 1, true, "a refcount table");
  }
  if (auto done = WalkL1(header_.l1_offset, header_.l1_entries, true); !done) return done;
  if (auto done = WalkSnapshots(); !done) return done;
  uint64_t walked = 0;
  for (const auto& [offset, table] : tables_) {
    if (auto done = WalkL2(offset, table, false); !done) return done;
    if (table.of_disk && offset < file_.size()) {
      uint64_t count = 0;
      if (const int error = stored_.Get(ClusterOf(offset), &count)) return Failed(error);
      if (table.copied != (count == 1)) {
        Bad(fmt::format("the L2 table at {:#x} is {}marked as used once, and is counted {} times",
                        offset, table.copied ? "" : "not ", count));
      }
    }
    if (progress_) progress_(++walked, tables_.size());
  }
  return {};
}

Result<void> Checker::CompareCounts() {
  for (uint64_t cluster = 0; cluster < counts_.size(); ++cluster) {
    uint64_t stored = 0;
    if (const int error = stored_.Get(cluster, &stored)) return Failed(error);
    if (counts_[cluster] != 0) report_.end = (cluster + 1) << header_.cluster_bits;
    if (stored == counts_[cluster]) continue;
    const std::string what = fmt::format("the cluster at {:#x} is counted {} times and used {}",
                                         cluster << header_.cluster_bits, stored, counts_[cluster]);
    if (stored < counts_[cluster]) {
      Bad(what);
    } else {
      ++report_.leaks;
      if (report_.leaks <= Qcow2CheckReport::kMaxMessages / 2) Say(what + " (leaked)");
    }
  }
  return {};
}

// New blocks and a new table behind everything else, then the header in one write.
Result<void> Checker::Repair() {
  const auto failed = [&](int error) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't write {}", file_.name()), error);
  };
  for (const uint64_t cluster : stored_.OwnClusters()) {
    if (cluster < counts_.size()) counts_[cluster] = 0;
  }
  const uint64_t size = header_.cluster_size();
  const uint64_t old_end = counts_.size();
  const uint64_t per_block = size * 8 >> header_.refcount_order;
  uint64_t blocks = 0, table = 0, all = old_end;
  while (all != old_end + blocks + table || blocks == 0) {
    all = old_end + blocks + table;
    blocks = (all + per_block - 1) / per_block;
    table = (blocks * 8 + size - 1) / size;
  }
  // The numbers of the last round count too: take what they lead to.
  const uint64_t first = old_end, first_table = first + blocks;
  counts_.resize(blocks * per_block);
  std::fill_n(counts_.begin() + static_cast<ptrdiff_t>(first), blocks + table, 1);
  const uint64_t most = stored_.max_count();
  std::vector<uint8_t> bytes(table * size);
  for (uint64_t i = 0; i < blocks; ++i) StoreBigEndian(&bytes[i * 8], (first + i) * size);
  if (const int error = WriteAt(file_, first_table * size, bytes)) return failed(error);

  Qcow2Header changed = header_;
  changed.refcount_table_offset = first_table * size;
  changed.refcount_table_clusters = static_cast<uint32_t>(table);
  const std::vector<uint8_t> zeros(size);
  for (uint64_t i = 0; i < blocks; ++i) {
    if (const int error = WriteAt(file_, (first + i) * size, zeros)) return failed(error);
  }
  Qcow2Refcounts fresh(file_, changed);
  if (const int error = fresh.Load()) return failed(error);
  for (uint64_t cluster = 0; cluster < counts_.size(); ++cluster) {
    if (counts_[cluster] == 0) continue;
    if (counts_[cluster] > most || counts_[cluster] > INT32_MAX) {
      return Fail(ExitCode::kImageCorrupt,
                  fmt::format("{}: a cluster is used {} times, more than its refcounts can say; "
                              "fix: vmm disk convert it",
                              file_.name(), counts_[cluster]));
    }
    if (const int error = fresh.Add(cluster, static_cast<int>(counts_[cluster]))) {
      return failed(error);
    }
  }
  for (const MetadataWrite& write : fresh.TakeOwed().blocks) {
    if (const int error = WriteAt(file_, write.offset, write.bytes)) return failed(error);
  }
  for (const auto& [offset, one] : tables_) {
    if (auto done = WalkL2(offset, one, true); !done) return done;
    if (!one.of_disk) continue;
    const uint64_t value = offset | (one.copied ? Qcow2Image::kCopied : 0);
    if (auto done = CheckCopied(value, offset, one.entry_at, "", true); !done) return done;
  }
  if (const int error = file_.Sync()) return failed(error);
  // Place and length of the table, snapshots as they are, features: one sector, one write.
  std::vector<uint8_t> fields(header_.version >= 3 ? 32 : 12);
  if (const int error = ReadAt(file_, Qcow2Header::kRefcountFields, fields)) return failed(error);
  StoreBigEndian(&fields[0], changed.refcount_table_offset);
  StoreBigEndian(&fields[8], changed.refcount_table_clusters);
  if (header_.version >= 3) {
    const uint64_t marks = Qcow2Header::kDirty | Qcow2Header::kCorrupt;
    StoreBigEndian(&fields[24], header_.incompatible & ~marks);
  }
  if (const int error = WriteAt(file_, Qcow2Header::kRefcountFields, fields)) return failed(error);
  if (const int error = file_.Sync()) return failed(error);
  return {};
}

}  // namespace

Result<Qcow2CheckReport> CheckQcow2(BlockFile& file, const CheckProgress& progress) {
  auto header = Qcow2Image::ReadHeader(file);
  if (!header) return tl::unexpected(header.error());
  Checker checker(file, *header, progress);
  if (auto done = checker.Walk(); !done) return tl::unexpected(done.error());
  if (auto done = checker.CompareCounts(); !done) return tl::unexpected(done.error());
  return checker.report();
}

Result<void> RepairQcow2(BlockFile& file) {
  auto header = Qcow2Image::ReadHeader(file);
  if (!header) return tl::unexpected(header.error());
  if (header->has_bitmaps && (header->autoclear & Qcow2Header::kBitmaps) != 0) {
    return Fail(ExitCode::kUnavailable,
                fmt::format("{}: it has bitmaps, whose clusters vmm does not know; fix: qemu-img "
                            "check -r all {}",
                            file.name(), file.name()));
  }
  const CheckProgress silent;
  Checker checker(file, *header, silent);
  if (auto done = checker.Walk(); !done) return done;
  if (checker.report().unmendable != 0) {
    return Fail(
        ExitCode::kImageCorrupt,
        fmt::format("{}: {} entries make no sense, the first: {}; fix: restore a backup",
                    file.name(), checker.report().unmendable, checker.report().messages.front()));
  }
  return checker.Repair();
}

}  // namespace vmm
