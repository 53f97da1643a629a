#include "virtio/virtio_blk.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"

namespace virtio {

using blk::Config;
using blk::Type;
using Kind = vmm::BlockRequest::Kind;

namespace {

constexpr uint64_t Bits(std::initializer_list<blk::Feature> features) {
  uint64_t bits = 0;
  for (const blk::Feature feature : features) bits |= static_cast<uint64_t>(feature);
  return bits;
}

uint64_t FeaturesOf(const VirtioBlk::Options& options) {
  using enum blk::Feature;
  return Bits({MAX_SIZE, SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY, MQ}) |
         (options.read_only ? Bits({RO}) : Bits({DISCARD, WRITE_ZEROES}));
}

constexpr size_t kBatch = 64;  // requests that go to the disk in one call
// What a vCPU hands to the disk itself.
constexpr unsigned kMostAtOnce = 4;
constexpr uint64_t kSmall = 128 * vmm::kKiB;

}  // namespace

VirtioBlk::VirtioBlk(std::string name, vmm::Disk& disk, const Options& options, const Host& host,
                     std::function<void()> ring)
    : VirtioDevice(std::move(name), FeaturesOf(options),
                   std::vector<uint16_t>(options.queues, kQueueSize), host),
      disk_(disk),
      serial_(options.serial),
      read_only_(options.read_only),
      capacity_(disk.image().size() / blk::kSector),
      ring_(std::move(ring)) {
  CHECK(serial_.size() <= blk::kIdSize);
  FillConfig(options.queues);
}

VirtioBlk::~VirtioBlk() {
  CHECK(free_.size() == requests_.size());
}

void VirtioBlk::FillConfig(unsigned queues) {
  const auto put = [this](Config field, unsigned size, uint64_t value) {
    vmm::StoreLittleEndian(std::span(config_).subspan(static_cast<size_t>(field), size), value);
  };
  constexpr uint64_t kPhysicalBlock = 4096;
  put(Config::capacity, 8, capacity_);
  put(Config::size_max, 4, kMaxSegment);
  put(Config::seg_max, 4, kMaxSegments);
  put(Config::blk_size, 4, blk::kSector);
  put(Config::physical_block_exp, 1, 3);
  put(Config::min_io_size, 2, kPhysicalBlock / blk::kSector);
  put(Config::num_queues, 2, queues);
  if (read_only_) return;
  put(Config::max_discard_sectors, 4, kMaxTransfer / blk::kSector);
  put(Config::max_discard_seg, 4, 1);
  put(Config::discard_sector_alignment, 4, kPhysicalBlock / blk::kSector);
  put(Config::max_write_zeroes_sectors, 4, kMaxTransfer / blk::kSector);
  put(Config::max_write_zeroes_seg, 4, 1);
  put(Config::write_zeroes_may_unmap, 1, 1);
}

void VirtioBlk::ReadConfig(uint64_t offset, std::span<uint8_t> data) const {
  for (uint8_t& byte : data) {
    byte = offset < config_.size() ? config_[offset] : 0;
    ++offset;
  }
}

void VirtioBlk::OnDoorbell(unsigned queue) {
  if (const std::unique_lock lock(work_mutex_, std::try_to_lock); lock && !is_paused_) {
    for (unsigned i = 0; i < kMostAtOnce; ++i) {
      Request* request = NewRequest(queue);
      if (!Take(queue, request->chain)) return Free(request);
      if (!Prepare(*request)) continue;
      if (request->block.bytes() > kSmall) {
        PutBack(queue, 1);
        Free(request);
        break;
      }
      disk_.Submit(queue, request->block);
    }
  }
  OnKick(queue);
}

void VirtioBlk::Work() {
  const std::lock_guard lock(work_mutex_);
  if (is_paused_) return;
  for (unsigned queue = 0; queue < queue_count(); ++queue) WorkQueue(queue);
}

void VirtioBlk::Pause() {
  {
    const std::lock_guard lock(work_mutex_);
    is_paused_ = true;
  }
  disk_.Drain();
}

void VirtioBlk::Resume() {
  {
    const std::lock_guard lock(work_mutex_);
    is_paused_ = false;
  }
  KickAll();
}

VirtioBlk::Request* VirtioBlk::NewRequest(unsigned queue) {
  const std::lock_guard lock(pool_mutex_);
  if (free_.empty()) {
    requests_.push_back(std::make_unique<Request>());
    requests_.back()->device = this;
    free_.push_back(requests_.back().get());
  }
  Request* request = free_.back();
  free_.pop_back();
  request->queue = queue;
  return request;
}

void VirtioBlk::Free(Request* request) {
  const std::lock_guard lock(pool_mutex_);
  free_.push_back(request);
}

void VirtioBlk::WorkQueue(unsigned queue) {
  std::array<vmm::BlockRequest*, kBatch> batch;
  size_t count = 0;
  for (;;) {
    Request* request = NewRequest(queue);
    const bool taken = Take(queue, request->chain);
    if (!taken) {
      Free(request);
    } else if (Prepare(*request)) {
      batch[count++] = &request->block;
    }
    if (count == kBatch || (!taken && count != 0)) {
      disk_.Submit(queue, {batch.data(), count});
      count = 0;
    }
    if (!taken) return;
  }
}

bool VirtioBlk::OnDisk(uint64_t sector, uint64_t bytes) const {
  return bytes % blk::kSector == 0 && bytes <= kMaxTransfer && sector <= capacity_ &&
         bytes / blk::kSector <= capacity_ - sector;
}

// 5.2.6. How the driver cuts a request into buffers means nothing. 2.7.4
bool VirtioBlk::Prepare(Request& request) {
  const DescriptorChain& chain = request.chain;
  if (chain.readable.length() < blk::kHeaderSize || chain.writable.length() == 0) {
    const unsigned queue = request.queue;
    Free(&request);
    Reject(queue, "a request has no header or no place for its result");
    return false;
  }
  std::array<uint8_t, blk::kHeaderSize> header;
  chain.readable.Read(0, header);
  const auto type = static_cast<Type>(vmm::LoadLittleEndian(std::span(header).first(4)));
  const uint64_t sector = vmm::LoadLittleEndian(std::span(header).subspan(8, 8));
  request.data_written = 0;
  request.buffers.clear();
  request.block = {};
  request.block.user = &request;
  request.block.done = [](vmm::BlockRequest& block, int error) {
    Request& ended = *static_cast<Request*>(block.user);
    ended.device->Finish(ended, error == 0 ? blk::Result::OK : blk::Result::IOERR);
  };
  switch (type) {
    case Type::IN:
      return PrepareTransfer(request, false, sector);
    case Type::OUT:
      return PrepareTransfer(request, true, sector);
    case Type::FLUSH:
      request.block.kind = Kind::kFlush;
      return true;
    case Type::GET_ID:
      return GiveId(request);
    case Type::DISCARD:
    case Type::WRITE_ZEROES:
      return PrepareRange(request, type);
  }
  return Finish(request, blk::Result::UNSUPP);
}

bool VirtioBlk::PrepareTransfer(Request& request, bool is_write, uint64_t sector) {
  const DescriptorChain& chain = request.chain;
  const uint64_t bytes =
      is_write ? chain.readable.length() - blk::kHeaderSize : chain.writable.length() - 1;
  if (!OnDisk(sector, bytes) || (is_write && read_only_)) {
    return Finish(request, blk::Result::IOERR);
  }
  if (bytes == 0) return Finish(request, blk::Result::OK);
  if (is_write) {
    chain.readable.AppendTo(request.buffers, blk::kHeaderSize, bytes);
  } else {
    chain.writable.AppendTo(request.buffers, 0, bytes);
    request.data_written = bytes;
  }
  request.block.kind = is_write ? Kind::kWrite : Kind::kRead;
  request.block.offset = sector * blk::kSector;
  request.block.buffers = request.buffers;
  return true;
}

// 5.2.6.1, 5.2.6.2
bool VirtioBlk::PrepareRange(Request& request, Type type) {
  const ChainBuffers& in = request.chain.readable;
  if (read_only_ || in.length() != blk::kHeaderSize + blk::kSegmentSize) {
    return Finish(request, blk::Result::IOERR);
  }
  std::array<uint8_t, blk::kSegmentSize> segment;
  in.Read(blk::kHeaderSize, segment);
  const uint64_t sector = vmm::LoadLittleEndian(std::span(segment).first(8));
  const uint64_t bytes = vmm::LoadLittleEndian(std::span(segment).subspan(8, 4)) * blk::kSector;
  const auto flags =
      static_cast<uint32_t>(vmm::LoadLittleEndian(std::span(segment).subspan(12, 4)));
  const bool unmap = (flags & blk::kUnmap) != 0;
  if ((flags & ~blk::kUnmap) != 0 || (type == Type::DISCARD && unmap)) {
    return Finish(request, blk::Result::UNSUPP);
  }
  if (!OnDisk(sector, bytes)) return Finish(request, blk::Result::IOERR);
  if (bytes == 0) return Finish(request, blk::Result::OK);
  request.block.kind = type == Type::DISCARD ? Kind::kDiscard : Kind::kWriteZeroes;
  request.block.offset = sector * blk::kSector;
  request.block.length = bytes;
  request.block.unmap = unmap;
  return true;
}

// 20 bytes, of which the rest is zero if the serial number is shorter.
bool VirtioBlk::GiveId(Request& request) {
  std::array<uint8_t, blk::kIdSize> id{};
  std::ranges::copy(serial_, id.begin());
  const ChainBuffers& out = request.chain.writable;
  const uint64_t bytes = std::min(blk::kIdSize, out.length() - 1);
  out.Write(0, std::span(id).first(bytes), writes());
  request.data_written = bytes;
  return Finish(request, blk::Result::OK);
}

// The result is the last byte that the device may write; `written` counts from the first.
bool VirtioBlk::Finish(Request& request, blk::Result result) {
  const ChainBuffers& out = request.chain.writable;
  const uint64_t last = out.length() - 1;
  if (request.data_written != 0) out.TellWritten(0, request.data_written, writes());
  const auto value = static_cast<uint8_t>(result);
  out.Write(last, {&value, 1}, writes());
  // Of what failed nothing can be promised, and buffers that no data was for are as they were.
  const uint64_t before = result == blk::Result::OK ? request.data_written : 0;
  const uint64_t written = before == last ? last + 1 : before;
  const unsigned queue = request.queue;
  const uint16_t head = request.chain.head;
  Free(&request);
  Return(queue, head, static_cast<uint32_t>(written));
  return false;
}

VirtioBlkState VirtioBlk::SaveDisk() const {
  return {.capacity = capacity_, .read_only = read_only_};
}

vmm::Result<void> VirtioBlk::LoadDisk(const VirtioBlkState& state) const {
  if (state.version != VirtioBlkState::kVersion || state.capacity != capacity_ ||
      state.read_only != read_only_) {
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     fmt::format("{}: the disk had {} sectors{}, now it has {}{}", name(),
                                 state.capacity, state.read_only ? ", read-only" : "", capacity_,
                                 read_only_ ? ", read-only" : ""));
  }
  return {};
}

}  // namespace virtio
