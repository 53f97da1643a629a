// The console on the program's own standard input and output.
#pragma once

#include <memory>
#include <string>

#include "vmm/core/base/result.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/host/char_exit_guard.h"
#include "vmm/core/host/char_input.h"
#include "vmm/core/host/char_output.h"

namespace vmm {

// A terminal on standard input is in raw mode while this exists; as long as another job has it, it
// is left alone and not read. The end of the input ends nothing; an output that fails (its reader
// is gone, its disk full) is reported once and given up.
class CharStdio final : public CharBackend {
 public:
  // `name` for the log. Other descriptors than 0 and 1 are for tests. kConsoleLost when the output
  // is closed or only open for reading; kConfigInvalid when another CharStdio exists.
  static Result<std::unique_ptr<CharStdio>> Open(EventLoop& loop, std::string name, int in = 0,
                                                 int out = 1);
  ~CharStdio() override;

  void Write(std::span<const uint8_t> data) override { output_->Write(data); }
  size_t Offer(std::span<const uint8_t> data) override { return output_->Offer(data); }
  unsigned reader() const override { return output_->reader(); }
  void SetWatcher(CharWatcher* watcher) override { output_->SetWatcher(watcher); }
  bool WaitForRoom(std::chrono::nanoseconds timeout) override {
    return output_->WaitForRoom(timeout);
  }
  CharWindow window() const override;
  void ResumeInput() override { input_->Resume(); }
  void SetReceiver(CharReceiver* receiver) override { input_->SetReceiver(receiver); }
  std::vector<uint8_t> WaitingInput() const override { return input_->Waiting(); }
  void ReturnInput(std::span<const uint8_t> input) override { input_->Return(input); }
  Result<void> Finish() override;
  std::string Where() const override { return "standard input and output"; }

 private:
  CharStdio(EventLoop& loop, std::string name) : loop_(loop), name_(std::move(name)) {}
  Result<void> TakeInput(int in);
  Result<void> MakeRaw();
  void WaitForForeground();
  void StopWaiting();

  EventLoop& loop_;
  const std::string name_;
  int terminal_ = -1;         // input_'s descriptor, if it is a terminal
  int out_ = -1;              // of the caller's
  bool to_terminal_ = false;  // the output
  CharExitGuard raw_mode_;
  UniqueFd foreground_timer_;  // while another job has the terminal
  std::unique_ptr<CharInput> input_;
  std::unique_ptr<CharOutput> output_;
};

}  // namespace vmm
