// A byte stream over a connected socket that somebody else made: the line of a program that started
// this one.
#pragma once

#include <memory>
#include <string>

#include "vmm/core/base/result.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/host/char_input.h"
#include "vmm/core/host/char_output.h"

namespace vmm {

// When the other side is gone, what the guest prints goes nowhere.
class CharSocket final : public CharBackend {
 public:
  // `fd` is duplicated. kConsoleLost when it is no descriptor.
  static Result<std::unique_ptr<CharSocket>> Open(EventLoop& loop, int fd);
  ~CharSocket() override { output_->Finish(); }

  void Write(std::span<const uint8_t> data) override { output_->Write(data); }
  void ResumeInput() override { input_->Resume(); }
  void SetReceiver(CharReceiver* receiver) override { input_->SetReceiver(receiver); }
  std::vector<uint8_t> WaitingInput() const override { return input_->Waiting(); }
  void ReturnInput(std::span<const uint8_t> input) override { input_->Return(input); }
  Result<void> Finish() override {
    output_->Finish();
    return {};  // it writes to a reader only
  }

 private:
  CharSocket() = default;

  std::unique_ptr<CharInput> input_;
  std::unique_ptr<CharOutput> output_;
};

}  // namespace vmm
