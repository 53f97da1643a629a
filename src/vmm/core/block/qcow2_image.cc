#include "vmm/core/block/qcow2_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "vmm/core/base/log.h"
#include "vmm/core/base/types.h"
#include "vmm/core/block/big_endian.h"
#include "vmm/core/block/cluster_codec.h"

namespace vmm {
namespace {

constexpr uint64_t kTableMemory = 32 * kMiB;
constexpr size_t kMinTables = 16;

}  // namespace

bool Qcow2Image::Decode(const Qcow2Header& header, uint64_t entry, Mapping* mapping) {
  using Kind = Mapping::Kind;
  *mapping = {};
  if ((entry & kCompressed) != 0) {
    const unsigned bits = 62 - (header.cluster_bits - 8);
    const uint64_t sectors = (entry & (kCompressed - 1)) >> bits;
    mapping->kind = Kind::kCompressed;
    mapping->host = entry & ((uint64_t{1} << bits) - 1);
    mapping->packed_length = (sectors + 1) * 512 - (mapping->host & 511);
    return (entry & kCopied) == 0 && mapping->host >= header.cluster_size() &&
           mapping->host < uint64_t{1} << 56;
  }
  mapping->host = entry & kOffsetMask;
  mapping->in_place = (entry & kCopied) != 0 && mapping->host != 0;
  const bool reads_zero = header.version >= 3 && (entry & kReadsZero) != 0;
  mapping->kind = reads_zero           ? Kind::kZero
                  : mapping->host != 0 ? Kind::kNormal
                                       : Kind::kUnallocated;
  const uint64_t reserved = ~(kCopied | kOffsetMask | (header.version >= 3 ? kReadsZero : 0));
  return (entry & reserved) == 0 && (mapping->host & (header.cluster_size() - 1)) == 0;
}

Result<Qcow2Header> Qcow2Image::ReadHeader(BlockFile& file) {
  std::vector<uint8_t> start(std::min<uint64_t>(file.size(), 104));
  int error = ReadAt(file, 0, start);
  if (error == 0 && Qcow2Header::IsQcow2(start)) {
    start.resize(std::min(file.size(), Qcow2Header::LengthToParse(start)));
    error = ReadAt(file, 0, start);
  }
  if (error != 0) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", file.name()), error);
  }
  return Qcow2Header::Parse(start, file.size(), file.name());
}

Qcow2Image::Qcow2Image(std::unique_ptr<BlockFile> file, const Qcow2Header& header,
                       std::unique_ptr<BlockImage> backing, bool writable)
    : file_(std::move(file)),
      header_(header),
      backing_(std::move(backing)),
      writable_(writable),
      max_tables_(std::max<size_t>(kMinTables, kTableMemory >> header.cluster_bits)),
      counts_(*file_, header) {}

Result<std::unique_ptr<Qcow2Image>> Qcow2Image::Open(std::unique_ptr<BlockFile> file,
                                                     const Qcow2Header& header,
                                                     std::unique_ptr<BlockImage> backing,
                                                     bool writable) {
  auto image = std::unique_ptr<Qcow2Image>(
      new Qcow2Image(std::move(file), header, std::move(backing), writable));
  if (auto loaded = image->Load(); !loaded) {
    image->failed_ = true;
    return tl::unexpected(loaded.error());
  }
  return image;
}

Result<void> Qcow2Image::Load() {
  const std::string& name = file_->name();
  std::vector<uint8_t> bytes(uint64_t{header_.l1_entries} * 8);
  if (const int error = ReadAt(*file_, header_.l1_offset, bytes)) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", name), error);
  }
  l1_.resize(header_.l1_entries);
  for (size_t i = 0; i < l1_.size(); ++i) {
    l1_[i] = LoadBigEndian<uint64_t>(&bytes[i * 8]);
    if ((l1_[i] & ~(kCopied | kOffsetMask)) != 0 || (l1_[i] & kOffsetMask & mask()) != 0) {
      return Fail(ExitCode::kImageCorrupt,
                  fmt::format("{}: entry {} of its L1 table is {:#x}, which can't be right; fix: "
                              "restore a backup",
                              name, i, l1_[i]));
    }
  }
  return writable_ ? CheckForWriting() : Result<void>();
}

// The image's own tables must be counted, once each: then no write to a free cluster can hit them.
Result<void> Qcow2Image::CheckForWriting() {
  const std::string& name = file_->name();
  const auto corrupt = [&](const std::string& what) {
    return Fail(ExitCode::kImageCorrupt,
                fmt::format("{}: {}; fix: vmm disk check --repair {}", name, what, name));
  };
  if (header_.is_corrupt()) return corrupt("it is marked as corrupt");
  if (header_.is_dirty()) return corrupt("it was not closed, and its refcounts are out of date");
  if (header_.snapshots != 0) {
    return Fail(ExitCode::kUnavailable,
                fmt::format("{}: it has {} internal snapshots, with which vmm can only read it; "
                            "fix: delete them by qemu-img snapshot -d, or vmm disk convert it",
                            name, header_.snapshots));
  }
  if (const int error = counts_.Load()) {
    return error == EIO ? corrupt(counts_.problem())
                        : FailErrno(ExitCode::kIoError, "can't read " + name, error);
  }
  metadata_.push_back(0);
  const uint64_t l1_clusters = ClusterOf(uint64_t{header_.l1_entries} * 8 + mask());
  for (uint64_t i = 0; i < l1_clusters; ++i) metadata_.push_back(ClusterOf(header_.l1_offset) + i);
  for (const uint64_t entry : l1_) {
    if ((entry & kOffsetMask) != 0) metadata_.push_back(ClusterOf(entry & kOffsetMask));
  }
  std::ranges::sort(metadata_);
  std::vector<uint64_t> all = counts_.OwnClusters();
  all.insert(all.end(), metadata_.begin(), metadata_.end());
  std::ranges::sort(all);
  if (const auto twice = std::ranges::adjacent_find(all); twice != all.end()) {
    return corrupt(fmt::format("two of its tables lie at {:#x}", *twice << header_.cluster_bits));
  }
  for (const uint64_t cluster : all) {
    uint64_t count = 0;
    if (const int error = counts_.Get(cluster, &count)) {
      return FailErrno(ExitCode::kIoError, "can't read " + name, error);
    }
    if (count == 0) {
      return corrupt(
          fmt::format("its table at {:#x} is counted as free", cluster << header_.cluster_bits));
    }
  }
  if (header_.autoclear != 0) {  // of features that we do not keep up to date
    uint8_t none[8] = {};
    int error = WriteAt(*file_, Qcow2Header::kAutoclearField, none);
    if (error == 0) error = file_->Sync();
    if (error != 0) return FailErrno(ExitCode::kIoError, "can't write " + name, error);
    header_.autoclear = 0;
  }
  return {};
}

Qcow2Image::~Qcow2Image() {
  if (!writable_ || failed_) return;
  // The first makes clusters free, the second says so.
  int error = Flush();
  if (error == 0) error = Flush();
  if (error != 0) {
    Log(LogLevel::kError, fmt::format("{}: the last writes failed: {}", name(), strerror(error)));
  }
}

std::string Qcow2Image::problem() const {
  const std::lock_guard lock(mutex_);
  if (problem_.empty() && backing_) return backing_->problem();
  return problem_;
}

void Qcow2Image::CollectFds(std::vector<int>* fds) const {
  if (file_->fd() >= 0) fds->push_back(file_->fd());
  if (backing_) backing_->CollectFds(fds);
}

// With mutex_ held. Reading goes on; writing does not, and the file says why it must not.
int Qcow2Image::Corrupt(const std::string& problem) {
  if (problem_.empty()) {
    problem_ = fmt::format("{}: {}; fix: vmm disk check {}", name(), problem, name());
    Log(LogLevel::kError, problem_);
    if (writable_ && header_.version >= 3) {
      header_.incompatible |= Qcow2Header::kCorrupt;
      uint8_t bytes[8];
      StoreBigEndian(bytes, header_.incompatible);
      static_cast<void>(WriteAt(*file_, Qcow2Header::kIncompatibleField, bytes));
    }
  }
  failed_ = true;
  return EIO;
}

int Qcow2Image::CountsFailed(int error) {
  if (counts_.is_broken()) failed_ = true;
  return error == EIO && counts_.problem()[0] != 0 ? Corrupt(counts_.problem()) : error;
}

bool Qcow2Image::IsMetadata(uint64_t host) const {
  return counts_.Owns(ClusterOf(host)) || std::ranges::binary_search(metadata_, ClusterOf(host));
}

Qcow2Image::L2Table& Qcow2Image::Insert(uint32_t index, L2Table table) {
  if (tables_.size() >= max_tables_) {
    // The older half of those that the file has as well.
    std::vector<uint64_t> ages;
    for (const auto& [_, t] : tables_) {
      if (!t.is_dirty() && !t.writing) ages.push_back(t.used);
    }
    if (!ages.empty()) {
      const auto middle = ages.begin() + static_cast<ptrdiff_t>(ages.size() / 2);
      std::nth_element(ages.begin(), middle, ages.end());
      std::erase_if(tables_, [&](const auto& entry) {
        return !entry.second.is_dirty() && !entry.second.writing && entry.second.used <= *middle;
      });
    }
  }
  table.used = ++use_count_;
  return tables_.insert_or_assign(index, std::move(table)).first->second;
}

int Qcow2Image::FindTable(uint32_t index, L2Table** table) {
  *table = nullptr;
  if (const auto found = tables_.find(index); found != tables_.end()) {
    found->second.used = ++use_count_;
    *table = &found->second;
    return 0;
  }
  const uint64_t offset = l1_[index] & kOffsetMask;
  if (offset == 0) return 0;
  if (offset >= file_->size()) {
    return Corrupt(fmt::format("its L2 table {} lies behind the end of the file", index));
  }
  L2Table loaded{std::vector<uint8_t>(header_.cluster_size())};
  if (const int error = ReadAt(*file_, offset, loaded.bytes)) return error;
  *table = &Insert(index, std::move(loaded));
  return 0;
}

int Qcow2Image::NewTable(uint32_t index, std::vector<uint8_t> bytes, L2Table** table) {
  Qcow2Refcounts::Run run;
  if (const int error = counts_.Allocate(1, &run)) return CountsFailed(error);
  L2Table made{std::move(bytes)};
  made.fresh = true;
  made.dirty_begin = 0;
  made.dirty_end = static_cast<uint32_t>(header_.l2_entries());
  if (const auto old = tables_.find(index); old != tables_.end()) {
    dirty_tables_ -= old->second.is_dirty();
  }
  ++dirty_tables_;
  l1_[index] = run.first << header_.cluster_bits | kCopied;
  dirty_l1_.insert(index);
  metadata_.insert(std::ranges::lower_bound(metadata_, run.first), run.first);
  *table = &Insert(index, std::move(made));
  return 0;
}

int Qcow2Image::TableForWrite(uint32_t index, L2Table** table) {
  if (const int error = FindTable(index, table)) return error;
  if (*table != nullptr && (l1_[index] & kCopied) != 0) return 0;
  if (*table == nullptr) {
    return NewTable(index, std::vector<uint8_t>(header_.cluster_size()), table);
  }
  // Somebody else uses this one as well.
  const uint64_t old = ClusterOf(l1_[index] & kOffsetMask);
  if (const int error = NewTable(index, std::vector((*table)->bytes), table)) return error;
  freed_.push_back(old);
  std::erase(metadata_, old);
  return 0;
}

int Qcow2Image::MapOne(const L2Table* table, uint32_t entry, Mapping* mapping) {
  *mapping = {};
  if (table == nullptr) return 0;
  const uint64_t value = LoadBigEndian<uint64_t>(&table->bytes[uint64_t{entry} * 8]);
  if (Decode(header_, value, mapping)) return 0;
  return Corrupt(fmt::format("an entry of an L2 table is {:#x}, which can't be right", value));
}

int Qcow2Image::MapRun(uint64_t offset, uint64_t length, Mapping* mapping, uint64_t* run) {
  const uint64_t cluster = ClusterOf(offset);
  L2Table* table;
  if (const int error = FindTable(TableOf(cluster), &table)) return error;
  uint32_t entry = EntryOf(cluster);
  if (const int error = MapOne(table, entry, mapping)) return error;
  *run = header_.cluster_size() - (offset & mask());
  while (*run < length && ++entry < header_.l2_entries() &&
         mapping->kind != Mapping::Kind::kCompressed) {
    Mapping next;
    if (const int error = MapOne(table, entry, &next)) return error;
    if (next.kind != mapping->kind || next.in_place != mapping->in_place) break;
    if (mapping->kind == Mapping::Kind::kNormal &&
        next.host != mapping->host + *run + (offset & mask())) {
      break;
    }
    *run += header_.cluster_size();
  }
  *run = std::min(*run, length);
  return 0;
}

void Qcow2Image::SetEntry(L2Table& table, uint32_t entry, uint64_t value) {
  dirty_tables_ += !table.is_dirty();
  StoreBigEndian(&table.bytes[uint64_t{entry} * 8], value);
  table.dirty_begin = std::min(table.dirty_begin, entry);
  table.dirty_end = std::max(table.dirty_end, entry + 1);
}

void Qcow2Image::FreeOld(const Mapping& mapping) {
  if (mapping.host == 0) return;
  if (mapping.kind == Mapping::Kind::kCompressed) {
    const uint64_t last = ClusterOf(mapping.host + mapping.packed_length - 1);
    for (uint64_t c = ClusterOf(mapping.host); c <= last; ++c) freed_.push_back(c);
  } else {
    freed_.push_back(ClusterOf(mapping.host));
  }
}

unsigned Qcow2Image::Pin() {
  pins_[epoch_].fetch_add(1);
  return epoch_;
}

int Qcow2Image::Read(uint64_t offset, IoBuffers to) {
  const uint64_t length = TotalLength(to);
  if (!Has(offset, length)) return EINVAL;
  for (uint64_t done = 0; done < length;) {
    Mapping mapping;
    uint64_t run = 0;
    std::unique_lock lock(mutex_);
    if (const int error = MapRun(offset + done, length - done, &mapping, &run)) return error;
    const unsigned ticket = Pin();
    lock.unlock();
    const int error = ReadRun(mapping, offset + done, Slice(to, done, run));
    Release(ticket);
    if (error != 0) return error;
    done += run;
  }
  return 0;
}

int Qcow2Image::ReadRun(const Mapping& mapping, uint64_t offset, IoBuffers to) {
  const uint64_t length = TotalLength(to);
  switch (mapping.kind) {
    case Mapping::Kind::kNormal:
      return file_->Read(mapping.host + (offset & mask()), to);
    case Mapping::Kind::kCompressed:
      return ReadPacked(mapping, offset & mask(), to);
    case Mapping::Kind::kUnallocated: {
      const uint64_t backed =
          backing_ && offset < backing_->size() ? std::min(length, backing_->size() - offset) : 0;
      if (backed != length) FillZero(Slice(to, backed, length - backed));
      return backed == 0 ? 0 : backing_->Read(offset, Slice(to, 0, backed));
    }
    case Mapping::Kind::kZero:
      FillZero(to);
      return 0;
  }
  return EIO;
}

int Qcow2Image::ReadPacked(const Mapping& mapping, uint64_t within, IoBuffers to) {
  const std::lock_guard lock(unpacked_mutex_);
  if (unpacked_host_ != mapping.host) {
    unpacked_host_ = 0;
    unpacked_.resize(header_.cluster_size());
    std::vector<uint8_t> packed(mapping.packed_length);
    if (const int error = ReadAt(*file_, mapping.host, packed)) return error;
    if (!DecompressCluster(header_.compression, packed, unpacked_)) {
      LogGuest(LogLevel::kError,
               fmt::format("{}: the compressed cluster at {:#x} can't be decompressed", name(),
                           mapping.host));
      return EIO;
    }
    unpacked_host_ = mapping.host;
  }
  CopyInto(to, std::span(unpacked_).subspan(within));
  return 0;
}

bool Qcow2Image::Locate(uint64_t offset, uint64_t length, bool for_write, Place* place) {
  if (file_->fd() < 0 || !Has(offset, length) || length == 0) return false;
  if (for_write && (!writable_ || failed_)) return false;
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return false;
  const uint64_t cluster = ClusterOf(offset);
  // A range of two tables is rare enough for the long way.
  if (!tables_.contains(TableOf(cluster))) {
    if (for_write || l1_[TableOf(cluster)] != 0) return false;
  }
  Mapping mapping;
  uint64_t run = 0;
  if (MapRun(offset, length, &mapping, &run) != 0 || run != length) return false;
  if (mapping.kind == Mapping::Kind::kUnallocated && !for_write && backing_) {
    return backing_->Locate(offset, length, false, place);
  }
  if (mapping.kind != Mapping::Kind::kNormal) return false;
  if (for_write) {
    if (!mapping.in_place) return false;
    const uint64_t last = ClusterOf((offset & mask()) + length - 1);
    for (uint64_t i = 0; i <= last; ++i) {
      if (IsMetadata(mapping.host + (i << header_.cluster_bits))) return false;
    }
    if (mapping.host + (offset & mask()) + length > file_->size()) return false;
  }
  *place = {file_->fd(), mapping.host + (offset & mask()), Pin(), this};
  return true;
}

int Qcow2Image::Map(uint64_t offset, uint64_t length, Extent* extent) {
  if (!Has(offset, length)) return EINVAL;
  Mapping mapping;
  uint64_t run = 0;
  {
    const std::lock_guard lock(mutex_);
    if (const int error = MapRun(offset, length, &mapping, &run)) return error;
  }
  *extent = {Holder::kData, run, 0, mapping.kind == Mapping::Kind::kCompressed};
  if (mapping.kind == Mapping::Kind::kZero) extent->holder = Holder::kZero;
  if (mapping.kind != Mapping::Kind::kUnallocated) return 0;
  if (!backing_ || offset >= backing_->size()) {
    *extent = {Holder::kZero, run, 1, false};
    return 0;
  }
  const int error = backing_->Map(offset, std::min(run, backing_->size() - offset), extent);
  ++extent->depth;
  return error;
}

}  // namespace vmm
