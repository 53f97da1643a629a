// Time and wiring under a test's control, for the interrupt controllers and timers.
#pragma once

#include <vector>

#include "tests/support/fake_clock.h"
#include "vmm/core/irq/irq_line.h"

namespace vmm::test {

// A clock and its timers in one, for a chip that wants both.
struct FakeTime {
  FakeClock clock{2'000'000'000};
  FakeTimers timers{clock};

  void Advance(Nanoseconds by) { timers.Advance(by); }
  // The host was busy: time passes, and only then do the callbacks run.
  void Stall(Nanoseconds by) {
    clock.Advance(by);
    timers.Advance(Nanoseconds(0));
  }
};

struct FakePic final : ExtIntSource {
  bool intr = false;
  uint8_t vector = 0x30;
  bool IntrAsserted() const override { return intr; }
  uint8_t AcknowledgeInterrupt() override {
    intr = false;
    return vector;
  }
};

struct FakeEoiListener final : EoiListener {
  std::vector<int> eois;
  void OnEoi(uint8_t vector) override { eois.push_back(vector); }
};

struct FakeMsiSink final : MsiSink {
  std::vector<MsiMessage> sent;
  void SendMsi(MsiMessage message) override { sent.push_back(message); }
};

struct FakeLine final : IrqLine {
  bool level = false;
  int rises = 0;
  void Set(bool value) override {
    if (value && !level) ++rises;
    level = value;
  }
};

}  // namespace vmm::test
