// A test whose guest runs: hears what comes out of its process and makes the result of it.
#pragma once

#include <poll.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "vmm/runner/channel_reader.h"
#include "vmm/runner/guest_process.h"
#include "vmm/runner/test_case.h"

namespace vmm {

// Who sees what a test's guest writes, as it comes.
class TestListener {
 public:
  virtual ~TestListener() = default;
  enum class Stream : uint8_t { kOut, kErr, kConsole, kMessages };
  virtual void OnOutput(Stream stream, std::string_view text) = 0;
  // False: it has enough for now; what the guest writes is left where it is.
  virtual bool WantsMore() const = 0;
};

class RunningTest {
 public:
  using Clock = std::chrono::steady_clock;
  // A guest whose command has ended has this long to go down; one that is told to stop, this long;
  // and what runs on so long behind its time limit is a defect of vmm.
  static constexpr std::chrono::seconds kGoDown{5}, kStop{3}, kBeyondLimit{60};

  RunningTest(const TestCase& test, TestListener& listener) : test_(test), listener_(listener) {}

  // kOsError: the host has no room for another process.
  Result<void> Start(const std::function<void()>& in_child);

  // What poll(2) is to look at, in any order.
  void AddPolls(std::vector<pollfd>& polls) const;
  // Reads what is there.
  void Hear();
  // When OnDeadline() is to be called, if not before.
  std::optional<Clock::time_point> deadline() const { return deadline_; }
  void OnDeadline();
  // The user wants it to end.
  void Interrupt(bool at_once);
  // True once the process has ended and the listener takes the rest of what it wrote.
  bool HasEnded();
  TestResult TakeResult();

  // In the child of another test: its descriptors are not for there.
  void Abandon();

 private:
  bool Takes() const { return ended_ || listener_.WantsMore(); }
  void HearChannel();
  void HearPipe(UniqueFd& fd, LastBytes* keep, TestListener::Stream stream);
  void HearOutcome();
  void OnFrame(const ChannelReader::Frame& frame);
  void Acknowledge();
  void Damage(std::string what);
  void SetDeadline(std::chrono::milliseconds from_now) { deadline_ = Clock::now() + from_now; }

  const TestCase& test_;
  TestListener& listener_;
  std::unique_ptr<GuestProcess> process_;
  ChannelReader reader_;
  TestEvidence evidence_;
  TestResult result_;
  std::vector<uint8_t> outcome_;
  Clock::time_point started_;
  std::optional<Clock::time_point> deadline_;
  bool told_to_stop_ = false;
  bool ended_ = false;
};

}  // namespace vmm
