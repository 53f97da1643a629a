// A console on a pseudo-terminal of its own, for terminal programs.
#pragma once

#include <memory>
#include <string>

#include "vmm/core/base/result.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/host/char_input.h"
#include "vmm/core/host/char_output.h"

namespace vmm {

// Whoever opens it first gets the last 64 KiB of all output; so does the next one after all have
// closed it. It is raw whenever somebody comes.
class CharPty final : public CharBackend {
 public:
  // Logs where it is. kConsoleLost when the host has no pseudo-terminal left.
  static Result<std::unique_ptr<CharPty>> Open(EventLoop& loop, std::string name);
  ~CharPty() override;

  void Write(std::span<const uint8_t> data) override { output_->Write(data); }
  size_t Offer(std::span<const uint8_t> data) override { return output_->Offer(data); }
  // One that is gone counts until the device has all that it sent.
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
  CharPty(EventLoop& loop, std::string name) : loop_(loop), name_(std::move(name)) {}
  Result<void> Make();
  Result<void> WatchForReaders();
  bool ReaderThere() const;
  void OnChange();
  void OnReaderGone();

  EventLoop& loop_;
  const std::string name_;
  std::string path_;
  UniqueFd master_;
  UniqueFd opened_;  // inotify: somebody opened or closed path_; without it a timer
  bool attached_ = false;
  std::unique_ptr<CharInput> input_;
  std::unique_ptr<CharOutput> output_;
};

}  // namespace vmm
