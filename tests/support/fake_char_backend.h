// The host side of a byte stream, in a test's hands.
#pragma once

#include <algorithm>
#include <string>

#include "vmm/core/host/char_backend.h"

namespace vmm {

struct FakeCharBackend final : CharBackend {
  void Write(std::span<const uint8_t> data) override { got.append(data.begin(), data.end()); }
  size_t Offer(std::span<const uint8_t> data) override {
    const size_t part = reader_number == 0 ? 0 : std::min(data.size(), room);
    Write(data.first(part));
    if (room != SIZE_MAX) room -= part;
    return part;
  }
  unsigned reader() const override { return reader_number; }
  CharWindow window() const override { return shown_on; }
  void SetWatcher(CharWatcher* to) override { watcher = to; }
  bool WaitForRoom(std::chrono::nanoseconds) override {
    room = room_when_waited;
    return room != 0;
  }
  void ResumeInput() override { ++resumed; }
  void SetReceiver(CharReceiver* to) override { receiver = to; }

  // Something comes from the host; how much of it was taken.
  size_t Send(const std::string& text) {
    if (receiver == nullptr) return 0;
    return receiver->OnInput({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  void NextReader() {
    ++reader_number;
    if (watcher != nullptr) watcher->OnHostChange();
  }
  void Leave() {
    reader_number = 0;
    if (watcher != nullptr) watcher->OnHostChange();
  }

  std::string got;
  size_t room = SIZE_MAX, room_when_waited = 0;  // bytes that Offer() takes
  unsigned reader_number = 1;
  unsigned resumed = 0;
  CharWindow shown_on;
  CharReceiver* receiver = nullptr;
  CharWatcher* watcher = nullptr;
};

}  // namespace vmm
