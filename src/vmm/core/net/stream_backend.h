// A wire to another process by a stream socket: the NAT helper, passt, another QEMU.
#pragma once

#include "vmm/core/host/unique_fd.h"
#include "vmm/core/net/net_backend.h"
#include "vmm/core/protocol/frame_stream.h"

namespace vmm {

class StreamBackend final : public NetBackend {
 public:
  // `socket`: connected; becomes non-blocking. `takes`: no checksum, no segments, for frames have
  // no header on this wire; but any_size where the other side wants what a guest left to segment
  // whole. `is_near`: what comes was made on this host, its checksums need no look.
  StreamBackend(UniqueFd socket, const NetOffloads& takes, bool is_near);

  int fd() const override { return socket_.get(); }
  bool WantsToWrite() const override { return stream_.waiting() != 0; }
  bool is_up() const override { return !stream_.is_over(); }
  NetOffloads takes() const override { return takes_; }
  bool Send(const NetHeader& header, std::span<const uint8_t> frame) override;
  void Flush() override { stream_.Flush(); }
  size_t Receive(NetHeader& header, std::span<uint8_t> to) override;

 private:
  UniqueFd socket_;
  const NetOffloads takes_;
  const bool is_near_;
  FrameStream stream_;
};

}  // namespace vmm
