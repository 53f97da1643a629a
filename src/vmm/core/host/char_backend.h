// The host side of a byte stream (serial line, debug console): stdio, pty, Unix socket, file.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

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

// A device whose stream may lose nothing: who hears of the host side. Called on the I/O thread.
class CharWatcher {
 public:
  virtual ~CharWatcher() = default;
  // There may be room for Offer() again, or another reader, or none.
  virtual void OnHostChange() = 0;
};

// In characters; 0: nobody knows.
struct CharWindow {
  uint16_t columns = 0, rows = 0;
  friend bool operator==(const CharWindow&, const CharWindow&) = default;
};

class CharBackend {
 public:
  virtual ~CharBackend() = default;
  // Never blocks and never fails towards the guest, from any thread: what a slow reader has not
  // taken is kept in a ring of the last 64 KiB, the oldest lost first.
  virtual void Write(std::span<const uint8_t> data) = 0;
  // Instead of Write(), for a stream that may lose nothing: hands the reader what it takes at once,
  // keeps nothing, and returns how many bytes that were. Never blocks, any thread. After fewer than
  // all the watcher hears when to try again.
  virtual size_t Offer(std::span<const uint8_t> data) {
    Write(data);
    return data.size();
  }
  // The number of the reader that is there, another one for each; 0: there is none. Any thread.
  virtual unsigned reader() const { return 1; }
  // Of the terminal that it is shown on. Any thread.
  virtual CharWindow window() const { return {}; }
  virtual void SetWatcher(CharWatcher*) {}  // before the machine runs, or once it has ended
  // Waits until Offer() may go on; false: it can't, in that time. Once the loop no longer runs.
  virtual bool WaitForRoom(std::chrono::nanoseconds) { return false; }
  // The device has room again. Any thread; OnInput follows on the I/O thread.
  virtual void ResumeInput() = 0;
  virtual void SetReceiver(CharReceiver* receiver) = 0;  // before the machine runs
  // What has come and the receiver has not taken: it goes with a machine that is suspended. On the
  // I/O thread.
  virtual std::vector<uint8_t> WaitingInput() const { return {}; }
  // The same in the machine that goes on, before whatever comes. Before the machine runs.
  virtual void ReturnInput(std::span<const uint8_t>) {}
  // Hands out what still waits in the ring, for a second or so at most, and gives the host back
  // what it had (the terminal's mode). When the machine has ended and the loop no longer runs; the
  // destructor does it too. kConsoleLost when the host has refused output (its disk is full): what
  // it got is not all. A reader that left or stopped reading is no error.
  virtual Result<void> Finish() { return {}; }
  // Where it is found on the host ("/dev/pts/3"), for the admin. Empty: nowhere.
  virtual std::string Where() const { return {}; }
};

}  // namespace vmm
