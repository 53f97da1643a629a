#include "vmm/core/host/char_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "vmm/core/base/log.h"

namespace vmm {
namespace {

using std::chrono::steady_clock;

constexpr size_t kChunk = 16 * 1024;
// Chunks in one turn of the I/O thread: a flood leaves it time for others.
constexpr int kChunksPerTurn = 8;

bool ReaderLeft(int error) {
  return error == EPIPE || error == ECONNRESET || error == ENOTCONN;
}

}  // namespace

Result<std::unique_ptr<CharOutput>> CharOutput::Create(EventLoop& loop, Hooks hooks) {
  std::unique_ptr<CharOutput> output(new CharOutput(loop));
  output->hooks_ = std::move(hooks);
  auto bell =
      CharDoorbell::Create(loop, [output = output.get()] { return output->Flush(); }, kPause);
  if (!bell) return tl::unexpected(std::move(bell.error()));
  output->bell_ = std::move(*bell);
  return output;
}

CharOutput::Hooks CharOutput::LogHooks(std::string name, std::string where) {
  return {[name, where](int error) {
            Log(LogLevel::kWarning,
                fmt::format("{}: writing to {} failed ({}); its output is dropped from now on",
                            name, where, std::strerror(error)));
          },
          [name, where](uint64_t lost) {
            LogGuest(LogLevel::kWarning,
                     fmt::format("{}: {} bytes were lost while nobody read {}", name, lost, where));
          }};
}

CharOutput::~CharOutput() {
  bell_.reset();
  Unwatch();
}

void CharOutput::Write(std::span<const uint8_t> data) {
  bool ring = false;
  {
    std::unique_lock lock(mutex_);
    while (!data.empty()) {
      size_t room = kRingSize;  // without a reader: the ring just turns
      if (sink_ != nullptr) {
        room -= end_ - sent_;
        if (room == 0 && MakeRoom(lock)) continue;
        ring = true;
      }
      const size_t size = std::min(data.size(), room == 0 ? kRingSize : room);
      if (room == 0) {
        sent_ += size;
        lost_ += size;
      }
      Append(data.first(size));
      data = data.subspan(size);
    }
  }
  if (ring) bell_->Ring();
}

void CharOutput::Append(std::span<const uint8_t> data) {
  while (!data.empty()) {
    const size_t at = end_ % kRingSize;
    const size_t size = std::min(data.size(), kRingSize - at);
    std::copy_n(data.begin(), size, ring_.begin() + static_cast<ptrdiff_t>(at));
    end_ += size;
    data = data.subspan(size);
  }
}

size_t CharOutput::CopyOut(uint64_t position, std::span<uint8_t> to) const {
  const size_t size = std::min<uint64_t>(to.size(), end_ - position);
  for (size_t done = 0; done < size;) {
    const size_t at = (position + done) % kRingSize;
    const size_t run = std::min(size - done, kRingSize - at);
    std::copy_n(ring_.begin() + static_cast<ptrdiff_t>(at), run,
                to.begin() + static_cast<ptrdiff_t>(done));
    done += run;
  }
  return size;
}

// True: the ring has room now, or nobody takes from it any more. False: the reader has stopped.
bool CharOutput::MakeRoom(std::unique_lock<std::mutex>& lock) {
  for (;;) {
    lock.unlock();
    const Progress progress = PutSome();
    lock.lock();
    if (sink_ == nullptr || end_ - sent_ < kRingSize) return true;
    if (progress == Progress::kBlocked && !WaitForReader(lock)) return false;
  }
}

// Spends credit_ on waiting. False when there is none (left). The I/O thread, which wakes at the
// same time, may have used the room already: the caller looks again.
bool CharOutput::WaitForReader(std::unique_lock<std::mutex>& lock) {
  if (loop_.OnIoThread() || credit_ <= credit_.zero()) return false;
  const std::shared_ptr<const CharSink> sink = sink_;
  const std::chrono::nanoseconds credit = credit_;
  const auto start = steady_clock::now();
  lock.unlock();
  sink->WaitForRoom(credit);
  lock.lock();
  credit_ -= std::min<std::chrono::nanoseconds>(credit_, steady_clock::now() - start);
  return true;
}

// Nothing of it is ours to keep, so the ring, which a reader gets first, stays empty.
size_t CharOutput::Offer(std::span<const uint8_t> data) {
  const std::lock_guard flushing(flush_mutex_);
  const std::shared_ptr<const CharSink> sink = CurrentSink();
  size_t taken = 0;
  while (sink != nullptr && taken < data.size()) {
    const ssize_t n = sink->Put(data.subspan(taken));
    if (n > 0) {
      taken += static_cast<size_t>(n);
      continue;
    }
    const std::lock_guard lock(mutex_);
    if (sink != sink_) break;  // the watcher hears of the next one
    if (n == 0 || n == -EAGAIN) {
      wants_room_ = true;
    } else {
      Break(static_cast<int>(-n));
    }
    bell_->Ring();
    break;
  }
  return taken;
}

bool CharOutput::WaitForRoom(std::chrono::nanoseconds timeout) const {
  const std::shared_ptr<const CharSink> sink = CurrentSink();
  return sink != nullptr && sink->WaitForRoom(timeout);
}

unsigned CharOutput::reader(bool or_last) const {
  const std::lock_guard lock(mutex_);
  return sink_ != nullptr || or_last ? readers_ : 0;
}

void CharOutput::TellWatcher() {
  if (CharWatcher* const watcher = watcher_) watcher->OnHostChange();
}

void CharOutput::Break(int error) {
  sink_.reset();
  wants_room_ = false;
  broken_ = error;
  if (!ReaderLeft(error)) refused_ = error;
}

CharOutput::Progress CharOutput::PutSome() {
  std::lock_guard flushing(flush_mutex_);
  std::array<uint8_t, kChunk> chunk;
  std::shared_ptr<const CharSink> sink;
  uint64_t from;
  size_t size;
  {
    std::lock_guard lock(mutex_);
    if (sink_ == nullptr) return Progress::kGone;
    sink = sink_;
    from = sent_;
    size = CopyOut(from, chunk);
  }
  if (size == 0) return Progress::kIdle;
  const ssize_t n = sink->Put({chunk.data(), size});
  if (n == -EAGAIN) return Progress::kBlocked;
  std::lock_guard lock(mutex_);
  if (sink != sink_) return Progress::kSome;  // there is another reader now, who begins anew
  if (n < 0) {
    Break(static_cast<int>(-n));
    bell_->Ring();
    return Progress::kGone;
  }
  sent_ = std::max(sent_, from + static_cast<uint64_t>(n));
  credit_ = std::min<std::chrono::nanoseconds>(credit_ + n * kByteTime, kPatience);
  return Progress::kSome;
}

bool CharOutput::Flush() {
  bool some = false;
  Progress progress = Progress::kSome;
  for (int i = 0; i < kChunksPerTurn && progress == Progress::kSome; ++i) {
    progress = PutSome();
    some |= progress == Progress::kSome;
  }
  if (progress == Progress::kSome) {
    bell_->Ring();
  } else if (progress == Progress::kBlocked || wants_room()) {
    Watch();
  } else {
    Unwatch();
    Tell();
  }
  return some;
}

void CharOutput::OnWritable() {
  bool wants_room;
  {
    const std::lock_guard lock(mutex_);
    wants_room = std::exchange(wants_room_, false);
  }
  if (wants_room) TellWatcher();
  Flush();
}

void CharOutput::Tell() {
  int broken;
  uint64_t lost;
  {
    std::lock_guard lock(mutex_);
    broken = std::exchange(broken_, 0);
    lost = lost_ - std::exchange(lost_told_, lost_);
  }
  if (broken != 0) {
    hooks_.on_broken(broken);
    TellWatcher();
  }
  if (broken == 0 && lost != 0 && hooks_.on_lost) hooks_.on_lost(lost);
}

void CharOutput::Watch() {
  const std::shared_ptr<const CharSink> sink = CurrentSink();
  if (watched_ == sink) return;
  Unwatch();
  if (sink && loop_.AddFd(sink->fd(), EPOLLOUT, [this](uint32_t) { OnWritable(); })) {
    watched_ = sink;
  }
}

void CharOutput::Unwatch() {
  if (watched_) loop_.RemoveFd(watched_->fd());
  watched_.reset();
}

bool CharOutput::wants_room() const {
  std::lock_guard lock(mutex_);
  return wants_room_;
}

bool CharOutput::attached() const {
  std::lock_guard lock(mutex_);
  return sink_ != nullptr;
}

uint64_t CharOutput::lost() const {
  std::lock_guard lock(mutex_);
  return lost_;
}

void CharOutput::Attach(CharSink sink) {
  Unwatch();
  {
    std::lock_guard lock(mutex_);
    sink_ = std::make_shared<const CharSink>(std::move(sink));
    ++readers_;
    wants_room_ = false;
    sent_ = end_ > kRingSize ? end_ - kRingSize : 0;
    credit_ = kPatience;
    broken_ = 0;
    lost_told_ = lost_;
  }
  bell_->Ring();
  TellWatcher();
}

void CharOutput::Detach() {
  Unwatch();
  {
    std::lock_guard lock(mutex_);
    sink_.reset();
    wants_room_ = false;
  }
  TellWatcher();
}

int CharOutput::refused() const {
  std::lock_guard lock(mutex_);
  return refused_;
}

Result<void> CharOutput::Verdict(int refused, std::string_view where) {
  if (refused == 0) return {};
  return Fail(
      ExitCode::kConsoleLost,
      fmt::format("not all that the guest printed is in {} ({}); {}", where, std::strerror(refused),
                  refused == ENOSPC || refused == EDQUOT || refused == EFBIG
                      ? "make room there, or name another place"
                      : "name another place"));
}

int CharOutput::Finish() {
  const auto start = steady_clock::now();
  auto last_progress = start;
  for (;;) {
    const Progress progress = PutSome();
    if (progress == Progress::kIdle || progress == Progress::kGone) {
      Tell();
      return refused();
    }
    const auto now = steady_clock::now();
    if (progress == Progress::kSome) last_progress = now;
    const auto left = std::min(last_progress + kFinishIdle, start + kFinishTotal) - now;
    if (left <= left.zero()) break;
    if (progress == Progress::kSome) continue;
    const std::shared_ptr<const CharSink> sink = CurrentSink();
    if (sink != nullptr) sink->WaitForRoom(left);
  }
  {
    std::lock_guard lock(mutex_);
    lost_ += end_ - sent_;
    sink_.reset();  // a second Finish() must not wait again
  }
  Tell();
  return refused();
}

std::shared_ptr<const CharSink> CharOutput::CurrentSink() const {
  std::lock_guard lock(mutex_);
  return sink_;
}

}  // namespace vmm
