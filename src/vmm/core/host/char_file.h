// A console that is only written down: to a file, a FIFO or a device of the host.
#pragma once

#include <memory>
#include <string>

#include "vmm/core/base/result.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/host/char_output.h"

namespace vmm {

// What stands beside a file that was full: "logs/console.1.log" of "logs/console.log".
std::string OlderFile(const std::string& path);

// A FIFO may be opened before its reader, who then finds what fits into it and the ring.
class CharFile final : public CharBackend {
 public:
  struct Options {
    std::string path;
    bool truncate = false;  // else appends
    uint64_t limit = 0;     // bytes; a file that is full becomes OlderFile(). 0: no limit
    std::string name;       // for the log
  };
  // kConsoleLost when the file can't be written.
  static Result<std::unique_ptr<CharFile>> Open(EventLoop& loop, const Options& options);
  ~CharFile() override { output_->Finish(); }

  void Write(std::span<const uint8_t> data) override { output_->Write(data); }
  size_t Offer(std::span<const uint8_t> data) override { return output_->Offer(data); }
  unsigned reader() const override { return output_->reader(); }
  void SetWatcher(CharWatcher* watcher) override { output_->SetWatcher(watcher); }
  bool WaitForRoom(std::chrono::nanoseconds timeout) override {
    return output_->WaitForRoom(timeout);
  }
  void ResumeInput() override {}
  void SetReceiver(CharReceiver*) override {}
  Result<void> Finish() override { return CharOutput::Verdict(output_->Finish(), path_); }
  std::string Where() const override { return path_; }

 private:
  CharFile(std::string path, std::unique_ptr<CharOutput> output)
      : path_(std::move(path)), output_(std::move(output)) {}

  const std::string path_;
  std::unique_ptr<CharOutput> output_;
};

}  // namespace vmm
