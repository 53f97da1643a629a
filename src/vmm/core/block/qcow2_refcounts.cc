#include "vmm/core/block/qcow2_refcounts.h"

#include <algorithm>
#include <cerrno>

#include "vmm/core/block/big_endian.h"

namespace vmm {
namespace {

constexpr size_t kMaxCleanBlocks = 64;
constexpr uint64_t kMaxOffset = uint64_t{1} << 56;

}  // namespace

Qcow2Refcounts::Qcow2Refcounts(BlockFile& file, const Qcow2Header& header)
    : file_(file),
      cluster_bits_(header.cluster_bits),
      order_(header.refcount_order),
      counts_shift_(header.cluster_bits + 3 - header.refcount_order),
      max_count_(order_ == 6 ? UINT64_MAX : (uint64_t{1} << (1U << order_)) - 1),
      table_offset_(header.refcount_table_offset),
      table_((uint64_t{header.refcount_table_clusters} << header.cluster_bits) / 8),
      virgin_((file.size() + header.cluster_size() - 1) >> header.cluster_bits) {}

int Qcow2Refcounts::Corrupt(const char* problem) {
  problem_ = problem;
  return EIO;
}

int Qcow2Refcounts::Load() {
  std::vector<uint8_t> bytes(table_.size() * 8);
  if (const int error = ReadAt(file_, table_offset_, bytes)) return error;
  for (size_t i = 0; i < table_.size(); ++i) {
    table_[i] = LoadBigEndian<uint64_t>(&bytes[i * 8]) & ~uint64_t{511};
    if ((table_[i] & ((uint64_t{1} << cluster_bits_) - 1)) != 0 || table_[i] >= kMaxOffset) {
      return Corrupt("an entry of its refcount table makes no sense");
    }
  }
  for (const uint64_t cluster : OwnClusters()) own_.insert(cluster);
  return 0;
}

uint64_t Qcow2Refcounts::CountIn(const Block& block, uint64_t at) const {
  const uint8_t* bytes = block.bytes.data();
  switch (order_) {
    case 3:
      return bytes[at];
    case 4:
      return LoadBigEndian<uint16_t>(bytes + at * 2);
    case 5:
      return LoadBigEndian<uint32_t>(bytes + at * 4);
    case 6:
      return LoadBigEndian<uint64_t>(bytes + at * 8);
    default: {  // several in a byte, the lowest bits first
      const unsigned bits = 1U << order_;
      const uint64_t bit = at * bits;
      return (bytes[bit / 8] >> (bit % 8)) & ((1U << bits) - 1);
    }
  }
}

void Qcow2Refcounts::SetCountIn(Block& block, uint64_t at, uint64_t count) {
  uint8_t* bytes = block.bytes.data();
  switch (order_) {
    case 3:
      bytes[at] = static_cast<uint8_t>(count);
      break;
    case 4:
      StoreBigEndian(bytes + at * 2, static_cast<uint16_t>(count));
      break;
    case 5:
      StoreBigEndian(bytes + at * 4, static_cast<uint32_t>(count));
      break;
    case 6:
      StoreBigEndian(bytes + at * 8, count);
      break;
    default: {
      const unsigned bits = 1U << order_;
      const uint64_t bit = at * bits;
      const unsigned mask = ((1U << bits) - 1) << (bit % 8);
      bytes[bit / 8] = static_cast<uint8_t>((bytes[bit / 8] & ~mask) | (count << (bit % 8)));
    }
  }
  MarkDirty(block);
}

void Qcow2Refcounts::MarkDirty(Block& block) {
  dirty_blocks_ += !block.dirty;
  block.dirty = true;
}

void Qcow2Refcounts::MarkTable(uint64_t index) {
  dirty_first_ = std::min(dirty_first_, index);
  dirty_last_ = std::max(dirty_last_, index);
}

// Called before a block is looked up, so that the last one that was given stays until the next.
void Qcow2Refcounts::DropClean() {
  if (blocks_.size() - dirty_blocks_ <= kMaxCleanBlocks) return;
  std::erase_if(blocks_,
                [](const auto& entry) { return !entry.second.dirty && !entry.second.writing; });
}

int Qcow2Refcounts::FindBlock(uint64_t index, Block** block) {
  *block = nullptr;
  if (const auto found = blocks_.find(index); found != blocks_.end()) {
    *block = &found->second;
    return 0;
  }
  if (index >= table_.size() || table_[index] == 0) return 0;
  DropClean();
  Block loaded{std::vector<uint8_t>(uint64_t{1} << cluster_bits_)};
  if (const int error = ReadAt(file_, table_[index], loaded.bytes)) return error;
  *block = &blocks_.emplace(index, std::move(loaded)).first->second;
  return 0;
}

int Qcow2Refcounts::NeedBlock(uint64_t index, Block** block) {
  if (const int error = FindBlock(index, block); error != 0 || *block != nullptr) return error;
  // A range without a block is free as a whole: the new block lies in the range it counts.
  const uint64_t cluster = index << counts_shift_;
  if (cluster == 0) return Corrupt("nothing counts its first cluster");
  if (cluster >= kMaxOffset >> cluster_bits_) return EFBIG;
  if (is_broken_) return EIO;
  if (index >= table_.size()) {
    if (const int error = GrowTable(index + 1)) return error;
    // The new table may have made it already.
    if (const int error = FindBlock(index, block); error != 0 || *block != nullptr) return error;
  }
  DropClean();
  Block made{std::vector<uint8_t>(uint64_t{1} << cluster_bits_)};
  *block = &blocks_.emplace(index, std::move(made)).first->second;
  SetCountIn(**block, 0, 1);
  table_[index] = cluster << cluster_bits_;
  own_.insert(cluster);
  MarkTable(index);
  virgin_ = std::max(virgin_, cluster + 1);
  return 0;
}

// The new table lies behind everything else, and is written as a whole.
int Qcow2Refcounts::GrowTable(uint64_t entries) {
  const uint64_t per_cluster = (uint64_t{1} << cluster_bits_) / 8;
  const uint64_t old_clusters = table_.size() / per_cluster;
  // Room for what the table itself makes necessary.
  if (is_growing_) return EFBIG;
  entries += 2 + (table_.size() + entries) * 8 / (uint64_t{1} << cluster_bits_);
  const uint64_t clusters =
      std::max((entries + per_cluster - 1) / per_cluster, old_clusters + (old_clusters + 1) / 2);
  if (clusters << cluster_bits_ > Qcow2Header::kMaxRefcountTableBytes) return EFBIG;
  const uint64_t old_first = table_offset_ >> cluster_bits_;
  table_.resize(clusters * per_cluster);
  uint64_t first = 0;
  is_growing_ = true;
  const int error = AllocateAll(clusters, &first);
  is_growing_ = false;
  if (error != 0) {
    is_broken_ = true;
    problem_ = "its refcount table could not grow";
    return error;
  }
  for (uint64_t i = 0; i < old_clusters; ++i) {
    left_behind_.push_back(old_first + i);
    own_.erase(old_first + i);
  }
  for (uint64_t i = 0; i < clusters; ++i) own_.insert(first + i);
  table_offset_ = first << cluster_bits_;
  table_moved_ = true;
  return 0;
}

int Qcow2Refcounts::Get(uint64_t cluster, uint64_t* count) {
  Block* block;
  if (const int error = FindBlock(cluster >> counts_shift_, &block)) return error;
  *count = block == nullptr ? 0 : CountIn(*block, cluster & (CountsPerBlock() - 1));
  return 0;
}

int Qcow2Refcounts::Add(uint64_t cluster, int change) {
  Block* block;
  if (const int error = NeedBlock(cluster >> counts_shift_, &block)) return error;
  const uint64_t at = cluster & (CountsPerBlock() - 1);
  const uint64_t count = CountIn(*block, at);
  if (change < 0 ? count < static_cast<uint64_t>(-change)
                 : count > max_count_ - static_cast<uint64_t>(change)) {
    return Corrupt(change < 0 ? "a cluster in use is counted as free" : "a refcount is too high");
  }
  SetCountIn(*block, at, count + static_cast<uint64_t>(static_cast<int64_t>(change)));
  if (count + static_cast<uint64_t>(static_cast<int64_t>(change)) == 0) {
    hint_ = std::min(hint_, cluster);
  }
  return 0;
}

int Qcow2Refcounts::IsFree(uint64_t cluster, bool* is_free) {
  Block* block;
  if (const int error = NeedBlock(cluster >> counts_shift_, &block)) return error;
  *is_free = CountIn(*block, cluster & (CountsPerBlock() - 1)) == 0;
  return 0;
}

int Qcow2Refcounts::Allocate(uint64_t wanted, Run* run) {
  bool is_free = false;
  for (;; ++hint_) {
    if (const int error = IsFree(hint_, &is_free)) return error;
    if (is_free) break;
  }
  const uint64_t first = hint_;
  const bool fresh = first >= virgin_;
  uint64_t count = 0;
  for (; is_free && count < wanted && (first + count >= virgin_) == fresh;) {
    if (const int error = Add(first + count, 1)) return error;
    if (++count == wanted) break;
    if (const int error = IsFree(first + count, &is_free)) return error;
  }
  hint_ = first + count;
  virgin_ = std::max(virgin_, first + count);
  *run = {first, count, fresh};
  return 0;
}

// Behind everything else. The blocks that the run lacks follow it: in their own ranges they would
// cut it into pieces.
int Qcow2Refcounts::AllocateAll(uint64_t count, uint64_t* first) {
  const auto index_of = [&](uint64_t cluster) { return cluster >> counts_shift_; };
  uint64_t at = virgin_;
  std::vector<uint64_t> missing;
  for (uint64_t all = count; at + all < kMaxOffset >> cluster_bits_;) {
    if (index_of(at + all - 1) >= table_.size()) {
      if (const int error = GrowTable(index_of(at + all - 1) + 1)) return error;
      at = virgin_;
      all = count;
      continue;
    }
    missing.clear();
    for (uint64_t i = index_of(at); i <= index_of(at + all - 1); ++i) {
      if (table_[i] == 0) missing.push_back(i);
    }
    if (all != count + missing.size()) {
      all = count + missing.size();
      continue;
    }
    uint64_t used = 0;
    for (uint64_t c = at; c < at + all; ++c) {
      uint64_t counted = 0;
      if (const int error = Get(c, &counted)) return error;
      if (counted != 0) used = c + 1;
    }
    if (used == 0) {
      return TakeRun(at, count, missing, first);
    }
    at = used;  // something that the file does not even hold
    all = count;
  }
  return EFBIG;
}

int Qcow2Refcounts::TakeRun(uint64_t at, uint64_t count, const std::vector<uint64_t>& missing,
                            uint64_t* first) {
  for (size_t i = 0; i < missing.size(); ++i) {
    Block made{std::vector<uint8_t>(uint64_t{1} << cluster_bits_)};
    MarkDirty(blocks_.emplace(missing[i], std::move(made)).first->second);
    table_[missing[i]] = (at + count + i) << cluster_bits_;
    own_.insert(at + count + i);
    MarkTable(missing[i]);
  }
  const uint64_t end = at + count + missing.size();
  for (uint64_t c = at; c < end; ++c) {
    if (const int error = Add(c, 1)) return error;
  }
  virgin_ = end;
  *first = at;
  return 0;
}

std::vector<uint64_t> Qcow2Refcounts::OwnClusters() const {
  std::vector<uint64_t> clusters;
  const uint64_t own = table_.size() * 8 >> cluster_bits_;
  for (uint64_t i = 0; i < own; ++i) clusters.push_back((table_offset_ >> cluster_bits_) + i);
  for (const uint64_t offset : table_) {
    if (offset != 0) clusters.push_back(offset >> cluster_bits_);
  }
  return clusters;
}

Qcow2Refcounts::Owed Qcow2Refcounts::TakeOwed() {
  Owed owed;
  for (auto& [index, block] : blocks_) {
    if (!block.dirty) continue;
    owed.blocks.push_back({table_[index], block.bytes});
    owed.block_indices.push_back(index);
    block.dirty = false;
    block.writing = true;
  }
  dirty_blocks_ = 0;
  if (table_moved_) dirty_first_ = 0, dirty_last_ = table_.size() - 1;
  if (dirty_first_ <= dirty_last_) {
    owed.table_first = dirty_first_;
    owed.table_last = dirty_last_;
    MetadataWrite write{table_offset_ + dirty_first_ * 8, {}};
    write.bytes.resize((dirty_last_ - dirty_first_ + 1) * 8);
    for (uint64_t i = dirty_first_; i <= dirty_last_; ++i) {
      StoreBigEndian(&write.bytes[(i - dirty_first_) * 8], table_[i]);
    }
    owed.table.push_back(std::move(write));
  }
  if (table_moved_) {
    MetadataWrite write{Qcow2Header::kRefcountFields, std::vector<uint8_t>(12)};
    StoreBigEndian(&write.bytes[0], table_offset_);
    StoreBigEndian(&write.bytes[8], static_cast<uint32_t>(table_.size() * 8 >> cluster_bits_));
    owed.header.push_back(std::move(write));
    owed.free_afterwards = std::move(left_behind_);
    left_behind_.clear();
  }
  table_moved_ = false;
  dirty_first_ = UINT64_MAX;
  dirty_last_ = 0;
  return owed;
}

void Qcow2Refcounts::Written(const Owed& owed) {
  for (const uint64_t index : owed.block_indices) blocks_.at(index).writing = false;
}

void Qcow2Refcounts::PutBack(const Owed& owed) {
  Written(owed);
  for (const uint64_t index : owed.block_indices) MarkDirty(blocks_.at(index));
  if (!owed.table.empty()) MarkTable(owed.table_first), MarkTable(owed.table_last);
  if (!owed.header.empty()) table_moved_ = true;
  left_behind_.insert(left_behind_.end(), owed.free_afterwards.begin(), owed.free_afterwards.end());
}

}  // namespace vmm
