// What a device is given in a test instead of a machine: wires, time and backends that a test can
// drive and look at. Single-threaded.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vmm/core/bus/device.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/time/clock.h"

namespace fakes {

class FakeIrqLine final : public vmm::IrqLine {
 public:
  void Set(bool level) override {
    rises += level && !high ? 1 : 0;
    high = level;
  }
  bool high = false;
  int rises = 0;  // what an edge-triggered controller would have seen
};

// Time that moves only when told, and fires the timers it passes in order.
class FakeTime final : public vmm::Clock, public vmm::TimerService {
 public:
  vmm::Nanoseconds Now() const override { return now_; }
  vmm::Nanoseconds WallTime() const override { return wall_start + now_; }
  uint64_t Tsc() const override { return static_cast<uint64_t>(now_.count()); }
  uint64_t tsc_hz() const override { return 1'000'000'000; }

  std::unique_ptr<vmm::Timer> NewTimer(std::function<void()> callback) override {
    return std::make_unique<FakeTimer>(*this, std::move(callback));
  }

  void Advance(vmm::Nanoseconds by) {
    const vmm::Nanoseconds end = now_ + by;
    while (FakeTimer* next = NextUntil(end)) {
      now_ = std::max(now_, next->deadline);
      next->armed = false;
      next->callback();
    }
    now_ = end;
  }
  // The host was busy: the time passes, and only then do the timers fire.
  void Stall(vmm::Nanoseconds by) {
    now_ += by;
    Advance(vmm::Nanoseconds(0));
  }
  int armed() const {
    return static_cast<int>(
        std::count_if(timers_.begin(), timers_.end(), [](FakeTimer* t) { return t->armed; }));
  }

  vmm::Nanoseconds wall_start{};

 private:
  struct FakeTimer final : vmm::Timer {
    FakeTimer(FakeTime& owner, std::function<void()> f) : time(owner), callback(std::move(f)) {
      time.timers_.push_back(this);
    }
    ~FakeTimer() override { std::erase(time.timers_, this); }
    void Arm(vmm::Nanoseconds at) override {
      deadline = at;
      armed = true;
    }
    void Disarm() override { armed = false; }

    FakeTime& time;
    std::function<void()> callback;
    vmm::Nanoseconds deadline{};
    bool armed = false;
  };

  FakeTimer* NextUntil(vmm::Nanoseconds end) {
    FakeTimer* next = nullptr;
    for (FakeTimer* t : timers_)
      if (t->armed && t->deadline <= end && (!next || t->deadline < next->deadline)) next = t;
    return next;
  }

  vmm::Nanoseconds now_{};
  std::vector<FakeTimer*> timers_;
};

// A host end that holds back what is not taken, as the real ones do. Deliver() is the I/O thread.
class FakeCharBackend final : public vmm::CharBackend {
 public:
  void Write(std::span<const uint8_t> data) override { output.append(data.begin(), data.end()); }
  void ResumeInput() override { resumed = true; }
  void SetReceiver(vmm::CharReceiver* r) override { receiver = r; }

  void Type(const std::string& text) {
    held.insert(held.end(), text.begin(), text.end());
    if (!waiting) OfferHeld();
  }
  // What the I/O thread does some time after ResumeInput().
  void Deliver() {
    if (!std::exchange(resumed, false)) return;
    waiting = false;
    OfferHeld();
  }

  std::string output;
  std::vector<uint8_t> held;  // typed and not yet taken
  vmm::CharReceiver* receiver = nullptr;
  bool resumed = false;
  bool waiting = false;  // for ResumeInput()

 private:
  void OfferHeld() {
    const size_t taken = receiver->OnInput(held);
    held.erase(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(taken));
    waiting = !held.empty();
  }
};

// A device's registers as a driver sees them.
inline uint64_t In(vmm::Device& device, uint64_t offset, size_t size = 1) {
  uint8_t data[8] = {};
  device.Read(offset, std::span(data, size));
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value |= uint64_t{data[i]} << (8 * i);
  return value;
}
inline void Out(vmm::Device& device, uint64_t offset, uint64_t value, size_t size = 1) {
  uint8_t data[8] = {};
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<uint8_t>(value >> (8 * i));
  device.Write(offset, std::span<const uint8_t>(data, size));
}

// A repeatable stream of numbers for tests that poke a device at random.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {  // xorshift64*
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1DULL;
  }
  uint64_t Below(uint64_t n) { return (Next() >> 16) % n; }

 private:
  uint64_t state_;
};

}  // namespace fakes
