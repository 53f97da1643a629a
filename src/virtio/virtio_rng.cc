#include "virtio/virtio_rng.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace virtio {

VirtioRng::VirtioRng(std::string name, Source source, const Host& host, std::function<void()> ring)
    : VirtioDevice(std::move(name), /*features=*/0, {kQueueSize}, host),
      source_(std::move(source)),
      ring_(std::move(ring)) {}

bool VirtioRng::HostRandom(std::span<uint8_t> out) {
  while (!out.empty()) {
    const ssize_t count = getrandom(out.data(), out.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    out = out.subspan(static_cast<size_t>(count));
  }
  return true;
}

void VirtioRng::ReadConfig(uint64_t, std::span<uint8_t> data) const {
  std::ranges::fill(data, uint8_t{0});
}

bool VirtioRng::Fill(const ChainBuffers& buffers, uint64_t bytes) {
  std::array<uint8_t, 4096> random;
  for (uint64_t done = 0; done < bytes;) {
    const std::span<uint8_t> some =
        std::span(random).first(std::min<uint64_t>(random.size(), bytes - done));
    if (!source_(some)) return false;
    buffers.Write(done, some, writes());
    done += some.size();
  }
  return true;
}

// 5.4.6. What the guest could write while this runs is bounded by its processors; none runs while
// Pause() waits for it.
void VirtioRng::Work() {
  const std::lock_guard lock(work_mutex_);
  if (is_paused_) return;
  DescriptorChain chain;
  while (Take(0, chain)) {
    const uint64_t bytes = std::min(chain.writable.length(), kMostBytes);
    if (chain.readable.length() != 0 || bytes == 0) {
      Reject(0, "a request for random bytes is one buffer for the device to write");
    } else if (!Fill(chain.writable, bytes)) {
      Reject(0, "the host has no random bytes");
    } else {
      Return(0, chain.head, static_cast<uint32_t>(bytes));
    }
  }
}

void VirtioRng::Pause() {
  const std::lock_guard lock(work_mutex_);
  is_paused_ = true;
}

void VirtioRng::Resume() {
  {
    const std::lock_guard lock(work_mutex_);
    is_paused_ = false;
  }
  KickAll();
}

}  // namespace virtio
