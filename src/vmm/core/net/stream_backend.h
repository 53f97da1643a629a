// A wire to another process by a stream socket: the NAT helper, passt, another QEMU.
#pragma once

#include <sys/types.h>

#include <vector>

#include "vmm/core/host/unique_fd.h"
#include "vmm/core/net/net_backend.h"

namespace vmm {

class StreamBackend final : public NetBackend {
 public:
  // `socket`: connected; becomes non-blocking. `takes`: no checksum, no segments, for frames have
  // no header on this wire; but any_size where the other side wants what a guest left to segment
  // whole. `is_near`: what comes was made on this host, its checksums need no look.
  StreamBackend(UniqueFd socket, const NetOffloads& takes, bool is_near);

  int fd() const override { return socket_.get(); }
  bool WantsToWrite() const override { return out_.size() != sent_; }
  bool is_up() const override { return is_up_; }
  NetOffloads takes() const override { return takes_; }
  bool Send(const NetHeader& header, std::span<const uint8_t> frame) override;
  void Flush() override;
  size_t Receive(NetHeader& header, std::span<uint8_t> to) override;

 private:
  bool Fill();
  void Break();

  UniqueFd socket_;
  const NetOffloads takes_;
  const bool is_near_;
  bool is_up_ = true;
  std::vector<uint8_t> out_;  // from sent_ on it waits
  size_t sent_ = 0;
  std::vector<uint8_t> in_;  // [parsed_, filled_) was read and not yet given
  size_t parsed_ = 0, filled_ = 0;
};

}  // namespace vmm
