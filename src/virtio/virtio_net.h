// The network card. [VIRTIO 1.2] 5.1
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "virtio/virtio_device.h"
#include "virtio/virtio_net_regs.h"
#include "vmm/core/host/poll_thread.h"
#include "vmm/core/net/net_backend.h"
#include "vmm/core/net/net_offload.h"

namespace virtio {

using MacAddress = std::array<uint8_t, 6>;

struct VirtioNetState {
  static constexpr uint32_t kVersion = 2;
  uint32_t version = kVersion;
  MacAddress mac{};
  uint16_t mtu = 0;
  bool announce = false;
  bool is_plugged = true;  // the cable
  friend bool operator==(const VirtioNetState&, const VirtioNetState&) = default;
};

// One pair of queues and the control queue. Work(), which the machine calls on the card's own
// thread, moves frames between the queues and the back end; no vCPU waits for it. A guest may leave
// checksums and segments of TCP to the card whatever the back end takes: what it does not take is
// done here in software.
//
// A frame that the guest has sent and the back end has no room for waits here; it is lost when the
// machine is saved, as are the frames that the guest has no buffers for.
//
// Locks: work_mutex_ before all others of the device; config_mutex_ is a leaf.
class VirtioNet final : public VirtioDevice {
 public:
  static constexpr uint16_t kQueueSize = 256;
  static constexpr uint16_t kControlQueueSize = 16;
  static constexpr uint16_t kMinMtu = 68, kMaxMtu = 65521;  // bytes of an IP packet

  struct Options {
    MacAddress mac{};
    uint16_t mtu = 0;  // 0: the guest is told none
    bool link_up = true;
  };
  // `ring`: any thread, never waits. The back end outlives the device.
  VirtioNet(std::string name, vmm::NetBackend& backend, const Options& options, const Host& host,
            std::function<void()> ring);

  // Moves what can be moved; what to wait for then. One thread at a time.
  vmm::PollThread::Wait Work();

  // The cable is plugged in or pulled out. Any thread.
  void SetLink(bool up);
  bool is_plugged() const { return is_plugged_; }
  bool is_connected() const { return backend_is_up_; }
  const MacAddress& mac() const { return options_.mac; }  // as it was made, not as the guest set it

  uint16_t type() const override { return net::kType; }
  void ReadConfig(uint64_t offset, std::span<uint8_t> data) const override;
  uint64_t config_size() const override { return net::kConfigSize; }

  void Pause() override;
  void Resume() override;
  VirtioNetState SaveNet() const;
  // kConfigInvalid: the guest was told another MTU. After the transport's state: it asks the guest
  // to announce itself and to look at its link, for the network may be another one.
  vmm::Result<void> LoadNet(const VirtioNetState& state);

 private:
  void OnKick(unsigned queue) override;
  void OnReset() override;

  void NoticeLink();
  void FollowFeatures(uint64_t features);
  bool Transmit();
  bool SendWaiting();
  bool Receive();
  bool NextFrames();
  enum class Delivery : uint8_t { kOver, kNoBuffers };
  Delivery Deliver(const vmm::FrameList::Frame& frame);
  bool CollectBuffers(uint64_t wanted, bool& is_over);
  void Control();
  uint8_t Execute(const ChainBuffers& command);

  vmm::NetBackend& backend_;
  const Options options_;
  const vmm::NetOffloads takes_;  // the back end's
  const std::function<void()> ring_;
  std::atomic<bool> is_plugged_;
  std::atomic<bool> backend_is_up_{true};
  std::atomic<bool> pauses_{false};  // Work() shall make an end

  mutable std::mutex config_mutex_;
  MacAddress mac_;
  bool announce_ = false;

  std::mutex work_mutex_;  // held by Work(), guards the rest
  bool is_paused_ = false;
  uint64_t followed_features_ = 0;  // that the back end was told of
  DescriptorChain chain_;           // of the queue that is worked
  std::vector<uint8_t> tx_buffer_, rx_buffer_;
  vmm::FrameList tx_frames_;  // from tx_next_ on they wait for the back end
  size_t tx_next_ = 0;
  vmm::FrameList rx_frames_;  // from rx_next_ on they wait for buffers of the guest
  size_t rx_next_ = 0;
  uint64_t rx_features_ = 0;  // for which they were made
  std::vector<DescriptorChain> rx_chains_;
  size_t rx_count_ = 0;  // of them are held
  std::vector<SplitQueue::Used> rx_used_;
};

}  // namespace virtio
