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

// A terminal on standard input is in raw mode while this exists. The end of the input ends nothing;
// an output that fails (its reader is gone, its disk full) is reported once and given up.
class CharStdio final : public CharBackend {
 public:
  // `name` for messages. Other descriptors than 0 and 1 are for tests. kConsoleLost when the output
  // is closed; kConfigInvalid when another CharStdio exists.
  static Result<std::unique_ptr<CharStdio>> Open(EventLoop& loop, std::string name, int in = 0,
                                                 int out = 1);
  ~CharStdio() override;

  void Write(std::span<const uint8_t> data) override { output_->Write(data); }
  void ResumeInput() override { input_->Resume(); }
  void SetReceiver(CharReceiver* receiver) override { input_->SetReceiver(receiver); }
  void Finish() override;
  std::string Where() const override { return "standard input and output"; }

 private:
  explicit CharStdio(std::string name) : name_(std::move(name)) {}
  Result<void> TakeInput(int in);

  const std::string name_;
  CharExitGuard raw_mode_;
  std::unique_ptr<CharInput> input_;
  std::unique_ptr<CharOutput> output_;
};

}  // namespace vmm
