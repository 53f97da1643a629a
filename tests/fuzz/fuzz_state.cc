// Any bytes as a saved machine, behind file, compression and checksum: a board that was loaded, or
// an error. What was loaded can be saved again and used.
#include <algorithm>
#include <cstdint>
#include <memory>

#include "vmm/core/base/check.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/core/state/cpu_state_check.h"
#include "vmm/core/time/host_clock.h"
#include "vmm/machine/board.h"
#include "vmm/machine/machine_difference.h"
#include "vmm/machine/saved_machine.h"

namespace {

class Bytes final : public vmm::ByteSource {
 public:
  explicit Bytes(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  vmm::Result<void> Read(std::span<uint8_t> out) override {
    if (out.size() > bytes_.size()) return vmm::Fail(vmm::ExitCode::kConfigInvalid, "its end");
    std::copy_n(bytes_.begin(), out.size(), out.begin());
    bytes_ = bytes_.subspan(out.size());
    return {};
  }

 private:
  std::span<const uint8_t> bytes_;
};

class Silence final : public vmm::CharBackend {
 public:
  void Write(std::span<const uint8_t>) override {}
  void ResumeInput() override {}
  void SetReceiver(vmm::CharReceiver*) override {}
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(2 * vmm::kMiB).value());
  static const vmm::CpuidPolicy cpuid = vmm::CpuidPolicy::Build({});
  static const vmm::Config config;
  static Silence silence;
  Bytes bytes({data, size});
  auto sections = vmm::ReadSections(bytes);
  if (!sections) return 0;
  if (vmm::ReadMemory(bytes, memory)) std::ranges::fill_n(memory.regions()[0].host, 65536, 0);

  if (auto description = sections->TakeBytes("machine", 1)) {
    vmm::DescribeDifference(*description, {});
  }
  if (auto cpu = sections->Take<vmm::CpuState>("cpu0")) {
    static_cast<void>(vmm::CheckCpuState(*cpu, cpuid));
  }
  vmm::HostClock clock({1'000'000'000, vmm::TscFrequency::Source::kSaved});
  auto loop = std::move(vmm::EventLoop::Create(clock).value());
  auto board = std::move(
      vmm::Board::Create(
          {config, memory, clock, *loop, {&silence, &silence, &silence, &silence}, silence},
          {[] {}, [](std::string_view) {}, [](uint32_t) {}, [] {}})
          .value());
  // Half of a machine is loaded then, which is still one that can be saved and used.
  static_cast<void>(board->LoadInterruptControllers(*sections));
  static_cast<void>(board->LoadDevices(*sections));
  vmm::Sections again;
  board->SaveState(again);
  board->Reset();
  CHECK(board->LoadInterruptControllers(again));
  CHECK(board->LoadDevices(again));
  CHECK(again.CheckAllTaken());
  return 0;
}
