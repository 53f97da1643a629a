// The escape key of a console on a terminal. All keys belong to the guest, Ctrl-C included, except
// those that follow Ctrl-A:
//   Ctrl-A x   stop the machine at once      Ctrl-A p   press the power button
//   Ctrl-A s   suspend it to its file        Ctrl-A h   say which keys there are
//   Ctrl-A a   (or Ctrl-A Ctrl-A) send one Ctrl-A
//
// It must work when the guest reads nothing, so the keys wait for the guest here, behind the search
// for the escape key, and not in the host side.
#pragma once

#include <array>
#include <functional>

#include "vmm/core/host/char_backend.h"

namespace vmm {

class EscapeKeys final : public CharBackend, private CharReceiver {
 public:
  static constexpr uint8_t kEscape = 0x01;  // Ctrl-A
  static constexpr size_t kHeldBack =
      4096;  // bytes that wait for the guest; then the host side waits

  struct Handlers {  // on the I/O thread
    std::function<void()> on_stop;
    std::function<void()> on_power_button;
    std::function<void()> on_suspend;
  };
  // `post` runs a function on the I/O thread, soon.
  using Post = std::function<void(std::function<void()>)>;

  EscapeKeys(CharBackend& inner, Post post, Handlers handlers);
  ~EscapeKeys() override;

  void Write(std::span<const uint8_t> data) override { inner_.Write(data); }
  size_t Offer(std::span<const uint8_t> data) override { return inner_.Offer(data); }
  unsigned reader() const override { return inner_.reader(); }
  CharWindow window() const override { return inner_.window(); }
  void SetWatcher(CharWatcher* watcher) override { inner_.SetWatcher(watcher); }
  bool WaitForRoom(std::chrono::nanoseconds timeout) override {
    return inner_.WaitForRoom(timeout);
  }
  void ResumeInput() override;
  void SetReceiver(CharReceiver* receiver) override;
  std::vector<uint8_t> WaitingInput() const override;
  void ReturnInput(std::span<const uint8_t> input) override;

 private:
  size_t OnInput(std::span<const uint8_t> data) override;
  void OnCommand(uint8_t key);
  // Offers what waits to the receiver. I/O thread.
  void Drain();

  CharBackend& inner_;
  const Post post_;
  const Handlers handlers_;
  CharReceiver* receiver_ = nullptr;
  // The queue and the escape state belong to the I/O thread: no lock.
  bool after_escape_ = false;
  std::array<uint8_t, kHeldBack> held_{};
  size_t first_ = 0, count_ = 0;  // ring
};

}  // namespace vmm
