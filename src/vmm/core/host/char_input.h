// A console's input on its way in: read when the guest has room, kept as long as it has none.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/host/char_doorbell.h"
#include "vmm/core/host/event_loop.h"

namespace vmm {

class CharInput {
 public:
  // What a source leaves behind that is gone before the guest has read it. More is lost.
  static constexpr size_t kMostHeld = 1024 * 1024;

  enum class Event : uint8_t {
    kEndOfFile,   // nothing more comes, but the other side is there and may read
    kHangUp,      // the other side is gone
    kBackground,  // another job has the terminal: nothing is read until ResumeForeground()
    kTaken        // what a source that is gone had left behind has been taken by the receiver
  };

  // `on_event` on the I/O thread; it may detach.
  static Result<std::unique_ptr<CharInput>> Create(EventLoop& loop,
                                                   std::function<void(Event)> on_event);
  ~CharInput();

  // The receiver has room again. Any thread.
  void Resume();
  // The terminal is ours again. On the I/O thread.
  void ResumeForeground();

  void SetReceiver(CharReceiver* receiver);

  // What the receiver has not taken; and such input from another run, before all else. On the I/O
  // thread, or while nobody is in EventLoop::Run().
  std::vector<uint8_t> Waiting() const;
  void Return(std::span<const uint8_t> input);

  // Is there input that the receiver has not taken? Any thread.
  bool holds() const { return holds_; }

  // On the I/O thread, or while nobody is in EventLoop::Run(). `fd` is readable without blocking
  // whenever poll says so; where poll does not work (regular files), always. A terminal is not read
  // in the background, where that would stop the process.
  void Attach(UniqueFd fd, bool terminal = false);
  // Reads what has come already and keeps it for the guest.
  void Detach();

 private:
  static constexpr size_t kReadSize = 4096;

  explicit CharInput(EventLoop& loop) : loop_(loop) {}
  void Turn();
  void Offer();
  bool Watch();
  void Unwatch();
  // Bytes read, 0: none now, -1: end of file or error.
  ssize_t ReadMore();
  void OnReady(uint32_t events);

  EventLoop& loop_;
  std::function<void(Event)> on_event_;
  std::unique_ptr<CharDoorbell> bell_;
  std::atomic<CharReceiver*> receiver_{nullptr};
  std::atomic<bool> waiting_{false};  // bytes wait for the receiver

  std::atomic<bool> holds_{false};

  // Of the I/O thread.
  UniqueFd fd_;
  bool terminal_ = false;
  bool background_ = false;  // told, and not resumed
  bool watched_ = false;
  bool ended_ = false;         // end of file was read: only a hang-up can come
  std::vector<uint8_t> held_;  // read, not taken by the receiver
  size_t held_from_ = 0;       // the first byte of held_ that was not taken
};

}  // namespace vmm
