// A console's output on its way out: the ring that the guest writes into and the host drains.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/host/char_doorbell.h"
#include "vmm/core/host/char_sink.h"
#include "vmm/core/host/event_loop.h"

namespace vmm {

// The ring keeps the last 64 KiB of all that was written, also what has been handed out: a reader
// that comes late gets them first.
//
// When the ring is full of bytes that the reader has not taken, the writer waits for it - but the
// guest never waits longer than on a real line of 115200 baud: each byte that is taken earns 87
// microseconds, of which at most kPatience is saved up. So a reader at work loses nothing however
// the guest floods, and one that has stopped costs the guest kPatience once; from then on the
// oldest bytes are lost. The I/O thread never waits.
//
// Or nothing may be lost: then all goes by Offer(), past the ring, and waits at the writer.
//
// Lock ranks: flush_mutex_, then mutex_, then those of EventLoop; no device's lock is taken here.
class CharOutput {
 public:
  static constexpr size_t kRingSize = 64 * 1024;
  static constexpr std::chrono::nanoseconds kByteTime{86'806};  // 10 bits at 115200 baud
  static constexpr std::chrono::milliseconds kPatience{200};
  // The reader gets what was written at once if it got nothing for so long before: else a guest
  // that writes byte after byte would wake the I/O thread, and that the reader, for each.
  static constexpr std::chrono::milliseconds kPause{1};
  // Finish() gives up after so long without a byte taken, and after so long at all.
  static constexpr std::chrono::milliseconds kFinishIdle{1000}, kFinishTotal{3000};

  struct Hooks {  // on the I/O thread, or in Finish()
    // The sink failed with this errno; it is gone.
    std::function<void(int)> on_broken;
    // So many bytes were lost since the last call; the reader has caught up. May be empty.
    std::function<void(uint64_t)> on_lost = {};
  };
  static Result<std::unique_ptr<CharOutput>> Create(EventLoop& loop, Hooks hooks);
  // Hooks that just say it on the log: "serial0: writing to `where` failed".
  static Hooks LogHooks(std::string name, std::string where);
  ~CharOutput();

  // Any thread.
  void Write(std::span<const uint8_t> data);
  // CharBackend's.
  size_t Offer(std::span<const uint8_t> data);
  // `or_last`: else of the last that there was.
  unsigned reader(bool or_last = false) const;
  void SetWatcher(CharWatcher* watcher) { watcher_ = watcher; }
  // On the I/O thread.
  void TellWatcher();
  bool WaitForRoom(std::chrono::nanoseconds timeout) const;
  bool attached() const;
  uint64_t lost() const;  // bytes that an attached reader never got

  // On the I/O thread, or while nobody is in EventLoop::Run(). The new sink gets the whole ring.
  void Attach(CharSink sink);
  void Detach();
  // Writes out what waits, on the caller's thread; nobody is in EventLoop::Run(). A sink that does
  // not take it is given up. Returns refused().
  int Finish();
  // The errno with which the host refused output for good, at any time; 0: it has not. A reader
  // that left refuses nothing.
  int refused() const;
  // The error of a console that writes to `where`; none for 0.
  static Result<void> Verdict(int refused, std::string_view where);

 private:
  enum class Progress : uint8_t { kIdle, kSome, kBlocked, kGone };

  explicit CharOutput(EventLoop& loop) : loop_(loop), ring_(kRingSize) {}
  std::shared_ptr<const CharSink> CurrentSink() const;
  bool wants_room() const;
  Progress PutSome();
  bool MakeRoom(std::unique_lock<std::mutex>& lock);
  bool WaitForReader(std::unique_lock<std::mutex>& lock);
  void Append(std::span<const uint8_t> data);                      // mutex_ held
  size_t CopyOut(uint64_t position, std::span<uint8_t> to) const;  // mutex_ held
  void Break(int error);                                           // mutex_ held
  void OnWritable();
  bool Flush();  // whether something was written
  void Tell();
  void Watch();
  void Unwatch();

  EventLoop& loop_;
  Hooks hooks_;
  std::unique_ptr<CharDoorbell> bell_;
  std::shared_ptr<const CharSink> watched_;  // waits for room in the loop; I/O thread only
  std::atomic<CharWatcher*> watcher_{nullptr};

  std::mutex flush_mutex_;     // one PutSome() at a time: the order of the bytes
  mutable std::mutex mutex_;   // all below; never held during a system call
  std::vector<uint8_t> ring_;  // byte n of the output is at n % kRingSize
  uint64_t end_ = 0;           // bytes ever written
  uint64_t sent_ = 0;          // position of the next byte for the sink
  uint64_t lost_ = 0;
  uint64_t lost_told_ = 0;
  std::shared_ptr<const CharSink> sink_;
  unsigned readers_ = 0;                        // sinks that there were
  bool wants_room_ = false;                     // Offer() had none
  int broken_ = 0;                              // errno that on_broken has yet to hear of
  int refused_ = 0;                             // errno
  std::chrono::nanoseconds credit_{kPatience};  // that a writer may wait
};

}  // namespace vmm
