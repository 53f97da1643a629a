// The line to vmm: frames out, acknowledgements in (vmm/core/protocol/test_channel.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/core/protocol/test_channel.h"

namespace guest_init {

class Channel {
 public:
  using Type = vmm::test_channel::Type;

  // Opens the second serial line as a raw one. False: there is none.
  bool Open();
  int fd() const { return fd_; }

  // May a frame be sent without a wait?
  bool has_room() const { return on_their_way_ < vmm::test_channel::kWindow; }
  // Takes what acknowledgements have come. Blocks for one when `wait`.
  void TakeAcks(bool wait);

  // Sends one frame, waits for room if there is none. `size` is at most kMaxPayload.
  void Send(Type type, const void* payload, size_t size);
  void SendText(Type type, const char* text);
  // Returns once all has left the machine.
  void Drain();

 private:
  int fd_ = -1;
  uint32_t number_ = 0;
  unsigned on_their_way_ = 0;
};

}  // namespace guest_init
