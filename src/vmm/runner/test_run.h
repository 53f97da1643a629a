// Runs tests, several side by side, and prints what comes of them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/machine/host_signals.h"
#include "vmm/runner/output_queue.h"
#include "vmm/runner/running_test.h"
#include "vmm/runner/test_case.h"

namespace vmm {

struct TestRunOptions {
  unsigned jobs = 1;     // guests at a time
  bool as_list = false;  // a line a test and the output of those that fail; else output as it comes
  bool console = false;  // show the guests' consoles
};

// One thread, poll(2). The guests are processes of their own (GuestProcess).
class TestRun {
 public:
  TestRun(const std::vector<TestCase>& tests, const TestRunOptions& options);
  ~TestRun();

  // A result for each test, in their order. Errors: kOsError.
  Result<std::vector<TestResult>> Run();
  bool interrupted() const { return interrupts_ > 0; }
  // errno of what stdout refused; 0: it took all.
  int output_error() const { return out_.error(); }

 private:
  class Listener;
  struct Slot {
    size_t index = 0;
    std::unique_ptr<Listener> listener;
    std::unique_ptr<RunningTest> test;
  };

  bool StartSome();
  void Wait();
  int Timeout() const;
  void OnSignals();
  void Collect();
  void Report(const TestResult& result);
  void ReportInList(const TestResult& result);

  const std::vector<TestCase>& tests_;
  const TestRunOptions options_;
  OutputQueue out_, err_;
  std::unique_ptr<HostSignals> signals_;
  int child_ended_ = -1;  // a signalfd of SIGCHLD
  std::vector<Slot> running_;
  std::vector<TestResult> results_;
  size_t next_ = 0, ended_ = 0;
  unsigned interrupts_ = 0;
};

// The last lines that the guest printed, each behind "  | "; empty when there are none.
std::string ConsoleTail(const TestResult& result);

}  // namespace vmm
