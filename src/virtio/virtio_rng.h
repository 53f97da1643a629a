// The entropy device: random bytes of the host. [VIRTIO 1.2] 5.4
#pragma once

#include <functional>
#include <mutex>
#include <span>
#include <string>

#include "virtio/virtio_device.h"

namespace virtio {

// Requests are taken and done by Work(), which the machine calls on a thread of its own after each
// ring(). There is nothing to save but what every device has: no request is under way between two
// calls.
//
// Locks: work_mutex_ before all others of the device.
class VirtioRng final : public VirtioDevice {
 public:
  static constexpr uint16_t kType = 4;        // 5
  static constexpr uint16_t kQueueSize = 64;  // of the one queue. 5.4.2
  // Bytes that a request gets at most; of a longer buffer the rest stays as it was. 5.4.6.2
  static constexpr uint64_t kMostBytes = 64 * 1024;

  // Fills the span; false: it can't.
  using Source = std::function<bool(std::span<uint8_t>)>;
  // The host's generator, getrandom(2).
  static bool HostRandom(std::span<uint8_t> out);

  // `ring`: any thread, never waits.
  VirtioRng(std::string name, Source source, const Host& host, std::function<void()> ring);

  // Fills the buffers that are offered. One thread at a time.
  void Work();

  uint16_t type() const override { return kType; }
  void ReadConfig(uint64_t offset, std::span<uint8_t> data) const override;
  uint64_t config_size() const override { return 0; }  // 5.4.4

  void Pause() override;
  void Resume() override;

 private:
  void OnKick(unsigned) override { ring_(); }
  bool Fill(const ChainBuffers& buffers, uint64_t bytes);

  const Source source_;
  const std::function<void()> ring_;
  std::mutex work_mutex_;  // held by Work(), guards is_paused_
  bool is_paused_ = false;
};

}  // namespace virtio
