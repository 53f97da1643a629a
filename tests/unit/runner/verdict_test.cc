#include "vmm/runner/verdict.h"

#include <catch2/catch.hpp>

#include "vmm/runner/outcome_codec.h"

namespace vmm::test {
namespace {

using test_channel::How;

enum class Got { kNothing, kHello, kStarted, kProblem };

TestEvidence Evidence(Got got, std::optional<ExitCode> code) {
  TestEvidence evidence;
  evidence.channel.greeted = got != Got::kNothing;
  evidence.channel.started = got == Got::kStarted;
  if (got == Got::kProblem) evidence.channel.problem = "no disk";
  if (code) {
    evidence.outcome.emplace();
    evidence.outcome->code = *code;
    evidence.outcome->reason = "it ended so";
  }
  return evidence;
}

TestEvidence Ended(How how, uint8_t number, std::optional<ExitCode> code) {
  TestEvidence evidence = Evidence(Got::kStarted, code);
  evidence.channel.end = ChannelState::End{how, number};
  return evidence;
}

TEST_CASE("The command's status is the verdict, however the guest went down after it",
          "[verdict]") {
  for (const auto code : {std::optional(ExitCode::kSuccess), std::optional(ExitCode::kGuestHang),
                          std::optional(ExitCode::kStopped), std::optional(ExitCode::kWallTimeout),
                          std::optional<ExitCode>()}) {
    const TestEnd pass = Judge(Ended(How::kExited, 0, code));
    CHECK(pass.verdict == TestVerdict::kPass);
    CHECK(pass.code == ExitCode::kSuccess);
    CHECK(pass.status == 0);
    const TestEnd fail = Judge(Ended(How::kExited, 81, code));
    CHECK(fail.verdict == TestVerdict::kFail);
    CHECK(fail.code == ExitCode::kGuestFailure);
    CHECK(fail.status == 81);
    const TestEnd killed = Judge(Ended(How::kKilled, 11, code));
    CHECK(killed.verdict == TestVerdict::kKilled);
    CHECK(killed.status == 139);
    CHECK(killed.reason == "the command was killed by SIGSEGV");
  }
}

TEST_CASE("A kernel that panics after the command has failed all the same", "[verdict]") {
  const TestEnd end = Judge(Ended(How::kExited, 0, ExitCode::kGuestPanic));
  CHECK(end.verdict == TestVerdict::kPanic);
  CHECK(end.code == ExitCode::kGuestPanic);
  CHECK(end.reason == "it ended so, after the command ended");
  CHECK_FALSE(end.status);
}

TEST_CASE("Each end of a guest without a status has its own verdict and code", "[verdict]") {
  const std::pair<ExitCode, TestVerdict> ends[] = {
      {ExitCode::kGuestPanic, TestVerdict::kPanic},
      {ExitCode::kTripleFault, TestVerdict::kTripleFault},
      {ExitCode::kGuestHang, TestVerdict::kHang},
      {ExitCode::kWallTimeout, TestVerdict::kTimeout},
      {ExitCode::kIdleTimeout, TestVerdict::kIdleTimeout},
  };
  for (const auto& [code, verdict] : ends) {
    for (const Got got : {Got::kNothing, Got::kHello, Got::kStarted}) {
      const TestEnd end = Judge(Evidence(got, code));
      CHECK(end.verdict == verdict);
      CHECK(end.code == code);
      CHECK_FALSE(end.status);
      CHECK(IsFailure(end.verdict));
    }
  }
  CHECK(Judge(Evidence(Got::kNothing, ExitCode::kWallTimeout)).reason ==
        "it ended so, before the kernel started the init");
  CHECK(Judge(Evidence(Got::kHello, ExitCode::kWallTimeout)).reason ==
        "it ended so, before the command began");
  CHECK(Judge(Evidence(Got::kStarted, ExitCode::kWallTimeout)).reason ==
        "it ended so, while the command ran");
}

TEST_CASE("A guest that powers off, resets or claims success without a status has not passed",
          "[verdict]") {
  for (const ExitCode code : {ExitCode::kSuccess, ExitCode::kGuestFailure, ExitCode::kGuestReset}) {
    for (const Got got : {Got::kNothing, Got::kHello}) {
      CHECK(Judge(Evidence(got, code)).verdict == TestVerdict::kBootFailed);
      CHECK(Judge(Evidence(got, code)).code == ExitCode::kBootFailed);
    }
    CHECK(Judge(Evidence(Got::kStarted, code)).verdict == TestVerdict::kNoStatus);
    CHECK(Judge(Evidence(Got::kStarted, code)).code == ExitCode::kNoStatus);
  }
  const TestEnd problem = Judge(Evidence(Got::kProblem, ExitCode::kSuccess));
  CHECK(problem.verdict == TestVerdict::kBootFailed);
  CHECK(problem.reason == "no disk");
}

TEST_CASE("Damage on the line is told, and nothing that stood on it counts", "[verdict]") {
  TestEvidence evidence = Evidence(Got::kStarted, ExitCode::kStopped);
  evidence.damage = "somebody wrote";
  CHECK(Judge(evidence).verdict == TestVerdict::kNoStatus);
  CHECK(Judge(evidence).reason == "somebody wrote");
  evidence.outcome->code = ExitCode::kGuestPanic;
  CHECK(Judge(evidence).verdict == TestVerdict::kPanic);
}

TEST_CASE("What is vmm's own or the host's is an error and no failure of the guest", "[verdict]") {
  for (const ExitCode code : {ExitCode::kConfigInvalid, ExitCode::kFileMissing, ExitCode::kInternal,
                              ExitCode::kHostMemory, ExitCode::kEngineFailed}) {
    const TestEnd end = Judge(Evidence(Got::kNothing, code));
    CHECK(end.verdict == TestVerdict::kError);
    CHECK(end.code == code);
    CHECK(end.reason == "it ended so");
    CHECK_FALSE(IsFailure(end.verdict));
  }
  TestEvidence lost = Evidence(Got::kStarted, {});
  lost.process_signal = 9;
  CHECK(Judge(lost).verdict == TestVerdict::kError);
  CHECK(Judge(lost).reason == "the process of the guest was killed by SIGKILL");
  lost.interrupted = true;
  CHECK(Judge(lost).verdict == TestVerdict::kStopped);
}

TEST_CASE("Without a command the guest's own end is the verdict", "[verdict]") {
  TestEvidence evidence = Evidence(Got::kNothing, ExitCode::kSuccess);
  evidence.has_command = false;
  CHECK(Judge(evidence).verdict == TestVerdict::kPass);
  evidence.outcome->code = ExitCode::kGuestFailure;
  CHECK(Judge(evidence).verdict == TestVerdict::kFail);
  evidence.outcome->code = ExitCode::kGuestReset;
  CHECK(Judge(evidence).verdict == TestVerdict::kReset);
}

TEST_CASE("An outcome comes out of its bytes as it went in, and from nothing less than all of them",
          "[verdict]") {
  RunOutcome outcome;
  outcome.code = ExitCode::kGuestPanic;
  outcome.reason = "Kernel panic";
  outcome.engine = "bt";
  outcome.engine_reason = std::string("a\0b", 3);
  outcome.uptime_ms = 12345;
  outcome.guest_value = 0xFFFFFFFF;
  outcome.console_tail = {"one", "", "three"};
  const std::vector<uint8_t> bytes = EncodeOutcome(outcome);
  const auto again = DecodeOutcome(bytes);
  REQUIRE(again);
  CHECK(again->code == outcome.code);
  CHECK(again->reason == outcome.reason);
  CHECK(again->engine == outcome.engine);
  CHECK(again->engine_reason == outcome.engine_reason);
  CHECK(again->uptime_ms == outcome.uptime_ms);
  CHECK(again->guest_value == outcome.guest_value);
  CHECK(again->console_tail == outcome.console_tail);
  for (size_t size = 0; size < bytes.size(); ++size) {
    CHECK_FALSE(DecodeOutcome(std::span(bytes).first(size)));
  }
  std::vector<uint8_t> longer = bytes;
  longer.push_back(0);
  CHECK_FALSE(DecodeOutcome(longer));
}

}  // namespace
}  // namespace vmm::test
