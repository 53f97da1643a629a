// The host side of a byte stream (serial line, debug console): stdio, pty, Unix socket, file.
#pragma once

#include <cstdint>
#include <span>

namespace vmm {

// The device side: who takes input from the host. Called on the I/O thread.
class CharReceiver {
 public:
  virtual ~CharReceiver() = default;
  // Takes as many bytes of `data` as there is room for and returns how many. What is not taken is
  // held back by the backend and offered again after CharBackend::ResumeInput().
  virtual size_t OnInput(std::span<const uint8_t> data) = 0;
};

class CharBackend {
 public:
  virtual ~CharBackend() = default;
  // Never blocks and never fails towards the guest, from any thread: what a slow reader has not
  // taken is kept in a ring of the last 64 KiB, the oldest lost first.
  virtual void Write(std::span<const uint8_t> data) = 0;
  // The device has room again. Any thread; OnInput follows on the I/O thread.
  virtual void ResumeInput() = 0;
  virtual void SetReceiver(CharReceiver* receiver) = 0;  // before the machine runs
};

}  // namespace vmm
