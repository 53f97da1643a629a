// The host side of a byte stream (serial line, debug console): stdio, pty, Unix socket, file.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "vmm/core/base/result.h"

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
  // Hands out what still waits in the ring, for a second or so at most, and gives the host back
  // what it had (the terminal's mode). When the machine has ended and the loop no longer runs; the
  // destructor does it too. kConsoleLost when the host has refused output (its disk is full): what
  // it got is not all. A reader that left or stopped reading is no error.
  virtual Result<void> Finish() { return {}; }
  // Where it is found on the host ("/dev/pts/3"), for the admin. Empty: nowhere.
  virtual std::string Where() const { return {}; }
};

}  // namespace vmm
