// One test of `vmm test` as plain data, and what came of it.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/machine/run_outcome.h"
#include "vmm/runner/verdict.h"

namespace vmm {

struct TestCase {
  std::string name;
  std::vector<std::string> command;  // words; empty: the guest's own end is the verdict
  Config config;                     // of the machine, with the test's limits
  std::filesystem::path rootfs;      // a directory or a disk image; empty: none
  std::filesystem::path modules;     // a directory of the kernel's modules; empty: none
  std::vector<std::string> load;     // modules to load besides those that the devices need
  std::filesystem::path busybox;     // empty: looked for on the host
};

// The end of a text that may be long.
class LastBytes {
 public:
  static constexpr size_t kMost = 1024 * 1024;

  void Add(std::string_view text) {
    text_.append(text);
    if (text_.size() < 2 * kMost) return;
    lost_ += text_.size() - kMost;
    text_.erase(0, text_.size() - kMost);
  }
  // With a line in front that tells of what is missing.
  std::string Text() const {
    const size_t more = text_.size() > kMost ? text_.size() - kMost : 0;
    if (lost_ + more == 0) return text_;
    return "[" + std::to_string(lost_ + more) + " bytes before this are left out]\n" +
           text_.substr(more);
  }

 private:
  std::string text_;
  size_t lost_ = 0;
};

struct TestResult {
  std::string name;
  TestEnd end;
  std::optional<RunOutcome> outcome;  // of the machine, if it told
  std::string kernel;                 // its release; empty: it never said
  std::vector<std::string> notes;     // of the init in the guest
  LastBytes out, err;                 // of the command; without one, `out` is the console
  LastBytes messages;                 // of vmm about this guest
  std::chrono::milliseconds duration{};
};

}  // namespace vmm
