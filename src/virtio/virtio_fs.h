// The file system device: a directory of the host by FUSE requests. [VIRTIO 1.2] 5.11
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "virtio/virtio_device.h"
#include "virtio/virtio_fs_regs.h"
#include "vmm/core/share/share_server.h"

namespace virtio {

struct VirtioFsState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  std::array<uint8_t, fs::kTagSize> tag{};
  uint32_t request_queues = 0;
  friend bool operator==(const VirtioFsState&, const VirtioFsState&) = default;
};

// Requests are taken from the queues and served by Work(), which the machine calls on threads of
// the device's own: one that waits for the host's disk does not hold up the others. No vCPU waits
// for either.
//
// Locks: work_mutex_ before all others of the device and of the server.
class VirtioFs final : public VirtioDevice {
 public:
  static constexpr uint16_t kHighPrioritySize = 128;
  static constexpr uint16_t kQueueSize = 1024;  // room for vmm::ShareServer::kMaxPages in one chain

  struct Options {
    std::string tag;  // 1 to fs::kTagSize bytes, by which the guest mounts it
    unsigned request_queues = 1;
  };
  // `ring`: any thread, never waits. The server outlives the device.
  VirtioFs(std::string name, vmm::ShareServer& server, const Options& options, const Host& host,
           std::function<void()> ring);
  // Paused, or without a request under way.
  ~VirtioFs() override;

  // Serves what is in the queues that were kicked, and rings where that is more than one request.
  // Any threads.
  void Work();

  uint16_t type() const override { return fs::kType; }
  void ReadConfig(uint64_t offset, std::span<uint8_t> data) const override;
  uint64_t config_size() const override { return fs::kConfigSize; }

  void Pause() override;
  void Resume() override;
  VirtioFsState SaveFs() const;
  // kConfigInvalid: the guest was told another tag.
  vmm::Result<void> LoadFs(const VirtioFsState& state);

 private:
  class Buffers;
  struct Request {
    unsigned queue = 0;
    DescriptorChain chain;
  };

  void OnKick(unsigned queue) override;
  void OnReset() override;
  void TakeAll();  // with work_mutex_ held
  std::unique_ptr<Request> Next();
  void Serve(Request& request);
  void End(std::unique_ptr<Request> request);

  vmm::ShareServer& server_;
  std::array<uint8_t, fs::kConfigSize> config_{};
  const std::function<void()> ring_;
  std::atomic<uint32_t> kicked_{0};  // a bit a queue
  std::atomic<bool> was_reset_{false};

  std::mutex work_mutex_;  // guards the rest
  std::condition_variable all_ended_;
  bool is_paused_ = false;
  std::deque<std::unique_ptr<Request>> waiting_;  // taken
  unsigned serving_ = 0;
  std::vector<std::unique_ptr<Request>> free_;
};

}  // namespace virtio
