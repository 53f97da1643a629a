// A console on a Unix socket: one client at a time, from the last 64 KiB on.
#pragma once

#include <memory>
#include <string>

#include "vmm/core/base/result.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/host/char_input.h"
#include "vmm/core/host/char_output.h"
#include "vmm/core/host/unix_listener.h"

namespace vmm {

// Each client first gets the last 64 KiB of all output. A second one at the same time is told that
// the console is taken, and closed. A client that shuts down its sending side may read on.
class CharUnix final : public CharBackend {
 public:
  // Listens on `path` (mode 0600, removed at the end). A socket there that nobody serves any more
  // is replaced. kConfigInvalid when the path is too long for a socket; kConsoleLost when another
  // program serves it, when it is another kind of file, or can't be made.
  static Result<std::unique_ptr<CharUnix>> Open(EventLoop& loop, std::string path,
                                                std::string name);
  ~CharUnix() override;

  void Write(std::span<const uint8_t> data) override { output_->Write(data); }
  size_t Offer(std::span<const uint8_t> data) override { return output_->Offer(data); }
  // A client that is gone counts until the device has all that it sent.
  unsigned reader() const override { return output_->reader(input_->holds()); }
  void SetWatcher(CharWatcher* watcher) override { output_->SetWatcher(watcher); }
  bool WaitForRoom(std::chrono::nanoseconds timeout) override {
    return output_->WaitForRoom(timeout);
  }
  void ResumeInput() override { input_->Resume(); }
  void SetReceiver(CharReceiver* receiver) override { input_->SetReceiver(receiver); }
  std::vector<uint8_t> WaitingInput() const override { return input_->Waiting(); }
  void ReturnInput(std::span<const uint8_t> input) override { input_->Return(input); }
  Result<void> Finish() override;
  std::string Where() const override { return path_; }

 private:
  CharUnix(EventLoop& loop, std::string path, std::string name)
      : loop_(loop), path_(std::move(path)), name_(std::move(name)) {}
  Result<void> Listen();
  void OnConnection();
  bool ClientAlive();
  void DropClient();

  EventLoop& loop_;
  const std::string path_, name_;
  UnixListener listener_;
  std::unique_ptr<CharInput> input_;
  std::unique_ptr<CharOutput> output_;
  int client_ = -1;  // output_'s descriptor, while it has one; I/O thread
};

}  // namespace vmm
