// A disk in qcow2 format, versions 2 and 3: two levels of tables map the guest's clusters to the
// file's, a backing image holds what this one does not.
//
// Power loss. The mapping (L1, L2) and the refcounts are changed in memory and reach the file only
// in Flush(), in this order, with a sync of the file between two steps that both have something to
// write:
//   1. refcount blocks, and L2 tables that nothing in the file points to yet
//   2. the refcount table, 3. the header if that table moved
//   4. L2 tables in place, and L1 entries
// Data was written before it was mapped. A cluster that is no longer used is counted down, and may
// be used anew, only after step 4 and after the transfers that may still touch it. So at any
// moment, whatever subset of the writes since the last sync the file has: each cluster that is
// reachable is counted (leaks are possible, lost clusters are not), and what was flushed is there.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/core/block/block_image.h"
#include "vmm/core/block/qcow2_header.h"
#include "vmm/core/block/qcow2_refcounts.h"

namespace vmm {

class Qcow2Image final : public BlockImage {
 public:
  // What an L2 entry says. [QCOW2] Standard and Compressed Cluster Descriptor.
  struct Mapping {
    enum class Kind : uint8_t { kUnallocated, kZero, kNormal, kCompressed };
    Kind kind = Kind::kUnallocated;
    bool in_place = false;       // the cluster is used once, and may be written
    uint64_t host = 0;           // where in the file; 0: nowhere
    uint64_t packed_length = 0;  // of kCompressed, bytes
  };
  static constexpr uint64_t kCopied = uint64_t{1} << 63;
  static constexpr uint64_t kCompressed = uint64_t{1} << 62;
  static constexpr uint64_t kReadsZero = 1;
  static constexpr uint64_t kOffsetMask = 0x00FF'FFFF'FFFF'FE00;
  // False: the entry can't be right.
  static bool Decode(const Qcow2Header& header, uint64_t entry, Mapping* mapping);

  // The header of a qcow2 file.
  static Result<Qcow2Header> ReadHeader(BlockFile& file);
  // `backing`: null if the header names none. For writing, the header must be clean, and neither
  // corrupt nor with snapshots: kImageCorrupt, kUnavailable.
  static Result<std::unique_ptr<Qcow2Image>> Open(std::unique_ptr<BlockFile> file,
                                                  const Qcow2Header& header,
                                                  std::unique_ptr<BlockImage> backing,
                                                  bool writable);
  ~Qcow2Image() override;

  int Read(uint64_t offset, IoBuffers to) override;
  int Write(uint64_t offset, IoBuffers from) override;
  int Flush() override;
  int Discard(uint64_t offset, uint64_t length) override;
  int WriteZeroes(uint64_t offset, uint64_t length, bool unmap) override;
  bool Locate(uint64_t offset, uint64_t length, bool for_write, Place* place) override;
  void Release(unsigned ticket) override { pins_[ticket].fetch_sub(1); }
  void CollectFds(std::vector<int>* fds) const override;
  int Map(uint64_t offset, uint64_t length, Extent* extent) override;
  uint64_t size() const override { return header_.size; }
  bool read_only() const override { return !writable_; }
  const std::string& name() const override { return file_->name(); }
  std::string problem() const override;

  // One whole cluster at the start of one, compressed if that makes it smaller. For images that
  // are made in one go; it frees nothing that was there.
  int WriteCompressed(uint64_t offset, std::span<const uint8_t> cluster);
  // Of a new image: gives every cluster its place, so that writes need no new ones. `full`: and
  // takes the room from the host.
  using Progress = std::function<void(uint64_t done, uint64_t all)>;
  int Preallocate(bool full, const Progress& progress);
  // For nobody but the only user: nothing else may be under way. What was cut off is gone.
  int Resize(uint64_t size);

  const Qcow2Header& header() const { return header_; }
  BlockFile& file() { return *file_; }
  BlockImage* backing() { return backing_.get(); }

 private:
  struct L2Table {
    std::vector<uint8_t> bytes;
    uint32_t dirty_begin = UINT32_MAX, dirty_end = 0;  // entries
    bool fresh = false;                                // nothing in the file points to it yet
    bool writing = false;                              // on its way to the file
    uint64_t used = 0;  // when, to find the one that was used least recently
    bool is_dirty() const { return dirty_begin < dirty_end; }
  };
  struct FlushPlan {
    Qcow2Refcounts::Owed counts;
    std::vector<MetadataWrite> fresh_tables, mapping;
    struct Part {
      uint32_t index, begin, end;
      bool fresh;
    };
    std::vector<Part> parts;
    std::vector<uint32_t> l1;
    std::vector<uint64_t> frees;
    bool empty() const { return counts.empty() && fresh_tables.empty() && mapping.empty(); }
  };
  struct Busy {
    uint64_t first, count;  // clusters of the guest that get a place just now
  };

  Qcow2Image(std::unique_ptr<BlockFile> file, const Qcow2Header& header,
             std::unique_ptr<BlockImage> backing, bool writable);
  Result<void> Load();
  Result<void> CheckForWriting();

  uint64_t mask() const { return header_.cluster_size() - 1; }
  uint64_t ClusterOf(uint64_t offset) const { return offset >> header_.cluster_bits; }
  uint32_t TableOf(uint64_t cluster) const {
    return static_cast<uint32_t>(cluster >> (header_.cluster_bits - 3));
  }
  uint32_t EntryOf(uint64_t cluster) const {
    return static_cast<uint32_t>(cluster & (header_.l2_entries() - 1));
  }
  bool Has(uint64_t offset, uint64_t length) const {
    return offset <= header_.size && length <= header_.size - offset;
  }
  // Does the backing image have anything for the cluster?
  bool BackingReaches(uint64_t cluster) const {
    return backing_ && cluster << header_.cluster_bits < backing_->size();
  }
  bool IsMetadata(uint64_t host) const;
  int Corrupt(const std::string& problem);
  int CountsFailed(int error);
  int CheckWrite(uint64_t offset, uint64_t length);
  int MakeRoom();

  // All below with mutex_ held.
  int FindTable(uint32_t index, L2Table** table);
  int TableForWrite(uint32_t index, L2Table** table);
  L2Table& Insert(uint32_t index, L2Table table);
  int NewTable(uint32_t index, std::vector<uint8_t> bytes, L2Table** table);
  int MapOne(const L2Table* table, uint32_t entry, Mapping* mapping);
  int MapRun(uint64_t offset, uint64_t length, Mapping* mapping, uint64_t* run);
  void SetEntry(L2Table& table, uint32_t entry, uint64_t value);
  void FreeOld(const Mapping& mapping);
  bool IsBusy(uint64_t first, uint64_t count) const;
  unsigned Pin();
  FlushPlan TakePlan();
  void PutBack(const FlushPlan& plan);
  int Retire(const std::vector<uint64_t>& clusters);
  int ReleaseLimbo();

  int ReadRun(const Mapping& mapping, uint64_t offset, IoBuffers to);
  int ReadPacked(const Mapping& mapping, uint64_t within, IoBuffers to);
  int WriteSome(uint64_t offset, IoBuffers from, uint64_t* done);
  int WriteNew(uint64_t offset, IoBuffers from, const Mapping& mapping, L2Table* table,
               std::unique_lock<std::mutex>& lock, uint64_t* done);
  int FillAndWrite(uint64_t offset, IoBuffers from, uint64_t clusters, uint64_t host,
                   bool skip_fill);
  enum class ClearMode : uint8_t { kDiscard, kZeroKeep, kZeroUnmap };
  int Clear(uint64_t offset, uint64_t length, ClearMode mode);
  int ClearOne(uint64_t cluster, ClearMode mode, bool* must_write);
  int WriteZeroBytes(uint64_t offset, uint64_t length);
  int RunPlan(const FlushPlan& plan);
  int WriteAndSync(const std::vector<const std::vector<MetadataWrite>*>& lists);

  const std::unique_ptr<BlockFile> file_;
  Qcow2Header header_;
  const std::unique_ptr<BlockImage> backing_;
  const bool writable_;

  std::mutex flush_mutex_;  // one Flush() at a time; before mutex_
  mutable std::mutex mutex_;
  std::condition_variable no_longer_busy_;
  std::vector<Busy> busy_;
  std::vector<uint64_t> l1_;  // as in the file, native byte order
  std::set<uint32_t> dirty_l1_;
  std::unordered_map<uint32_t, L2Table> tables_;
  const size_t max_tables_;
  uint64_t use_count_ = 0;
  size_t dirty_tables_ = 0;
  Qcow2Refcounts counts_;
  std::vector<uint64_t> metadata_;  // clusters of header, L1 and L2 tables, sorted
  std::string problem_;
  std::atomic<bool> failed_ = false;  // no write is possible any more

  // Clusters that were used until the last flush. They wait in limbo until the transfers that
  // began before are over: those hold a pin of the epoch in which they began.
  std::vector<uint64_t> freed_, limbo_, next_limbo_;
  std::atomic<uint64_t> pins_[2] = {0, 0};
  unsigned epoch_ = 0;

  uint64_t packed_at_ = 0;     // where the next compressed cluster may begin; 0: nowhere yet
  std::mutex unpacked_mutex_;  // a leaf
  uint64_t unpacked_host_ = 0;
  std::vector<uint8_t> unpacked_;  // the compressed cluster that was read last
};

}  // namespace vmm
