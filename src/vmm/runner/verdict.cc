#include "vmm/runner/verdict.h"

#include <fmt/format.h>
#include <string.h>

namespace vmm {
namespace {

std::string SignalName(int number) {
  const char* name = sigabbrev_np(number);
  return name == nullptr ? fmt::format("signal {}", number) : fmt::format("SIG{}", name);
}

TestEnd Make(TestVerdict verdict, ExitCode code, std::string reason) {
  return {verdict, code, {}, std::move(reason)};
}

TestEnd OfCommand(const ChannelState::End& end) {
  if (end.how == test_channel::How::kKilled) {
    TestEnd killed = Make(TestVerdict::kKilled, ExitCode::kGuestFailure,
                          fmt::format("the command was killed by {}", SignalName(end.number)));
    killed.status = 128 + end.number;
    return killed;
  }
  if (end.number == 0) {
    TestEnd pass = Make(TestVerdict::kPass, ExitCode::kSuccess, "the command exited with 0");
    pass.status = 0;
    return pass;
  }
  TestEnd fail = Make(TestVerdict::kFail, ExitCode::kGuestFailure,
                      fmt::format("the command exited with {}", end.number));
  fail.status = end.number;
  return fail;
}

TestVerdict VerdictOf(ExitCode code) {
  switch (code) {
    case ExitCode::kSuccess:
      return TestVerdict::kPass;
    case ExitCode::kGuestFailure:
      return TestVerdict::kFail;
    case ExitCode::kGuestPanic:
      return TestVerdict::kPanic;
    case ExitCode::kTripleFault:
      return TestVerdict::kTripleFault;
    case ExitCode::kGuestHang:
      return TestVerdict::kHang;
    case ExitCode::kWallTimeout:
      return TestVerdict::kTimeout;
    case ExitCode::kIdleTimeout:
      return TestVerdict::kIdleTimeout;
    case ExitCode::kGuestReset:
      return TestVerdict::kReset;
    case ExitCode::kStopped:
      return TestVerdict::kStopped;
    default:
      return TestVerdict::kError;
  }
}

// What the guest was at.
std::string_view Phase(const ChannelState& channel) {
  if (channel.over()) return "after the command ended";
  if (channel.started) return "while the command ran";
  return channel.greeted ? "before the command began" : "before the kernel started the init";
}

}  // namespace

std::string_view Name(TestVerdict verdict) {
  switch (verdict) {
    case TestVerdict::kPass:
      return "pass";
    case TestVerdict::kFail:
      return "fail";
    case TestVerdict::kKilled:
      return "killed";
    case TestVerdict::kPanic:
      return "panic";
    case TestVerdict::kTripleFault:
      return "triple-fault";
    case TestVerdict::kHang:
      return "hang";
    case TestVerdict::kTimeout:
      return "timeout";
    case TestVerdict::kIdleTimeout:
      return "idle-timeout";
    case TestVerdict::kReset:
      return "reset";
    case TestVerdict::kBootFailed:
      return "boot-failed";
    case TestVerdict::kNoStatus:
      return "no-status";
    case TestVerdict::kStopped:
      return "stopped";
    case TestVerdict::kError:
      return "error";
    case TestVerdict::kNotRun:
      return "not-run";
  }
  return "error";
}

bool IsFailure(TestVerdict verdict) {
  return verdict != TestVerdict::kPass && verdict < TestVerdict::kStopped;
}

TestEnd Judge(const TestEvidence& evidence) {
  const ChannelState& channel = evidence.channel;
  if (evidence.interrupted && !channel.end) {
    return Make(TestVerdict::kStopped, ExitCode::kStopped, "stopped from outside");
  }
  if (!evidence.outcome && !channel.over()) {
    return Make(TestVerdict::kError, ExitCode::kInternal,
                evidence.process_signal != 0
                    ? fmt::format("the process of the guest was killed by {}",
                                  SignalName(evidence.process_signal))
                    : "the process of the guest ended without a word");
  }
  RunOutcome none;
  none.code = ExitCode::kStopped;
  const RunOutcome& outcome = evidence.outcome ? *evidence.outcome : none;
  const TestVerdict of_guest = VerdictOf(outcome.code);
  if (!evidence.has_command) return Make(of_guest, outcome.code, outcome.reason);
  // A kernel that breaks on its way out is broken, whatever the command said.
  if (of_guest == TestVerdict::kPanic || of_guest == TestVerdict::kTripleFault) {
    return Make(of_guest, outcome.code, fmt::format("{}, {}", outcome.reason, Phase(channel)));
  }
  if (channel.end) return OfCommand(*channel.end);
  if (!channel.problem.empty()) {
    return Make(TestVerdict::kBootFailed, ExitCode::kBootFailed, channel.problem);
  }
  if (!evidence.damage.empty()) {
    return Make(TestVerdict::kNoStatus, ExitCode::kNoStatus, evidence.damage);
  }
  switch (of_guest) {
    case TestVerdict::kPass:
    case TestVerdict::kFail:
    case TestVerdict::kReset:
      break;
    case TestVerdict::kError:
    case TestVerdict::kStopped:
      return Make(of_guest, outcome.code, outcome.reason);
    default:
      return Make(of_guest, outcome.code, fmt::format("{}, {}", outcome.reason, Phase(channel)));
  }
  const std::string reason = fmt::format("{} {}", outcome.reason, Phase(channel));
  return channel.started ? Make(TestVerdict::kNoStatus, ExitCode::kNoStatus, reason)
                         : Make(TestVerdict::kBootFailed, ExitCode::kBootFailed, reason);
}

}  // namespace vmm
