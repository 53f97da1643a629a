// Reads along between a serial port and its host side: every byte that the guest prints is shown to
// an observer before it is passed on. Input passes untouched.
#pragma once

#include <functional>
#include <span>

#include "vmm/core/host/char_backend.h"

namespace vmm {

class ConsoleTap final : public CharBackend {
 public:
  // Called on the thread that writes, before the bytes reach `inner`; must not block.
  using Observer = std::function<void(std::span<const uint8_t>)>;

  ConsoleTap(CharBackend& inner, Observer observer)
      : inner_(inner), observer_(std::move(observer)) {}

  void Write(std::span<const uint8_t> data) override {
    observer_(data);
    inner_.Write(data);
  }
  unsigned reader() const override { return inner_.reader(); }
  CharWindow window() const override { return inner_.window(); }
  void SetWatcher(CharWatcher* watcher) override { inner_.SetWatcher(watcher); }
  void ResumeInput() override { inner_.ResumeInput(); }
  void SetReceiver(CharReceiver* receiver) override { inner_.SetReceiver(receiver); }

 private:
  CharBackend& inner_;
  const Observer observer_;
};

}  // namespace vmm
