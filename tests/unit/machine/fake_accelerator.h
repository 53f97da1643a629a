// An engine whose processors take their steps from scripts: a whole machine under test without any
// engine. The scripts reach the buses as a guest would.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "fake_vcpu.h"

namespace vmm::test {

// What a script may do.
class FakeGuest {
 public:
  FakeGuest(FakeVcpu& cpu, const VmParts& parts) : cpu_(cpu), parts_(parts) {}

  FakeVcpu& cpu() { return cpu_; }
  GuestMemory& memory() { return parts_.memory; }
  void Out(uint16_t port, uint32_t value, size_t size = 1) {
    parts_.ports.Write(port, {reinterpret_cast<const uint8_t*>(&value), size});
  }
  uint32_t In(uint16_t port, size_t size = 1) {
    uint32_t value = 0;
    parts_.ports.Read(port, {reinterpret_cast<uint8_t*>(&value), size});
    return value;
  }
  void Print(std::string_view text) {
    for (const char c : text) Out(0x3F8, static_cast<uint8_t>(c));
  }

 private:
  FakeVcpu& cpu_;
  const VmParts& parts_;
};

using GuestStep = std::function<std::optional<RunResult>(FakeGuest&)>;

class FakeVm final : public Vm {
 public:
  FakeVm(const VmParts& parts, GuestStep step) : parts_(parts), step_(std::move(step)) {}

  Result<std::unique_ptr<Vcpu>> CreateVcpu(unsigned id) override {
    auto cpu = std::make_unique<FakeVcpu>(id, [this](FakeVcpu& self) {
      FakeGuest guest(self, parts_);
      return step_(guest);
    });
    cpus.push_back(cpu.get());
    return cpu;
  }
  void SendMsi(MsiMessage) override { ++messages; }
  void ExtIntChanged() override { ++ext_int_changes; }
  void InjectNmi(unsigned) override {}
  void IoapicRouteChanged(unsigned, MsiMessage, bool, bool) override { ++route_changes; }
  Result<void> AddIoEventFd(bool, uint64_t, unsigned, int) override { return {}; }
  void OnHostWrite(GuestPhys, uint64_t length) override { host_written += length; }
  Result<void> SetDebugPoints(std::span<const DebugPoint> wanted, const CpuState&) override {
    if (wanted.size() > most_points) return Fail(ExitCode::kUnavailable, "no more breakpoints");
    points.assign(wanted.begin(), wanted.end());
    return {};
  }

  std::vector<FakeVcpu*> cpus;
  std::atomic<unsigned> messages{0}, ext_int_changes{0}, route_changes{0};
  uint64_t host_written = 0;
  std::vector<DebugPoint> points;
  size_t most_points = 4;

 private:
  const VmParts parts_;
  const GuestStep step_;
};

class FakeAccelerator final : public Accelerator {
 public:
  // `made` gets the Vm, which belongs to the machine.
  FakeAccelerator(GuestStep step, FakeVm** made) : step_(std::move(step)), made_(made) {}

  std::string_view name() const override { return "interpreter"; }
  Result<std::unique_ptr<Vm>> CreateVm(const VmParts& parts) override {
    auto vm = std::make_unique<FakeVm>(parts, step_);
    *made_ = vm.get();
    return vm;
  }

 private:
  const GuestStep step_;
  FakeVm** const made_;
};

}  // namespace vmm::test
