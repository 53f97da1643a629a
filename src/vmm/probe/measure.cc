#include "vmm/probe/measure.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "kvm/exit_text.h"
#include "kvm/vcpu_state.h"
#include "vmm/probe/probe_guest.h"

namespace vmm::probe {
namespace {

constexpr unsigned kRuns = 3;  // of the loop; the best counts
// The first loop is short enough for a KVM that is 2000 times too slow, the last one long enough
// (100 us or more) that entering and leaving the guest does not count.
constexpr uint32_t kFirstCount = 1000, kLastCount = 400'000;
constexpr double kLongEnough = 100e-6;  // seconds
// A stage that takes longer than this will not come back.
constexpr Allowance kStageLimit{std::chrono::milliseconds(8), std::chrono::milliseconds(100)};
constexpr unsigned kMemorySlot = 0;

// The guest's RAM, as a slot of the VM while it lives.
class Scratch {
 public:
  explicit Scratch(kvm::VmFd& vm) : vm_(vm) {
    void* at =
        ::mmap(nullptr, kGuestSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return;
    bytes_ = static_cast<uint8_t*>(at);
    BuildGuest({bytes_, kGuestSize});
    error_ = vm_.SetMemory(kMemorySlot, 0, kGuestSize, bytes_);
  }
  ~Scratch() {
    if (bytes_ == nullptr) return;
    if (error_ >= 0) vm_.SetMemory(kMemorySlot, 0, 0, bytes_);
    ::munmap(bytes_, kGuestSize);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  int error() const { return error_; }  // 0 or -errno

 private:
  kvm::VmFd& vm_;
  uint8_t* bytes_ = nullptr;
  int error_ = -ENOMEM;
};

class Prober {
 public:
  Prober(kvm::PreparedVm& vm, Allowance budget) : vm_(vm), vcpu_(vm.cpu0()), budget_(budget) {}

  Result<Measurement> Run() {
    CpuState fresh;
    if (auto saved = kvm::SaveState(vcpu_, vm_.msrs(), fresh); !saved)
      return tl::unexpected(saved.error());
    {
      Scratch scratch(vm_.vm());
      if (scratch.error() < 0)
        return Fail(ExitCode::kEngineFailed,
                    fmt::format("KVM refuses memory: {}", std::strerror(-scratch.error())));
      const auto done = RunStages();
      Settle();
      if (!done) return tl::unexpected(done.error());
    }
    if (auto loaded = kvm::LoadState(vcpu_, vm_.msrs(), fresh); !loaded)
      return tl::unexpected(loaded.error());
    return result_;
  }

 private:
  Result<void> RunStages();
  Result<void> Prepare(Stage stage);
  void Settle();
  bool RunToDone();
  bool RunLoop(uint32_t count, double* seconds);
  bool MeasureLoop();

  kvm::PreparedVm& vm_;
  kvm::VcpuFd& vcpu_;
  RunLimit budget_;
  std::optional<kvm_sregs> fresh_sregs_;
  Measurement result_;
};

// Lets KVM complete the last port access, which it would else do on top of the next registers.
void Prober::Settle() {
  vcpu_.SetImmediateExit(true);
  vcpu_.Run();
  vcpu_.SetImmediateExit(false);
}

// Every stage starts from the same registers, whatever the one before has left behind.
Result<void> Prober::Prepare(Stage stage) {
  Settle();
  const bool xsave = vm_.cpuid().Has(1, 0, 2, 26);
  if (!fresh_sregs_) {
    kvm_sregs sregs{};
    if (const int r = vcpu_.Ioctl(KVM_GET_SREGS, &sregs); r < 0)
      return FailErrno(ExitCode::kEngineFailed, "KVM_GET_SREGS", -r);
    EnterLongMode(sregs, xsave);
    fresh_sregs_ = sregs;
  }
  kvm_sregs sregs = *fresh_sregs_;
  kvm_regs regs = StageRegs(stage);
  kvm_vcpu_events events{};
  kvm_mp_state running{KVM_MP_STATE_RUNNABLE};
  int r = vcpu_.Ioctl(KVM_SET_SREGS, &sregs);
  if (r >= 0) r = vcpu_.Ioctl(KVM_SET_REGS, &regs);
  if (r >= 0) r = vcpu_.Ioctl(KVM_SET_VCPU_EVENTS, &events);
  if (r >= 0) r = vcpu_.Ioctl(KVM_SET_MP_STATE, &running);
  if (r < 0) return FailErrno(ExitCode::kEngineFailed, "KVM refuses 64-bit mode", -r);
  return {};
}

// True when the guest got to its last instruction.
bool Prober::RunToDone() {
  RunLimit limit(kStageLimit);
  const auto fail = [this](std::string why) {
    if (result_.failure.empty()) result_.failure = std::move(why);
    return false;
  };
  for (;;) {
    const int r = vcpu_.Run();
    if (r == -EINTR || r == -EAGAIN) {
      if (limit.expired() || budget_.expired()) return fail("no answer within the time limit");
      continue;
    }
    if (r < 0) return fail(std::strerror(-r));
    const kvm_run& run = vcpu_.run();
    switch (run.exit_reason) {
      case KVM_EXIT_INTR:
      case KVM_EXIT_IRQ_WINDOW_OPEN:
        continue;
      case KVM_EXIT_IO:
        if (run.io.port == kFaultPort) return fail("an exception where there should be none");
        return true;
      case KVM_EXIT_INTERNAL_ERROR:
        return fail(kvm::DescribeInternalError(vcpu_));
      case KVM_EXIT_FAIL_ENTRY:
        return fail(kvm::DescribeFailEntry(vcpu_));
      case KVM_EXIT_SHUTDOWN:
        return fail("triple fault");
      default:
        return fail(kvm::DescribeUnknownExit(vcpu_));
    }
  }
}

// The guest stands at its IN instruction. Gives it `count` and measures until the loop is over,
// then lets it come back to the IN.
bool Prober::RunLoop(uint32_t count, double* seconds) {
  kvm_run& run = vcpu_.run();
  std::memcpy(reinterpret_cast<uint8_t*>(&run) + run.io.data_offset, &count, sizeof count);
  const double start = ThreadCpuSeconds();
  if (!RunToDone() || run.io.port != kDonePort) return false;
  *seconds = ThreadCpuSeconds() - start;
  return RunToDone() && run.io.port == kCountPort;
}

double NativeRate() {
  double best = 0;
  for (unsigned i = 0; i < kRuns; ++i) {
    const double start = ThreadCpuSeconds();
    NativeLoop(kLastCount);
    best = std::max(best, kLastCount / (ThreadCpuSeconds() - start));
  }
  return best;
}

bool Prober::MeasureLoop() {
  if (!RunToDone() || vcpu_.run().io.port != kCountPort) return false;
  double best = 0, seconds = 0;
  uint32_t count = kFirstCount;
  for (unsigned run = 0; run < kRuns;) {
    if (!RunLoop(count, &seconds)) return false;
    if (seconds < kLongEnough && count < kLastCount) {
      count = std::min(count * 20, kLastCount);
      continue;
    }
    best = std::max(best, count / seconds);
    ++run;
  }
  result_.speed_ratio = best / NativeRate();
  return true;
}

Result<void> Prober::RunStages() {
  if (auto ready = Prepare(Stage::kLoop); !ready) return ready;
  if (!MeasureLoop()) result_.missing.emplace_back(Name(Stage::kLoop));
  for (Stage stage : {Stage::kHalt, Stage::kCmpxchg16b, Stage::kInt3, Stage::kXrstor}) {
    if (stage == Stage::kCmpxchg16b && !vm_.cpuid().Has(1, 0, 2, 13)) continue;
    if (stage == Stage::kXrstor && !vm_.cpuid().Has(1, 0, 2, 26)) continue;
    if (budget_.expired()) {
      result_.out_of_time = true;
      return {};
    }
    if (auto ready = Prepare(stage); !ready) return ready;
    if (!RunToDone()) result_.missing.emplace_back(Name(stage));
  }
  return {};
}

}  // namespace

Result<Measurement> Measure(kvm::PreparedVm& vm, Allowance budget) {
  return Prober(vm, budget).Run();
}

}  // namespace vmm::probe
