// How the mapping and the refcounts of a qcow2 image reach its file, and how its size changes.
// qcow2_image.h says in which order and why.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmm/core/block/big_endian.h"
#include "vmm/core/block/qcow2_image.h"

namespace vmm {

Qcow2Image::FlushPlan Qcow2Image::TakePlan() {
  FlushPlan plan;
  plan.counts = counts_.TakeOwed();
  for (auto& [index, table] : tables_) {
    if (!table.is_dirty()) continue;
    const uint64_t at = (l1_[index] & kOffsetMask) + uint64_t{table.dirty_begin} * 8;
    const auto begin = table.bytes.begin() + ptrdiff_t{table.dirty_begin} * 8;
    const auto end = table.bytes.begin() + ptrdiff_t{table.dirty_end} * 8;
    (table.fresh ? plan.fresh_tables : plan.mapping).push_back({at, {begin, end}});
    plan.parts.push_back({index, table.dirty_begin, table.dirty_end, table.fresh});
    table.writing = true;
    table.fresh = false;
    table.dirty_begin = UINT32_MAX;
    table.dirty_end = 0;
  }
  dirty_tables_ = 0;
  for (const uint32_t index : dirty_l1_) {
    MetadataWrite write{header_.l1_offset + uint64_t{index} * 8, std::vector<uint8_t>(8)};
    StoreBigEndian(write.bytes.data(), l1_[index]);
    plan.mapping.push_back(std::move(write));
    plan.l1.push_back(index);
  }
  dirty_l1_.clear();
  plan.frees.swap(freed_);
  plan.frees.insert(plan.frees.end(), plan.counts.free_afterwards.begin(),
                    plan.counts.free_afterwards.end());
  return plan;
}

void Qcow2Image::PutBack(const FlushPlan& plan) {
  counts_.PutBack(plan.counts);
  for (const FlushPlan::Part& part : plan.parts) {
    L2Table& table = tables_.at(part.index);
    dirty_tables_ += !table.is_dirty();
    table.writing = false;
    table.fresh |= part.fresh;
    table.dirty_begin = std::min(table.dirty_begin, part.begin);
    table.dirty_end = std::max(table.dirty_end, part.end);
    if (table.fresh) {  // the whole of it was owed, and still is
      table.dirty_begin = 0;
      table.dirty_end = static_cast<uint32_t>(header_.l2_entries());
    }
  }
  dirty_l1_.insert(plan.l1.begin(), plan.l1.end());
  const size_t of_counts = plan.counts.free_afterwards.size();
  freed_.insert(freed_.end(), plan.frees.begin(),
                plan.frees.end() - static_cast<ptrdiff_t>(of_counts));
}

int Qcow2Image::Flush() {
  if (!writable_) return 0;
  const std::lock_guard flushing(flush_mutex_);
  if (failed_) return EIO;
  FlushPlan plan;
  {
    const std::lock_guard lock(mutex_);
    plan = TakePlan();
  }
  const int error = RunPlan(plan);
  const std::lock_guard lock(mutex_);
  if (error != 0) {
    PutBack(plan);
    return error;
  }
  counts_.Written(plan.counts);
  for (const FlushPlan::Part& part : plan.parts) tables_.at(part.index).writing = false;
  return Retire(plan.frees);
}

int Qcow2Image::RunPlan(const FlushPlan& plan) {
  // The first sync also makes the data durable that the mapping is about to show.
  int error = WriteAndSync({&plan.counts.blocks, &plan.fresh_tables});
  if (error == 0 && !plan.counts.table.empty()) error = WriteAndSync({&plan.counts.table});
  if (error == 0 && !plan.counts.header.empty()) error = WriteAndSync({&plan.counts.header});
  if (error == 0 && !plan.mapping.empty()) error = WriteAndSync({&plan.mapping});
  return error;
}

int Qcow2Image::WriteAndSync(const std::vector<const std::vector<MetadataWrite>*>& lists) {
  for (const auto* list : lists) {
    for (const MetadataWrite& write : *list) {
      if (const int error = WriteAt(*file_, write.offset, write.bytes)) return error;
    }
  }
  const int error = file_->Sync();
  // After a failed sync nobody knows what the file has, and the next one may call it a success.
  if (error != 0) failed_ = true;
  return error;
}

// The file no longer uses these clusters.
int Qcow2Image::Retire(const std::vector<uint64_t>& clusters) {
  next_limbo_.insert(next_limbo_.end(), clusters.begin(), clusters.end());
  if (const int error = ReleaseLimbo()) return error;
  if (limbo_.empty() && !next_limbo_.empty()) {
    limbo_.swap(next_limbo_);
    epoch_ ^= 1;
    return ReleaseLimbo();
  }
  return 0;
}

int Qcow2Image::ReleaseLimbo() {
  if (limbo_.empty() || pins_[epoch_ ^ 1] != 0) return 0;
  std::ranges::sort(limbo_);
  for (size_t i = 0; i < limbo_.size();) {
    // Those whose last user is gone, in one piece.
    size_t end = i;
    for (; end < limbo_.size() && limbo_[end] == limbo_[i] + (end - i); ++end) {
      uint64_t count = 0;
      if (const int error = counts_.Get(limbo_[end], &count)) return CountsFailed(error);
      const bool is_last =
          count == 1 && (end + 1 == limbo_.size() || limbo_[end + 1] != limbo_[end]);
      if (!is_last) break;
    }
    if (end > i) {
      static_cast<void>(
          file_->Zero(limbo_[i] << header_.cluster_bits, (end - i) << header_.cluster_bits, true));
    }
    const size_t stop = std::max(end, i + 1);
    for (; i < stop; ++i) {
      if (const int error = counts_.Add(limbo_[i], -1)) return CountsFailed(error);
    }
  }
  limbo_.clear();
  const std::lock_guard lock(unpacked_mutex_);
  unpacked_host_ = 0;  // another may take its place
  return 0;
}

int Qcow2Image::Preallocate(bool full, const Progress& progress) {
  const uint64_t clusters = ClusterOf(header_.size + mask());
  for (uint64_t cluster = 0; cluster < clusters;) {
    if (const int error = MakeRoom()) return error;
    uint64_t host = 0, count = 0;
    {
      const std::lock_guard lock(mutex_);
      L2Table* table;
      if (const int error = TableForWrite(TableOf(cluster), &table)) return error;
      const uint64_t stop = std::min(clusters, (cluster | (header_.l2_entries() - 1)) + 1);
      Qcow2Refcounts::Run run;
      if (const int error = counts_.Allocate(stop - cluster, &run)) return CountsFailed(error);
      if (!run.fresh) return EEXIST;  // it is no new image
      for (uint64_t i = 0; i < run.count; ++i) {
        SetEntry(*table, EntryOf(cluster + i), (run.first + i) << header_.cluster_bits | kCopied);
      }
      host = run.first;
      count = run.count;
    }
    const uint64_t end = (host + count) << header_.cluster_bits;
    const int error =
        full ? file_->Reserve(host << header_.cluster_bits, count << header_.cluster_bits)
        : file_->size() < end ? file_->Resize(end)
                              : 0;
    if (error != 0) return error;
    cluster += count;
    progress(cluster, clusters);
  }
  return Flush();
}

int Qcow2Image::Resize(uint64_t size) {
  if (size % 512 != 0) return EINVAL;
  if (size < header_.size) {
    const uint64_t first = (size + mask()) & ~mask();
    if (const int error = WriteZeroes(size, std::min(first, header_.size) - size, false)) {
      return error;
    }
    if (first < header_.size) {
      if (const int error = Clear(first, header_.size - first, ClearMode::kDiscard)) return error;
    }
  }
  if (const int error = Flush()) return error;
  Qcow2Header changed = header_;
  changed.size = size;
  const uint64_t needed = changed.needed_l1_entries();
  if (size > INT64_MAX || needed * 8 > Qcow2Header::kMaxL1Bytes) return EFBIG;
  std::vector<uint64_t> left;
  if (needed > header_.l1_entries) {
    const uint64_t clusters = ClusterOf(needed * 8 + mask());
    const uint64_t old_clusters = ClusterOf(uint64_t{header_.l1_entries} * 8 + mask());
    for (uint64_t i = 0; i < old_clusters; ++i) {
      left.push_back(ClusterOf(header_.l1_offset) + i);
    }
    uint64_t first = 0;
    {
      const std::lock_guard lock(mutex_);
      if (const int error = counts_.AllocateAll(clusters, &first)) return CountsFailed(error);
      for (uint64_t i = 0; i < clusters; ++i) metadata_.push_back(first + i);
      std::erase_if(metadata_, [&](uint64_t c) { return std::ranges::count(left, c) != 0; });
      std::ranges::sort(metadata_);
      l1_.resize(needed);
    }
    std::vector<uint8_t> bytes(clusters << header_.cluster_bits);
    for (size_t i = 0; i < l1_.size(); ++i) StoreBigEndian(&bytes[i * 8], l1_[i]);
    changed.l1_entries = static_cast<uint32_t>(needed);
    changed.l1_offset = first << header_.cluster_bits;
    if (const int error = WriteAt(*file_, changed.l1_offset, bytes)) return error;
    if (const int error = Flush()) return error;  // its clusters are counted, and it is durable
  }
  // Size, L1 table and its length stand in one sector: one write, old or new.
  uint8_t fields[24];
  StoreBigEndian(fields, changed.size);
  StoreBigEndian(fields + 8, uint32_t{0});
  StoreBigEndian(fields + 12, changed.l1_entries);
  StoreBigEndian(fields + 16, changed.l1_offset);
  if (const int error = WriteAt(*file_, Qcow2Header::kSizeField, fields)) return error;
  const uint64_t before = std::exchange(header_, changed).size;
  if (const int error = file_->Sync()) {
    failed_ = true;
    return error;
  }
  {
    const std::lock_guard lock(mutex_);
    if (const int error = Retire(left)) return error;
  }
  // What the backing image has there was never part of this disk.
  if (!backing_ || backing_->size() <= before || size <= before) return 0;
  if (const int error = WriteZeroes(before, std::min(size, backing_->size()) - before, true)) {
    return error;
  }
  return Flush();
}

}  // namespace vmm
