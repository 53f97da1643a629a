// The host side of a byte stream for devices with threads: a reader that comes, goes and stops.
#pragma once

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>

#include "vmm/core/host/char_backend.h"

namespace vmm {

// Any threads, but Type() and Change(), which are the I/O thread's.
class Terminal final : public CharBackend {
 public:
  static constexpr size_t kKept = 4096;  // bytes of what was written last

  void Write(std::span<const uint8_t> data) override {
    const std::lock_guard lock(mutex_);
    Keep(data);
  }
  size_t Offer(std::span<const uint8_t> data) override {
    const std::lock_guard lock(mutex_);
    const size_t part = reader_ == 0 ? 0 : std::min(data.size(), room_);
    Keep(data.first(part));
    if (room_ != SIZE_MAX) room_ -= part;
    return part;
  }
  unsigned reader() const override { return reader_; }
  CharWindow window() const override { return {columns_, 25}; }
  void SetWatcher(CharWatcher* to) override { watcher_ = to; }
  void SetReceiver(CharReceiver* to) override { receiver_ = to; }
  void ResumeInput() override {}  // the next Type() comes anyhow

  // `reader`: its number, 0: none; `room`: bytes that Offer() takes, SIZE_MAX: any.
  void Change(unsigned reader, size_t room, uint16_t columns) {
    {
      const std::lock_guard lock(mutex_);
      room_ = room;
    }
    reader_ = reader;
    columns_ = columns;
    if (watcher_ != nullptr) watcher_->OnHostChange();
  }
  // How much of it was taken.
  size_t Type(const std::string& text) {
    return receiver_->OnInput({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  std::string got() const {
    const std::lock_guard lock(mutex_);
    return got_;
  }

 private:
  void Keep(std::span<const uint8_t> data) {
    got_.append(data.begin(), data.end());
    if (got_.size() > kKept) got_.erase(0, got_.size() - kKept);
  }

  mutable std::mutex mutex_;
  std::string got_;
  size_t room_ = SIZE_MAX;
  std::atomic<unsigned> reader_{1};
  std::atomic<uint16_t> columns_{80};
  CharReceiver* receiver_ = nullptr;
  CharWatcher* watcher_ = nullptr;
};

}  // namespace vmm
