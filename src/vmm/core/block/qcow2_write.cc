// How a qcow2 image changes: writes, discards, zeroes. Nothing here touches the mapping in the
// file; qcow2_flush.cc does.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "vmm/core/base/types.h"
#include "vmm/core/block/big_endian.h"
#include "vmm/core/block/cluster_codec.h"
#include "vmm/core/block/qcow2_image.h"

namespace vmm {

using Kind = Qcow2Image::Mapping::Kind;

int Qcow2Image::CheckWrite(uint64_t offset, uint64_t length) {
  if (!writable_) return EROFS;
  if (!Has(offset, length)) return EINVAL;
  return failed_ ? EIO : 0;
}

// Tables that the file lacks stay in memory; so that they don't fill it, the file gets them early.
int Qcow2Image::MakeRoom() {
  {
    const std::lock_guard lock(mutex_);
    if (dirty_tables_ + counts_.dirty_blocks() < max_tables_ / 2) return 0;
  }
  return Flush();
}

bool Qcow2Image::IsBusy(uint64_t first, uint64_t count) const {
  return std::ranges::any_of(busy_, [&](const Busy& busy) {
    return first < busy.first + busy.count && busy.first < first + count;
  });
}

int Qcow2Image::Write(uint64_t offset, IoBuffers from) {
  const uint64_t length = TotalLength(from);
  if (const int error = CheckWrite(offset, length)) return error;
  for (uint64_t done = 0; done < length;) {
    uint64_t step = 0;
    if (const int error = MakeRoom()) return error;
    const int error = WriteSome(offset + done, Slice(from, done, length - done), &step);
    if (error != 0) return error;
    done += step;
  }
  return 0;
}

int Qcow2Image::WriteSome(uint64_t offset, IoBuffers from, uint64_t* done) {
  const uint64_t length = TotalLength(from);
  const uint64_t cluster = ClusterOf(offset);
  std::unique_lock lock(mutex_);
  no_longer_busy_.wait(lock, [&] { return !IsBusy(cluster, 1); });
  L2Table* table;
  if (const int error = TableForWrite(TableOf(cluster), &table)) return error;
  Mapping mapping;
  uint64_t run = 0;
  if (const int error = MapRun(offset, length, &mapping, &run)) return error;
  if (mapping.kind != Kind::kNormal || !mapping.in_place) {
    return WriteNew(offset, Slice(from, 0, run), mapping, table, lock, done);
  }
  const uint64_t last = ClusterOf((offset & mask()) + run - 1);
  for (uint64_t i = 0; i <= last; ++i) {
    if (IsMetadata(mapping.host + (i << header_.cluster_bits))) {
      return Corrupt(fmt::format("data of the disk lies in a table at {:#x}", mapping.host));
    }
  }
  const unsigned ticket = Pin();
  lock.unlock();
  const int error = file_->Write(mapping.host + (offset & mask()), Slice(from, 0, run));
  Release(ticket);
  *done = run;
  return error;
}

// The clusters under `from` are of one kind, and none may be written where it is.
int Qcow2Image::WriteNew(uint64_t offset, IoBuffers from, const Mapping& mapping, L2Table* table,
                         std::unique_lock<std::mutex>& lock, uint64_t* done) {
  const uint64_t length = TotalLength(from);
  const uint64_t first = ClusterOf(offset);
  uint64_t count = ClusterOf((offset & mask()) + length - 1) + 1;
  while (IsBusy(first, count)) --count;  // the first is not

  // A cluster that reads as zero may have its place already.
  const bool has_place = mapping.kind == Kind::kZero && mapping.in_place;
  uint64_t host = mapping.host;
  bool fresh = false;
  if (has_place) {
    if (IsMetadata(host)) {
      return Corrupt(fmt::format("data of the disk lies in a table at {:#x}", host));
    }
    count = 1;
  } else {
    Qcow2Refcounts::Run run;
    if (const int error = counts_.Allocate(count, &run)) return CountsFailed(error);
    count = run.count;
    fresh = run.fresh;
    host = run.first << header_.cluster_bits;
  }
  const uint64_t head = offset & mask();
  *done = std::min(length, (count << header_.cluster_bits) - head);
  const bool reads_zero =
      mapping.kind == Kind::kZero || (mapping.kind == Kind::kUnallocated && !BackingReaches(first));
  busy_.push_back({first, count});
  lock.unlock();
  int error = FillAndWrite(offset, Slice(from, 0, *done), count, host, fresh && reads_zero);
  lock.lock();
  std::erase_if(busy_, [&](const Busy& busy) { return busy.first == first; });
  no_longer_busy_.notify_all();
  if (error == 0) error = TableForWrite(TableOf(first), &table);
  for (uint64_t i = 0; i < count && error == 0; ++i) {
    const uint32_t entry = EntryOf(first + i);
    Mapping old;
    error = MapOne(table, entry, &old);
    if (error != 0) break;
    if (!has_place) FreeOld(old);
    SetEntry(*table, entry, (host + (i << header_.cluster_bits)) | kCopied);
  }
  if (error != 0 && !has_place && !failed_) {
    for (uint64_t i = 0; i < count; ++i) {
      static_cast<void>(counts_.Add(ClusterOf(host) + i, -1));
    }
  }
  return error;
}

// Writes whole clusters: what `from` does not fill is what the guest reads there.
int Qcow2Image::FillAndWrite(uint64_t offset, IoBuffers from, uint64_t clusters, uint64_t host,
                             bool skip_fill) {
  const uint64_t head = offset & mask();
  const uint64_t length = TotalLength(from);
  const uint64_t tail = (clusters << header_.cluster_bits) - head - length;
  if (skip_fill) return file_->Write(host + head, from);
  std::vector<uint8_t> before(head), after(tail);
  if (head != 0) {
    if (const int error = ReadAt(*this, offset - head, before)) return error;
  }
  const uint64_t end = offset + length;
  if (const uint64_t inside = std::min(tail, header_.size - end); inside != 0) {
    if (const int error = ReadAt(*this, end, std::span(after).first(inside))) return error;
  }
  std::vector<iovec> all;
  if (head != 0) all.push_back({before.data(), before.size()});
  all.insert(all.end(), from.begin(), from.end());
  if (tail != 0) all.push_back({after.data(), after.size()});
  return file_->Write(host, all);
}

int Qcow2Image::Discard(uint64_t offset, uint64_t length) {
  if (const int error = CheckWrite(offset, length)) return error;
  // Only whole clusters; the last one may reach beyond the disk.
  const uint64_t first = (offset + mask()) & ~mask();
  const uint64_t end = offset + length == header_.size ? header_.size : (offset + length) & ~mask();
  return first < end ? Clear(first, end - first, ClearMode::kDiscard) : 0;
}

int Qcow2Image::WriteZeroes(uint64_t offset, uint64_t length, bool unmap) {
  if (const int error = CheckWrite(offset, length)) return error;
  const uint64_t stop = offset + length;
  const uint64_t first = std::min(stop, (offset + mask()) & ~mask());
  const uint64_t end = std::max(first, stop == header_.size ? stop : stop & ~mask());
  if (first > offset) {
    if (const int error = WriteZeroBytes(offset, first - offset)) return error;
  }
  if (end > first) {
    const ClearMode mode = unmap ? ClearMode::kZeroUnmap : ClearMode::kZeroKeep;
    if (const int error = Clear(first, end - first, mode)) return error;
  }
  return stop > end ? WriteZeroBytes(end, stop - end) : 0;
}

int Qcow2Image::Clear(uint64_t offset, uint64_t length, ClearMode mode) {
  const uint64_t end = ClusterOf(offset + length + mask());
  for (uint64_t cluster = ClusterOf(offset); cluster < end;) {
    if (const int error = MakeRoom()) return error;
    // One table, then a breath for others.
    const uint64_t stop = std::min(end, (cluster | (header_.l2_entries() - 1)) + 1);
    std::unique_lock lock(mutex_);
    while (cluster < stop) {
      if (l1_[TableOf(cluster)] == 0 && !BackingReaches(cluster)) {
        cluster = stop;  // nothing is there
        break;
      }
      if (IsBusy(cluster, 1)) {
        no_longer_busy_.wait(lock);
        continue;
      }
      bool must_write = false;
      if (const int error = ClearOne(cluster, mode, &must_write)) return error;
      if (must_write) {
        lock.unlock();
        const uint64_t at = cluster << header_.cluster_bits;
        const uint64_t bytes = std::min(header_.cluster_size(), header_.size - at);
        if (const int error = WriteZeroBytes(at, bytes)) return error;
        lock.lock();
      }
      ++cluster;
    }
  }
  return 0;
}

int Qcow2Image::ClearOne(uint64_t cluster, ClearMode mode, bool* must_write) {
  L2Table* table;
  Mapping old;
  const uint32_t entry = EntryOf(cluster);
  if (const int error = FindTable(TableOf(cluster), &table)) return error;
  if (const int error = MapOne(table, entry, &old)) return error;
  const bool knows_zero = header_.version >= 3;
  const bool is_backed = BackingReaches(cluster);
  const bool keep = mode == ClearMode::kZeroKeep;
  if (old.kind == Kind::kUnallocated && !is_backed) return 0;
  if (old.kind == Kind::kZero && (keep || old.host == 0)) return 0;
  if (!knows_zero && (is_backed || keep)) {
    *must_write = mode != ClearMode::kDiscard;
    return 0;
  }
  if (const int error = TableForWrite(TableOf(cluster), &table)) return error;
  if (keep && old.kind == Kind::kNormal && old.in_place) {
    SetEntry(*table, entry, old.host | kCopied | kReadsZero);
    return 0;
  }
  FreeOld(old);
  SetEntry(*table, entry, is_backed || keep ? kReadsZero : 0);
  return 0;
}

int Qcow2Image::WriteZeroBytes(uint64_t offset, uint64_t length) {
  static const std::vector<uint8_t> zeros(64 * kKiB);
  while (length != 0) {
    const uint64_t step = std::min<uint64_t>(length, zeros.size());
    Extent extent;
    if (const int error = Map(offset, step, &extent)) return error;
    if (extent.holder == Holder::kData) {
      extent.length = std::min(extent.length, step);
      if (const int error = WriteAt(*this, offset, std::span(zeros).first(extent.length))) {
        return error;
      }
    }
    offset += extent.length;
    length -= extent.length;
  }
  return 0;
}

int Qcow2Image::WriteCompressed(uint64_t offset, std::span<const uint8_t> cluster) {
  if (const int error = CheckWrite(offset, std::min(cluster.size(), header_.size - offset))) {
    return error;
  }
  if ((offset & mask()) != 0 || cluster.size() != header_.cluster_size()) return EINVAL;
  std::vector<uint8_t> packed = CompressCluster(header_.compression, cluster);
  if (packed.empty()) {
    return WriteAt(*this, offset,
                   cluster.first(std::min<uint64_t>(cluster.size(), header_.size - offset)));
  }
  if (const int error = MakeRoom()) return error;
  const std::lock_guard lock(mutex_);
  L2Table* table;
  const uint64_t index = ClusterOf(offset);
  if (const int error = TableForWrite(TableOf(index), &table)) return error;

  // Behind the one before, if its cluster has room and may be counted once more.
  uint64_t at = packed_at_;
  uint64_t count = 0;
  const uint64_t left = (header_.cluster_size() - (at & mask())) & mask();
  if (left != 0) {
    if (const int error = counts_.Get(ClusterOf(at), &count)) return CountsFailed(error);
  }
  const bool may_share = left != 0 && count != 0 && count < counts_.max_count();
  if (!may_share || packed.size() > left) {
    Qcow2Refcounts::Run run;
    if (const int error = counts_.Allocate(1, &run)) return CountsFailed(error);
    const bool follows = may_share && run.first == ClusterOf(at) + 1;
    if (!follows) at = run.first << header_.cluster_bits;
    if (follows) {
      if (const int error = counts_.Add(ClusterOf(at), 1)) return CountsFailed(error);
    }
  } else if (const int error = counts_.Add(ClusterOf(at), 1)) {
    return CountsFailed(error);
  }
  packed_at_ = at + packed.size();
  const uint64_t sectors = ((at & 511) + packed.size() - 1) / 512;
  const unsigned bits = 62 - (header_.cluster_bits - 8);
  // Readers take whole sectors.
  packed.resize((sectors + 1) * 512 - (at & 511));
  if (const int error = WriteAt(*file_, at, packed)) return error;
  Mapping old;
  if (const int error = MapOne(table, EntryOf(index), &old)) return error;
  FreeOld(old);
  SetEntry(*table, EntryOf(index), kCompressed | sectors << bits | at);
  return 0;
}

}  // namespace vmm
