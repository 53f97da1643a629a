// Where a network card's wire leads to on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/core/net/net_header.h"

namespace vmm {

// Never waits. Not thread-safe: all of it is called on the thread of one card.
class NetBackend {
 public:
  // The longest frame: an IP packet of 64 KiB behind an Ethernet header with two tags.
  static constexpr size_t kMaxFrame = 65535 + 14 + 8;
  static constexpr size_t kMinFrame = 14;

  virtual ~NetBackend() = default;

  // To be woken: the descriptor becomes readable when there is something to Receive(), writable
  // when there is room again for what Send() refused or kept. -1: there is none.
  virtual int fd() const = 0;
  // Is there something that leaves only when fd() is writable?
  virtual bool WantsToWrite() const = 0;
  // False: the other side is gone, for good.
  virtual bool is_up() const = 0;

  // What Send() takes. It does not change.
  virtual NetOffloads takes() const = 0;
  // What Receive() may give from now on; at first nothing. A frame that was under way may still be
  // of an older kind.
  virtual void SetReceiveOffloads(const NetOffloads&) {}

  // Takes a frame, or loses it as a wire would. False: there is no room now.
  virtual bool Send(const NetHeader& header, std::span<const uint8_t> frame) = 0;
  // What was sent leaves at the latest now, as far as there is room.
  virtual void Flush() {}

  // The next frame, at most `to`; what is longer is lost. 0: there is none now. `to` has
  // kMaxFrame bytes.
  virtual size_t Receive(NetHeader& header, std::span<uint8_t> to) = 0;
};

}  // namespace vmm
