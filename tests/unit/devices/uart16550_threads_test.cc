// The UART between a vCPU thread and the I/O thread; worth most under the thread sanitizer.
#include <catch2/catch.hpp>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "../support/fakes.h"
#include "legacy-devices/uart16550.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/core/time/host_clock.h"

using namespace legacy;
using namespace std::chrono_literals;

namespace {

// Offers its text on the I/O thread, sixteen bytes at a time or fewer.
class LoopBackend final : public vmm::CharBackend {
 public:
  LoopBackend(vmm::EventLoop& loop, std::string text) : loop_(loop), text_(std::move(text)) {}

  void Write(std::span<const uint8_t> data) override {
    std::lock_guard lock(mutex_);
    output_.append(data.begin(), data.end());
  }
  void ResumeInput() override {
    loop_.Post([this] { OfferInput(); });
  }
  void SetReceiver(vmm::CharReceiver* receiver) override { receiver_ = receiver; }

  std::string output() {
    std::lock_guard lock(mutex_);
    return output_;
  }

 private:
  void OfferInput() {
    while (offset_ < text_.size()) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(text_.data()) + offset_;
      const size_t taken = receiver_->OnInput({bytes, text_.size() - offset_});
      if (taken == 0) return;
      offset_ += taken;
    }
  }

  vmm::EventLoop& loop_;
  const std::string text_;
  size_t offset_ = 0;  // I/O thread only
  vmm::CharReceiver* receiver_ = nullptr;
  std::mutex mutex_;
  std::string output_;
};

// Where a vCPU sleeps in HLT.
class WakingLine final : public vmm::IrqLine {
 public:
  void Set(bool level) override {
    std::lock_guard lock(mutex_);
    high_ = level;
    changed_.notify_all();
  }
  bool WaitHigh() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 30s, [this] { return high_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool high_ = false;
};

}  // namespace

TEST_CASE("an echoing guest gets every byte by interrupt while the host types", "[threads]") {
  std::string typed;
  for (int i = 0; i < 5000; ++i) typed += static_cast<char>('a' + i % 26);

  vmm::HostClock clock({1'000'000'000, vmm::TscFrequency::Source::kSynthetic});
  auto loop = *vmm::EventLoop::Create(clock);
  clock.Start();
  LoopBackend backend(*loop, typed);
  WakingLine irq;
  {
    Uart16550 uart("serial0", irq, backend, clock, *loop);
    std::thread io([&] { loop->Run(); });
    backend.ResumeInput();  // what was typed before the guest came up

    fakes::Out(uart, 3, 0x83);
    fakes::Out(uart, 0, 0x0001, 2);
    fakes::Out(uart, 3, 0x03);
    fakes::Out(uart, 2, 0x87);  // trigger at 8: the rest comes by time-out
    fakes::Out(uart, 4, 0x0B);
    fakes::Out(uart, 1, 0x01);
    size_t got = 0;
    while (got < typed.size() && irq.WaitHigh()) {
      while ((fakes::In(uart, 5) & 0x01) != 0) {
        fakes::Out(uart, 0, fakes::In(uart, 0));
        ++got;
      }
    }
    loop->Stop();
    io.join();
    CHECK(got == typed.size());
  }
  CHECK(backend.output() == typed);
}
