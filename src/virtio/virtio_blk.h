// The block device. [VIRTIO 1.2] 5.2
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "virtio/virtio_blk_regs.h"
#include "virtio/virtio_device.h"
#include "vmm/core/block/disk.h"

namespace virtio {

struct VirtioBlkState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  uint64_t capacity = 0;  // sectors
  bool read_only = false;
  friend bool operator==(const VirtioBlkState&, const VirtioBlkState&) = default;
};

// Requests are taken from the queues by Work(), which the machine calls on a thread of its own
// after each ring(), and end on a thread of the disk. No vCPU waits for either; but few small ones
// it hands to the disk itself, which ends those at once that the host's page cache can answer: two
// switches of threads take longer.
//
// Locks: work_mutex_ before all others of the device; pool_mutex_ is a leaf.
class VirtioBlk final : public VirtioDevice {
 public:
  static constexpr uint16_t kQueueSize = 256;
  static constexpr uint32_t kMaxSegments = kQueueSize - 2;
  static constexpr uint32_t kMaxSegment = 1 << 20;             // bytes
  static constexpr uint64_t kMaxTransfer = uint64_t{1} << 28;  // bytes of a request, of any kind

  struct Options {
    unsigned queues = 1;  // as many as the disk has
    std::string serial;   // at most blk::kIdSize bytes
    bool read_only = false;
  };
  // `ring`: any thread, never waits. The disk outlives the device.
  VirtioBlk(std::string name, vmm::Disk& disk, const Options& options, const Host& host,
            std::function<void()> ring);
  // Paused, or without a request under way.
  ~VirtioBlk() override;

  // Takes what is in the queues: who rang by an eventfd does not say which one. One thread at a
  // time.
  void Work();

  uint16_t type() const override { return blk::kType; }
  void ReadConfig(uint64_t offset, std::span<uint8_t> data) const override;
  uint64_t config_size() const override { return blk::kConfigSize; }

  void Pause() override;
  void Resume() override;
  VirtioBlkState SaveDisk() const;
  // kConfigInvalid: the disk has another size than then.
  vmm::Result<void> LoadDisk(const VirtioBlkState& state) const;

 private:
  struct Request {
    VirtioBlk* device;
    unsigned queue;
    DescriptorChain chain;
    vmm::BlockRequest block;
    std::vector<iovec> buffers;
    uint64_t data_written = 0;  // bytes before the result, when all goes well
  };

  void OnKick(unsigned) override { ring_(); }
  void OnDoorbell(unsigned queue) override;
  void WorkQueue(unsigned queue);
  // Makes a BlockRequest of the chain; false: it is over already.
  bool Prepare(Request& request);
  bool PrepareTransfer(Request& request, bool is_write, uint64_t sector);
  bool PrepareRange(Request& request, blk::Type type);
  bool GiveId(Request& request);
  bool Finish(Request& request, blk::Result result);  // false, for Prepare()
  bool OnDisk(uint64_t sector, uint64_t bytes) const;
  void FillConfig(unsigned queues);
  Request* NewRequest(unsigned queue);
  void Free(Request* request);

  vmm::Disk& disk_;
  const std::string serial_;
  const bool read_only_;
  const uint64_t capacity_;  // sectors
  std::array<uint8_t, blk::kConfigSize> config_{};
  const std::function<void()> ring_;

  std::mutex work_mutex_;  // held by Work(), guards is_paused_
  bool is_paused_ = false;

  std::mutex pool_mutex_;
  std::vector<std::unique_ptr<Request>> requests_;  // all that were ever needed at once
  std::vector<Request*> free_;
};

}  // namespace virtio
