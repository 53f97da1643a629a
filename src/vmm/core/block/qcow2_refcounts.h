// How often each cluster of a qcow2 image is used, and which are free.
//
// What is in memory may run ahead of the file. The order in which it reaches the file is the
// image's: counts that grew before the mapping that uses them, counts that shrank after the mapping
// that no longer does (qcow2_image.h).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "vmm/core/block/block_file.h"
#include "vmm/core/block/qcow2_header.h"

namespace vmm {

// One write that is owed to the file.
struct MetadataWrite {
  uint64_t offset;
  std::vector<uint8_t> bytes;
};

// Not thread-safe; the image's mutex guards it. Numbers of clusters count from the file's start.
class Qcow2Refcounts {
 public:
  Qcow2Refcounts(BlockFile& file, const Qcow2Header& header);

  // Reads the table. EIO: it makes no sense, problem() tells.
  int Load();

  int Get(uint64_t cluster, uint64_t* count);
  // EIO if the count would leave its range.
  int Add(uint64_t cluster, int change);

  // 1 to `wanted` free clusters in a row, which then have the count 1. `fresh`: nothing was ever
  // written there, they read as zero.
  struct Run {
    uint64_t first;
    uint64_t count;
    bool fresh;
  };
  int Allocate(uint64_t wanted, Run* run);
  // Exactly `count` in a row.
  int AllocateAll(uint64_t count, uint64_t* first);

  // The clusters of the table and its blocks, unsorted, as the table says.
  std::vector<uint64_t> OwnClusters() const;
  // The same, at any time.
  bool Owns(uint64_t cluster) const { return own_.contains(cluster); }

  // What the file lacks, in the order in which it must become durable: blocks, then the table, then
  // the header. After the writes Written(), or PutBack() when one failed.
  struct Owed {
    std::vector<MetadataWrite> blocks, table, header;
    std::vector<uint64_t> block_indices;
    uint64_t table_first = UINT64_MAX, table_last = 0;
    std::vector<uint64_t> free_afterwards;  // clusters of a table that was left
    bool empty() const { return blocks.empty() && table.empty() && header.empty(); }
  };
  Owed TakeOwed();
  void Written(const Owed& owed);
  void PutBack(const Owed& owed);
  size_t dirty_blocks() const { return dirty_blocks_; }

  const char* problem() const { return problem_; }
  // It failed half-way and must not reach the file any more.
  bool is_broken() const { return is_broken_; }
  uint64_t max_count() const { return max_count_; }

 private:
  struct Block {
    std::vector<uint8_t> bytes;
    bool dirty = false;
    bool writing = false;  // on its way to the file: what is there may be old
  };

  uint64_t CountsPerBlock() const { return uint64_t{1} << counts_shift_; }
  int FindBlock(uint64_t index, Block** block);  // null: none in the table
  int NeedBlock(uint64_t index, Block** block);  // makes one
  int GrowTable(uint64_t entries);
  int TakeRun(uint64_t at, uint64_t count, const std::vector<uint64_t>& missing, uint64_t* first);
  int IsFree(uint64_t cluster, bool* is_free);
  uint64_t CountIn(const Block& block, uint64_t at) const;
  void SetCountIn(Block& block, uint64_t at, uint64_t count);
  void MarkDirty(Block& block);
  void MarkTable(uint64_t index);
  void DropClean();
  int Corrupt(const char* problem);

  BlockFile& file_;
  const unsigned cluster_bits_;
  const unsigned order_;
  const unsigned counts_shift_;
  const uint64_t max_count_;
  uint64_t table_offset_;
  std::vector<uint64_t> table_;  // whole clusters of it
  std::set<uint64_t> own_;
  std::map<uint64_t, Block> blocks_;
  size_t dirty_blocks_ = 0;
  uint64_t dirty_first_ = UINT64_MAX, dirty_last_ = 0;  // entries of the table
  bool table_moved_ = false;
  std::vector<uint64_t> left_behind_;
  uint64_t hint_ = 0;    // nothing below is free
  uint64_t virgin_ = 0;  // nothing was ever written from here on
  const char* problem_ = "";
  bool is_broken_ = false;
  bool is_growing_ = false;
};

}  // namespace vmm
