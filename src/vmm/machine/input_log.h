// What came from outside during a deterministic run, as text, one input a line:
//
//   vmm-inputs 1
//   1204400000 serial0 6c730a
//   5000000000 power-button
//
// The time is the guest's, in nanoseconds; bytes are in hexadecimal.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/core/base/result.h"
#include "vmm/core/time/counted_time.h"

namespace vmm {

// MachineInput::source: the serial lines by their numbers, then these.
inline constexpr unsigned kPowerButtonInput = Config::kSerialPorts;

// Errors: kFileMissing, kNoPermission; kConfigInvalid with the line that is wrong, and why.
Result<std::vector<MachineInput>> ReadInputLog(const std::filesystem::path& path);

// On one thread at a time.
class InputLogWriter {
 public:
  // Replaces the file. kCannotCreate, kNoPermission.
  static Result<std::unique_ptr<InputLogWriter>> Create(const std::filesystem::path& path);
  void Write(const MachineInput& input);
  // All is on its way to the disk. kIoError when any of it could not be written.
  Result<void> Finish();

 private:
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  InputLogWriter(std::FILE* file, std::filesystem::path path)
      : file_(file), path_(std::move(path)) {}
  std::unique_ptr<std::FILE, Closer> file_;
  std::filesystem::path path_;
};

}  // namespace vmm
