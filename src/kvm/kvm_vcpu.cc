#include "kvm/kvm_vcpu.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "kvm/exit_text.h"
#include "kvm/flexible_list.h"
#include "kvm/kick_signal.h"
#include "kvm/vcpu_state.h"
#include "vmm/core/base/check.h"

namespace kvm {

using vmm::ExitCode;
using vmm::Result;
using vmm::RunExit;
using vmm::RunResult;

namespace {

// Does the state that KVM shows stand before an instruction, or before an event?
bool CanRescue(const kvm_run& run) {
  return run.internal.suberror == KVM_INTERNAL_ERROR_EMULATION ||
         run.internal.suberror == KVM_INTERNAL_ERROR_DELIVERY_EV;
}

RunResult Refused(std::string_view what, int result) {
  return {RunExit::kFailed, fmt::format("{}: {}", what, std::strerror(-result))};
}

}  // namespace

KvmVcpu::KvmVcpu(std::unique_ptr<VcpuFd> fd, const MsrSet& msrs, Wiring wiring)
    : fd_(std::move(fd)), msrs_(msrs), wiring_(std::move(wiring)), debug_(*fd_, wiring_.debug) {
  InstallKickSignal();
}

KvmVcpu::~KvmVcpu() {
  if (wiring_.on_destroyed) wiring_.on_destroyed();
}

RunResult KvmVcpu::Run() {
  {
    std::lock_guard lock(thread_mutex_);
    CHECK(!running_);
    running_ = true;
    thread_ = pthread_self();
  }
  Outcome outcome = std::exchange(deferred_, std::nullopt);
  while (!outcome) {
    if (kicked_.exchange(false)) {
      outcome = RunResult{RunExit::kInterrupted, ""};
      break;
    }
    OfferExtInt();
    if (const int result = debug_.Apply(); result < 0) {
      outcome = Refused("KVM_SET_GUEST_DEBUG", result);
      break;
    }
    ++done_.entries;
    in_kernel_.store(true);
    const int result = fd_->Run();
    in_kernel_.store(false);
    fd_->SetImmediateExit(false);
    // EAGAIN: an application processor met INIT or SIPI and has its new state now.
    if (result == -EINTR || result == -EAGAIN) continue;
    half_done_ = ext_int_queued_ = false;
    outcome = result < 0 ? Refused("KVM_RUN", result) : HandleExit();
  }
  std::lock_guard lock(thread_mutex_);
  running_ = false;
  return *outcome;
}

vmm::Statistics KvmVcpu::Statistics() const {
  return {{"entries into the guest", done_.entries},
          {"exits for ports", done_.port},
          {"exits for memory", done_.mmio},
          {"exits for an interrupt window", done_.windows},
          {"exits for an EOI of the IOAPIC", done_.eois},
          {"instructions that KVM can't execute", done_.rescues}};
}

void KvmVcpu::Kick() {
  kicked_.store(true);
  Poke();
}

void KvmVcpu::Poke() {
  fd_->SetImmediateExit(true);
  if (!in_kernel_.load()) return;  // it will see immediate_exit when it enters
  std::lock_guard lock(thread_mutex_);
  if (running_) pthread_kill(thread_, KickSignal());
}

KvmVcpu::Outcome KvmVcpu::HandleExit() {
  kvm_run& run = fd_->run();
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      ++done_.port;
      HandleIo();
      return std::nullopt;
    case KVM_EXIT_MMIO:
      ++done_.mmio;
      HandleMmio();
      return std::nullopt;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      ++done_.windows;
      return std::nullopt;
    case KVM_EXIT_INTR:
    case KVM_EXIT_NMI:
      return std::nullopt;
    case KVM_EXIT_IOAPIC_EOI:
      ++done_.eois;
      wiring_.ioapic.OnEoi(run.eoi.vector);
      return std::nullopt;
    case KVM_EXIT_HLT:  // only without an APIC in the kernel
      return RunResult{RunExit::kHalted, ""};
    case KVM_EXIT_SHUTDOWN:
      return RunResult{RunExit::kShutdown, ""};
    case KVM_EXIT_SYSTEM_EVENT:
      return RunResult{RunExit::kShutdown,
                       fmt::format("KVM system event {}", uint32_t{run.system_event.type})};
    case KVM_EXIT_DEBUG:
      return HandleDebug();
    case KVM_EXIT_INTERNAL_ERROR:
      return OnInternalError();
    case KVM_EXIT_FAIL_ENTRY:
      return RunResult{RunExit::kFailed, DescribeFailEntry(*fd_)};
    default:
      return RunResult{RunExit::kFailed, DescribeUnknownExit(*fd_)};
  }
}

KvmVcpu::Outcome KvmVcpu::OnInternalError() {
  std::string detail = DescribeInternalError(*fd_);
  if (wiring_.rescuer == nullptr || !CanRescue(fd_->run()))
    return RunResult{RunExit::kFailed, std::move(detail)};
  auto rescued = RescueInstruction();
  if (!rescued)
    return RunResult{RunExit::kFailed, fmt::format("{}; {}", detail, rescued.error().message)};
  if (*rescued == vmm::Rescue::kShutdown) return RunResult{RunExit::kShutdown, ""};
  return std::exchange(deferred_, std::nullopt);
}

// KVM stopped in the middle of an instruction: what it has half done must reach the registers
// before they are read.
Result<vmm::Rescue> KvmVcpu::RescueInstruction() {
  ++done_.rescues;
  half_done_ = true;
  if (auto finished = FinishAccess(); !finished) return tl::unexpected(finished.error());
  vmm::CpuState before;
  kvm_vcpu_events events{};
  if (auto saved = SaveState(*fd_, msrs_, before, &events); !saved)
    return tl::unexpected(saved.error());
  // Without the capability KVM has queued #UD for the instruction. [KVM API] 7.28
  constexpr uint8_t kUd = 6;
  if (!fd_->host().capabilities().emulation_failure_exit && before.events.exception_vector == kUd)
    before.events.exception_pending = false;
  vmm::CpuState after = before;
  auto rescued = wiring_.rescuer->Finish(fd_->id(), after);
  if (!rescued || *rescued == vmm::Rescue::kShutdown) return rescued;
  if (auto loaded = LoadRescued(*fd_, msrs_, before, after, events); !loaded)
    return tl::unexpected(loaded.error());
  return rescued;
}

KvmVcpu::Outcome KvmVcpu::HandleDebug() {
  const auto met = debug_.OnExit();
  if (const int* error = std::get_if<int>(&met)) return Refused("a debug exit", *error);
  if (const auto* stop = std::get_if<vmm::DebugStop>(&met)) {
    return RunResult{RunExit::kDebug, "", *stop};
  }
  return std::nullopt;
}

// `count` items of `size` bytes lie at data_offset, for string instructions as for others.
void KvmVcpu::HandleIo() {
  kvm_run& run = fd_->run();
  auto* data = reinterpret_cast<uint8_t*>(&run) + run.io.data_offset;
  for (uint32_t i = 0; i < run.io.count; ++i, data += run.io.size) {
    const std::span<uint8_t> item(data, run.io.size);
    if (run.io.direction == KVM_EXIT_IO_OUT)
      wiring_.ports.Write(run.io.port, item);
    else
      wiring_.ports.Read(run.io.port, item);
  }
  half_done_ = true;
}

// Up to 8 bytes of any number: what the bus takes is a power of two.
void KvmVcpu::HandleMmio() {
  kvm_run& run = fd_->run();
  const unsigned length = std::min<unsigned>(run.mmio.len, sizeof run.mmio.data);
  for (unsigned done = 0; done < length;) {
    const unsigned part = std::bit_floor(length - done);
    const std::span<uint8_t> bytes(run.mmio.data + done, part);
    if (run.mmio.is_write)
      wiring_.mmio.Write(run.mmio.phys_addr + done, bytes);
    else
      wiring_.mmio.Read(run.mmio.phys_addr + done, bytes);
    done += part;
  }
  half_done_ = true;
}

// The 8259's INTR wire: acknowledged only when the guest can take the vector at once.
// [KVM API] 4.16 KVM_INTERRUPT
void KvmVcpu::OfferExtInt() {
  if (wiring_.pic == nullptr) return;
  kvm_run& run = fd_->run();
  bool waiting = wiring_.pic->IntrAsserted();
  if (run.ready_for_interrupt_injection) ext_int_queued_ = false;  // the last one has arrived
  if (waiting && run.ready_for_interrupt_injection) {
    kvm_interrupt interrupt{};
    interrupt.irq = wiring_.pic->AcknowledgeInterrupt();
    if (fd_->Ioctl(KVM_INTERRUPT, &interrupt) >= 0) ext_int_queued_ = true;
    run.ready_for_interrupt_injection = 0;
    waiting = wiring_.pic->IntrAsserted();
  }
  run.request_interrupt_window = waiting;
}

Result<void> KvmVcpu::Save(vmm::CpuState& state) {
  if (auto settled = Settle(); !settled) return settled;
  return SaveState(*fd_, msrs_, state);
}

Result<void> KvmVcpu::Load(const vmm::CpuState& state) {
  // Otherwise KVM would finish the old state's access on top of the new state.
  if (auto settled = Settle(); !settled) return settled;
  deferred_.reset();
  return LoadState(*fd_, msrs_, state);
}

// Brings everything that is half done into registers that can be read.
Result<void> KvmVcpu::Settle() {
  if (auto finished = FinishAccess(); !finished) return finished;
  return FinishInjection();
}

Result<void> KvmVcpu::FinishAccess() {
  while (half_done_) {
    half_done_ = false;
    fd_->SetImmediateExit(true);
    const int result = fd_->Run();
    fd_->SetImmediateExit(false);  // a kick that this hides is still in kicked_
    if (result == -EINTR || result == -EAGAIN) break;
    if (result < 0)
      return vmm::FailErrno(ExitCode::kEngineFailed, "KVM_RUN to complete an access", -result);
    deferred_ = HandleExit();  // the next part of the same access, or its failure
  }
  return {};
}

// While it lives, KVM_RUN turns back just before the guest: the kick signal is pending, blocked for
// this thread and let through by KVM_RUN's own mask. [KVM API] 4.17 KVM_SET_SIGNAL_MASK
class KvmVcpu::TurnBack {
 public:
  explicit TurnBack(const VcpuFd& fd) : fd_(fd) {
    sigemptyset(&kick_);
    sigaddset(&kick_, KickSignal());
    pthread_sigmask(SIG_BLOCK, &kick_, &old_);
    pthread_kill(pthread_self(), KickSignal());
    constexpr unsigned kKernelSetSize = 8;
    FlexibleList<kvm_signal_mask, uint8_t> mask(kKernelSetSize);
    mask->len = kKernelSetSize;
    const uint64_t blocked = ~(uint64_t{1} << (KickSignal() - 1));
    std::memcpy(mask->sigset, &blocked, sizeof blocked);
    fd_.Ioctl(KVM_SET_SIGNAL_MASK, mask.get());
  }
  ~TurnBack() {
    fd_.Ioctl(KVM_SET_SIGNAL_MASK, uintptr_t{0});
    const timespec now{};
    while (sigtimedwait(&kick_, nullptr, &now) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &old_, nullptr);
  }
  TurnBack(const TurnBack&) = delete;
  TurnBack& operator=(const TurnBack&) = delete;

 private:
  const VcpuFd& fd_;
  sigset_t kick_, old_;
};

// A vector given to KVM_INTERRUPT shows in no structure until KVM has tried to enter the guest; so
// it is made to try. The first try may only end a HLT, the next one injects.
Result<void> KvmVcpu::FinishInjection() {
  if (!ext_int_queued_) return {};
  ext_int_queued_ = false;
  int result = 0;
  {
    TurnBack turn_back(*fd_);
    for (unsigned tries = 0; tries < 3; ++tries) {
      result = fd_->Run();
      if (result != -EINTR && result != -EAGAIN) break;
      kvm_vcpu_events events{};
      if (fd_->Ioctl(KVM_GET_VCPU_EVENTS, &events) < 0 || events.interrupt.injected) return {};
    }
  }
  if (result == -EINTR || result == -EAGAIN) return {};
  if (result < 0)
    return vmm::FailErrno(ExitCode::kEngineFailed, "KVM_RUN to inject an interrupt", -result);
  deferred_ = HandleExit();
  return FinishAccess();
}

}  // namespace kvm
