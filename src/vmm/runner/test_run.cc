#include "vmm/runner/test_run.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace vmm {

namespace {

constexpr size_t kMostWaiting = 256 * 1024;  // bytes that stdout has not taken

// What the tail of the console says something about.
bool TailMatters(TestVerdict verdict) {
  return verdict != TestVerdict::kPass && verdict != TestVerdict::kFail &&
         verdict != TestVerdict::kKilled && verdict != TestVerdict::kNotRun;
}

void AddBlock(std::string& to, std::string_view title, const std::string& text) {
  if (text.empty()) return;
  to += fmt::format("  {}:\n", title);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    to += fmt::format("  | {}\n", std::string_view(text).substr(at, end - at));
    at = end + 1;
  }
}

}  // namespace

std::string ConsoleTail(const TestResult& result) {
  std::string text;
  if (!result.outcome || !TailMatters(result.end.verdict)) return text;
  for (const std::string& line : result.outcome->console_tail) {
    text += fmt::format("{}\n", PlainText(line));
  }
  std::string block;
  AddBlock(block, "the last lines of the guest's console", text);
  return block;
}

class TestRun::Listener final : public TestListener {
 public:
  explicit Listener(TestRun& run) : run_(run) {}
  void OnOutput(Stream stream, std::string_view text) override {
    if (stream == Stream::kConsole && run_.options_.console) run_.err_.Add(text);
    if (run_.options_.as_list || stream == Stream::kConsole) return;
    (stream == Stream::kOut ? run_.out_ : run_.err_).Add(text);
  }
  bool WantsMore() const override {
    return run_.interrupted() ||
           (run_.out_.size() < kMostWaiting && run_.err_.size() < kMostWaiting);
  }

 private:
  TestRun& run_;
};

TestRun::TestRun(const std::vector<TestCase>& tests, const TestRunOptions& options)
    : tests_(tests), options_(options), out_(STDOUT_FILENO), err_(STDERR_FILENO) {}

TestRun::~TestRun() {
  if (child_ended_ >= 0) close(child_ended_);
}

Result<std::vector<TestResult>> TestRun::Run() {
  auto signals = HostSignals::Create();
  if (!signals) return tl::unexpected(std::move(signals.error()));
  signals_ = std::move(*signals);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  child_ended_ = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
  if (child_ended_ < 0) {
    return FailErrno(ExitCode::kOsError, "can't make a signal descriptor", errno);
  }
  results_.resize(tests_.size());
  while (StartSome() || !running_.empty()) {
    Wait();
    Collect();
  }
  for (; next_ < tests_.size(); ++next_) {
    results_[next_].name = tests_[next_].name;
    results_[next_].end = {TestVerdict::kNotRun, ExitCode::kStopped, {}, "stopped before its turn"};
  }
  while (!interrupted() && (!out_.empty() || !err_.empty())) Wait();
  return std::move(results_);
}

// False: there is none left to start.
bool TestRun::StartSome() {
  while (next_ < tests_.size() && running_.size() < options_.jobs && !interrupted()) {
    Slot slot{next_++, std::make_unique<Listener>(*this), nullptr};
    slot.test = std::make_unique<RunningTest>(tests_[slot.index], *slot.listener);
    const auto in_child = [this] {
      for (Slot& other : running_) other.test->Abandon();
      signals_.reset();
      close(child_ended_);
    };
    if (auto started = slot.test->Start(in_child); !started) {
      TestResult& result = results_[slot.index];
      result.name = tests_[slot.index].name;
      result.end = {TestVerdict::kError, started.error().code, {}, started.error().message};
      Report(result);
      continue;
    }
    running_.push_back(std::move(slot));
  }
  return next_ < tests_.size() && !interrupted();
}

int TestRun::Timeout() const {
  auto nearest = RunningTest::Clock::time_point::max();
  for (const Slot& slot : running_)
    nearest = std::min(nearest, slot.test->deadline().value_or(nearest));
  if (nearest == RunningTest::Clock::time_point::max()) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(nearest - RunningTest::Clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 60'000));
}

void TestRun::Wait() {
  std::vector<pollfd> polls = {{signals_->fd(), POLLIN, 0}, {child_ended_, POLLIN, 0}};
  for (const OutputQueue* queue : {&out_, &err_}) {
    if (!queue->empty()) polls.push_back({queue->fd(), POLLOUT, 0});
  }
  for (const Slot& slot : running_) slot.test->AddPolls(polls);
  poll(polls.data(), polls.size(), Timeout());
  OnSignals();
  out_.Flush();
  err_.Flush();
  const auto now = RunningTest::Clock::now();
  for (Slot& slot : running_) {
    slot.test->Hear();
    if (const auto deadline = slot.test->deadline(); deadline && *deadline <= now) {
      slot.test->OnDeadline();
    }
  }
}

void TestRun::OnSignals() {
  signalfd_siginfo ignored;
  while (read(child_ended_, &ignored, sizeof ignored) == sizeof ignored) {
  }
  for (const int number : signals_->Take()) {
    if (number == SIGUSR1 || number == SIGUSR2) continue;
    ++interrupts_;
    for (Slot& slot : running_) slot.test->Interrupt(/*at_once=*/interrupts_ > 1);
  }
}

void TestRun::Collect() {
  for (size_t i = 0; i < running_.size();) {
    if (!running_[i].test->HasEnded()) {
      ++i;
      continue;
    }
    TestResult& result = results_[running_[i].index];
    result = running_[i].test->TakeResult();
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
    Report(result);
  }
}

void TestRun::Report(const TestResult& result) {
  ++ended_;
  if (options_.as_list) {
    ReportInList(result);
    return;
  }
  std::string text;
  for (const std::string& note : result.notes) text += fmt::format("vmm: the guest: {}\n", note);
  err_.Add(text + ConsoleTail(result));
}

void TestRun::ReportInList(const TestResult& result) {
  const TestEnd& end = result.end;
  const bool passed = end.verdict == TestVerdict::kPass;
  std::string text =
      fmt::format("[{}/{}] {} {} ({:.1f} s){}\n", ended_, tests_.size(), passed ? "ok  " : "FAIL",
                  result.name, static_cast<double>(result.duration.count()) / 1000,
                  passed ? "" : fmt::format(": {}: {}", Name(end.verdict), end.reason));
  if (!passed) {
    AddBlock(text, "stdout", result.out.Text());
    AddBlock(text, "stderr", result.err.Text());
    for (const std::string& note : result.notes) text += fmt::format("  the guest: {}\n", note);
    AddBlock(text, "vmm", result.messages.Text());
    text += ConsoleTail(result);
  }
  out_.Add(text);
}

}  // namespace vmm
