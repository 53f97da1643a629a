// A virtio device apart from its transport: status, features, queues, reset. [VIRTIO 1.2] 2, 3
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "virtio/split_queue.h"
#include "virtio/virtio_regs.h"
#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/result.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/memory/host_write_listener.h"

namespace virtio {

struct VirtioQueueState {
  uint16_t size = 0;
  bool enabled = false;
  uint64_t descriptors = 0, driver = 0, device = 0;
  uint16_t taken = 0, returned = 0, signalled = 0;
  friend bool operator==(const VirtioQueueState&, const VirtioQueueState&) = default;
};

struct VirtioDeviceState {
  static constexpr unsigned kMaxQueues = 16;
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  vmm::BitRegister<Status> status;
  uint64_t driver_features = 0;
  std::array<VirtioQueueState, kMaxQueues> queues{};
  friend bool operator==(const VirtioDeviceState&, const VirtioDeviceState&) = default;
};

// The transport maps its registers to the first half; a device implements the rest.
//
// A reset by the driver with requests under way: no ring is touched from then on, and the status
// reads as zero once the last of them is over. So a vCPU never waits, and nothing is written to
// buffers that the driver has taken back.
//
// Threads: any. Lock ranks: mutex_, then a queue's mutex; the transport is called with none held.
class VirtioDevice {
 public:
  static constexpr unsigned kMaxQueues = VirtioDeviceState::kMaxQueues;

  // How the device reaches its driver.
  class Transport {
   public:
    virtual ~Transport() = default;
    virtual void InterruptQueue(unsigned queue) = 0;
    virtual void InterruptConfig() = 0;
    virtual bool MayAccessMemory() const = 0;
  };

  struct Host {  // all outlive the device
    const vmm::GuestMemory& memory;
    vmm::HostWriteListener& writes;
  };

  VirtioDevice(const VirtioDevice&) = delete;
  VirtioDevice& operator=(const VirtioDevice&) = delete;
  virtual ~VirtioDevice() = default;

  // Once, before the machine runs.
  void SetTransport(Transport& transport) { transport_ = &transport; }

  const std::string& name() const { return name_; }
  virtual uint16_t type() const = 0;  // 5
  unsigned queue_count() const { return static_cast<unsigned>(queues_.size()); }

  // --- Registers. ---
  uint64_t offered_features() const { return offered_; }
  uint64_t driver_features() const;
  // Ignored once FEATURES_OK is set.
  void SetDriverFeatures(uint64_t features);
  vmm::BitRegister<Status> status() const;
  // Zero resets; else bits are only added, and FEATURES_OK only if the features suit. 3.1.1
  void SetStatus(uint8_t value);
  uint8_t config_generation() const { return config_generation_.load(); }
  // As the driver set them up; ignored for a queue that does not exist or is enabled.
  SplitQueue::Layout layout(unsigned queue) const;
  void SetLayout(unsigned queue, const SplitQueue::Layout& layout);
  bool queue_enabled(unsigned queue) const;
  void EnableQueue(unsigned queue);
  // The driver has put chains into a queue. Never waits.
  void Kick(unsigned queue);
  // The same by a driver's write to its doorbell, with no lock held.
  void RingDoorbell(unsigned queue);
  void KickAll();

  // The device's own registers, in bytes from their start; what lies outside reads as zero.
  virtual void ReadConfig(uint64_t offset, std::span<uint8_t> data) const = 0;
  virtual void WriteConfig(uint64_t, std::span<const uint8_t>) {}
  virtual uint64_t config_size() const = 0;

  // --- The machine's. ---
  // Waits until no request is under way and begins none until Resume(). No vCPU runs.
  virtual void Pause() = 0;
  virtual void Resume() = 0;
  // While paused.
  void PowerOnReset();
  VirtioDeviceState SaveCommon() const;
  vmm::Result<void> LoadCommon(const VirtioDeviceState& state);

 protected:
  // `queue_sizes`: the most entries of each.
  VirtioDevice(std::string name, uint64_t features, const std::vector<uint16_t>& queue_sizes,
               const Host& host);

  // Queue `queue` was kicked. On a vCPU's thread: may only pass it on.
  virtual void OnKick(unsigned queue) = 0;
  // The driver wrote to the queue's doorbell. On a vCPU's thread, with no lock held: may do what
  // takes no longer than to pass it on.
  virtual void OnDoorbell(unsigned queue) { OnKick(queue); }
  // The device was reset: its own registers are as at first. With mutex_ held: takes leaves only.
  virtual void OnReset() {}

  // The next chain, for which End() or Return() must be called. False: there is none now, and the
  // driver will tell of the next; or the queue does not run. A queue that turns out to be broken
  // makes the device need a reset.
  bool Take(unsigned queue, DescriptorChain& chain);
  // Also of a queue that was reset meanwhile; then only the request ends.
  void Return(unsigned queue, uint16_t head, uint32_t written) {
    const SplitQueue::Used used{head, written};
    Return(queue, {&used, 1});
  }
  // Several, which the driver sees at once.
  void Return(unsigned queue, std::span<const SplitQueue::Used> chains);
  // The last `count` chains of the queue that were taken come again with the next Take(), or not at
  // all if the queue was reset meanwhile.
  void PutBack(unsigned queue, unsigned count);
  // The chain is against the rules: it isn't returned, and the device needs a reset.
  void Reject(unsigned queue, std::string_view why);
  void ConfigChanged();
  bool HasFeature(uint64_t bit) const { return (driver_features() & bit) != 0; }
  vmm::HostWriteListener& writes() const { return host_.writes; }

 private:
  struct Queue {
    Queue(const Host& host, uint16_t most) : max_size(most), ring(host.memory, host.writes) {}
    const uint16_t max_size;
    SplitQueue::Layout layout;  // guarded by the device's mutex_
    bool enabled = false;       // likewise
    std::mutex mutex;           // guards the ring
    SplitQueue ring;            // disabled: it doesn't run
  };

  void StartQueue(Queue& queue);  // with mutex_ held
  void StopQueues();
  void FinishReset();
  void EndRequests(unsigned count);
  void Break(std::string_view why);
  bool IsRunning() const;  // with mutex_ held

  const std::string name_;
  const uint64_t offered_;
  const Host host_;
  Transport* transport_ = nullptr;
  std::atomic<uint8_t> config_generation_{0};
  std::atomic<uint32_t> under_way_{0};  // chains that were taken and are not over

  mutable std::mutex mutex_;  // guards all below
  vmm::BitRegister<Status> status_;
  uint64_t driver_features_ = 0;
  bool is_resetting_ = false;
  std::vector<std::unique_ptr<Queue>> queues_;  // the list itself never changes
};

}  // namespace virtio
