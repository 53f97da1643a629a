// What became of a test: the guest's end and what its init said, as one word. Pure logic.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "vmm/machine/run_outcome.h"
#include "vmm/runner/channel_reader.h"

namespace vmm {

// The words of docs/ci.md.
enum class TestVerdict : uint8_t {
  kPass,
  kFail,    // the command ended with another status than 0, or the guest says that it failed
  kKilled,  // a signal ended the command
  kPanic,   // from here on: the guest
  kTripleFault,
  kHang,
  kTimeout,
  kIdleTimeout,
  kReset,
  kBootFailed,  // it ended before the command began, or can't begin it
  kNoStatus,    // it ended before the command did
  kStopped,     // from outside
  kError,       // vmm could not run it
  kNotRun,      // stopped before its turn
};
std::string_view Name(TestVerdict verdict);
// Did the guest or its command not do what it should? Else: nobody knows, vmm could not find out.
bool IsFailure(TestVerdict verdict);

struct TestEnd {
  TestVerdict verdict = TestVerdict::kError;
  ExitCode code = ExitCode::kInternal;
  std::optional<int> status;  // of the command, 128 + n for a signal: what vmm ends with
  std::string reason;         // one line
};

struct TestEvidence {
  bool has_command = true;
  bool interrupted = false;  // the user ended it
  ChannelState channel;
  std::string damage;                 // of the channel; empty: none
  std::optional<RunOutcome> outcome;  // none: the process of the guest did not tell
  int process_signal = 0;             // that ended it; 0: none
};

TestEnd Judge(const TestEvidence& evidence);

}  // namespace vmm
