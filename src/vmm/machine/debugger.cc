#include "vmm/machine/debugger.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vmm/core/base/log.h"
#include "vmm/core/state/linear_memory.h"

namespace vmm {

using gdb::Motion;
using gdb::StopEvent;

Debugger::Debugger(const Parts& parts)
    : config_(parts.config),
      loop_(parts.loop),
      supervisor_(parts.supervisor),
      vcpus_(parts.vcpus),
      memory_(parts.memory),
      vm_(parts.vm),
      avx_(parts.avx),
      states_(vcpus_.size()),
      motions_(vcpus_.size()),
      dead_(vcpus_.size()) {
  ForgetMotions();
}

Result<std::unique_ptr<Debugger>> Debugger::Create(const Parts& parts) {
  std::unique_ptr<Debugger> debugger(new Debugger(parts));
  Debugger* const self = debugger.get();
  auto server = gdb::Server::Listen(
      parts.config.gdb, parts.loop,
      {[self] { self->OnConnect(); }, [self](std::string_view packet) { self->OnPacket(packet); },
       [self] {
         if (self->session_) self->session_->OnInterrupt();
       },
       [self] { self->OnDisconnect(); }});
  if (!server) return tl::unexpected(std::move(server.error()).WithContext("gdb"));
  self->server_ = std::move(*server);
  return debugger;
}

// ---- The debugger comes and goes

void Debugger::OnStart() {
  Log(LogLevel::kInfo,
      fmt::format("gdb: {} a debugger on {}",
                  config_.gdb_wait ? "the guest waits for" : "listening for", server_->where()));
  if (config_.gdb_wait) StandStill();
}

void Debugger::OnConnect() {
  if (!still_) StandStill();
  gdb::Target& self = *this;
  session_ = std::make_unique<gdb::Session>(
      self, ChooseArchitecture(), avx_, StopEvent{.cpu = last_cpu_},
      gdb::Session::Hooks{[this](std::string_view text) { server_->Send(text); },
                          [this] { server_->StopAcks(); }});
  attached_ = true;
  Log(LogLevel::kInfo, "gdb: a debugger has connected; the guest stands still");
}

gdb::Architecture Debugger::ChooseArchitecture() {
  switch (config_.gdb_arch) {
    case GdbArch::kI8086:
      return gdb::Architecture::k16;
    case GdbArch::kI386:
      return gdb::Architecture::k32;
    case GdbArch::kX8664:
      return gdb::Architecture::k64;
    case GdbArch::kAuto:
      break;
  }
  CpuState state;
  return ReadState(0, state) ? gdb::ArchitectureOf(state) : gdb::Architecture::k64;
}

void Debugger::OnPacket(std::string_view packet) {
  session_->OnPacket(packet);
  if (session_->done()) server_->HangUp();
}

void Debugger::OnDisconnect() {
  const bool said_so = session_->done();
  attached_ = false;
  session_.reset();
  if (said_so) return;
  Detach();
  Log(LogLevel::kInfo, "gdb: the debugger has gone; the guest runs");
}

void Debugger::Detach() {
  waiting_.clear();
  points_.clear();
  if (!still_) StandStill();
  points_are_in_ = false;
  ForgetMotions();
  GoOn();
}

void Debugger::Kill() {
  supervisor_.StopNow("the debugger");
}

void Debugger::OnEnd(ExitCode code) {
  if (!session_) return;
  session_->OnEnd(static_cast<int>(code));
  server_->Finish();
}

// ---- The guest stops

bool Debugger::OnVcpuExit(unsigned cpu, const RunResult& result) {
  const bool ours =
      result.exit == RunExit::kDebug || (result.exit == RunExit::kShutdown && attached_.load());
  if (!ours) return false;
  vcpus_.Hold();
  loop_.Post([this, met = Met{cpu, result, generation_.load()}] { OnMet(met); });
  return true;
}

// The vCPUs are held once for this.
void Debugger::OnMet(const Met& met) {
  if (met.generation == generation_.load()) {
    if (!session_) {  // it has left meanwhile
      if (met.result.exit == RunExit::kShutdown) supervisor_.OnVcpuExit(met.cpu, met.result);
    } else if (still_) {
      waiting_.push_back(met);
    } else if (!StaysInRange(met.cpu, met.result.debug)) {
      StandStill();
      Tell(met);
    }
  }
  vcpus_.Release();
}

bool Debugger::StaysInRange(unsigned cpu, const DebugStop& stop) {
  const Motion& motion = motions_[cpu];
  if (motion.kind != Motion::Kind::kStepRange || stop.reason != DebugStop::Reason::kStep) {
    return false;
  }
  CpuState state;
  Result<void> saved;
  vcpus_.WaitParked();
  vcpus_.Call(cpu, [&](Vcpu& vcpu) { saved = vcpu.Save(state); });
  return saved && state.rip >= motion.range_start && state.rip < motion.range_end;
}

void Debugger::Tell(const Met& met) {
  StopEvent event{
      .cause = StopEvent::Cause::kStep, .cpu = met.cpu, .point = met.result.debug.point};
  if (met.result.exit == RunExit::kShutdown) {
    event.cause = StopEvent::Cause::kTripleFault;
    dead_[met.cpu] = true;
  } else if (met.result.debug.reason == DebugStop::Reason::kPoint) {
    event.cause = StopEvent::Cause::kPoint;
  }
  last_cpu_ = met.cpu;
  session_->OnStop(event);
}

void Debugger::Interrupt() {
  if (still_) return;
  StandStill();
  session_->OnStop({.cause = StopEvent::Cause::kAsked, .cpu = last_cpu_});
}

void Debugger::StandStill() {
  still_ = true;
  supervisor_.StandStill();
  std::ranges::fill(states_, std::nullopt);
}

// ---- The guest goes on

void Debugger::ForgetMotions() {
  std::ranges::fill(motions_, Motion{.kind = Motion::Kind::kRun});
}

// Does what was met still concern the debugger, which may have changed its mind meanwhile?
bool Debugger::StillHolds(const Met& met) {
  if (motions_[met.cpu].kind == Motion::Kind::kStay) return true;
  if (met.result.exit == RunExit::kShutdown) return true;
  if (met.result.debug.reason == DebugStop::Reason::kStep) return false;
  const DebugPoint& point = met.result.debug.point;
  if (std::ranges::find(points_, point) == points_.end()) return false;
  if (point.is_data()) return true;
  CpuState state;
  if (!ReadState(met.cpu, state)) return false;
  const uint64_t base = gdb::ArchitectureOf(state) == gdb::Architecture::k64
                            ? 0
                            : state.seg[static_cast<unsigned>(Seg::CS)].base;
  return state.rip + base == point.address.value;
}

void Debugger::Resume(std::span<const Motion> motions) {
  std::ranges::copy(motions, motions_.begin());
  std::erase_if(waiting_, [this](const Met& met) { return !StillHolds(met); });
  const auto told = std::ranges::find_if(
      waiting_, [this](const Met& met) { return motions_[met.cpu].kind != Motion::Kind::kStay; });
  if (told != waiting_.end()) {
    const Met met = *told;
    waiting_.erase(told);
    return Tell(met);
  }
  for (unsigned cpu = 0; cpu < dead_.size(); ++cpu) {
    if (dead_[cpu] && motions_[cpu].kind != Motion::Kind::kStay) {
      supervisor_.OnVcpuExit(cpu, {RunExit::kShutdown, ""});
    }
  }
  supervisor_.Resume();  // a pause by on_panic = "pause" waited for somebody to look
  GoOn();
}

void Debugger::GoOn() {
  if (const auto put = PutPointsIn(points_cpu_); !put) {
    Log(LogLevel::kWarning, "gdb: breakpoints are lost: " + put.error().message);
    points_.clear();
  }
  SetSteps();
  std::vector<bool> frozen(motions_.size());
  for (unsigned cpu = 0; cpu < motions_.size(); ++cpu) {
    // In a deterministic run they take turns: none would get past one that stays.
    frozen[cpu] = motions_[cpu].kind == Motion::Kind::kStay && !config_.deterministic;
  }
  vcpus_.Freeze(frozen);
  std::ranges::fill(states_, std::nullopt);
  still_ = false;
  supervisor_.GoOn();
}

void Debugger::SetSteps() {
  for (unsigned cpu = 0; cpu < motions_.size(); ++cpu) {
    const bool steps =
        motions_[cpu].kind == Motion::Kind::kStep || motions_[cpu].kind == Motion::Kind::kStepRange;
    const DebugStep step = !steps                   ? DebugStep::kOff
                           : steps_take_interrupts_ ? DebugStep::kOneOrEvent
                                                    : DebugStep::kOne;
    vcpus_.Call(cpu, [step](Vcpu& vcpu) { vcpu.SetDebugStep(step); });
  }
}

// ---- State and memory

Result<void> Debugger::ReadState(unsigned cpu, CpuState& state) {
  std::optional<CpuState>& cached = states_[cpu];
  if (!cached) {
    CpuState fresh;
    Result<void> saved;
    vcpus_.Call(cpu, [&](Vcpu& vcpu) { saved = vcpu.Save(fresh); });
    if (!saved) return saved;
    cached = fresh;
  }
  state = *cached;
  return {};
}

Result<void> Debugger::WriteState(unsigned cpu, const CpuState& state) {
  Result<void> loaded;
  vcpus_.Call(cpu, [&](Vcpu& vcpu) { loaded = vcpu.Load(state); });
  states_[cpu].reset();  // the engine may have its own opinion of some bits
  return loaded;
}

size_t Debugger::ReadMemory(unsigned cpu, bool physical, uint64_t address, std::span<uint8_t> out) {
  TakePointsOut();
  if (!physical) {
    CpuState state;
    return ReadState(cpu, state) ? ReadLinear(state, memory_, GuestVirt(address), out) : 0;
  }
  size_t done = 0;
  while (done < out.size()) {
    const size_t part =
        std::min<size_t>(out.size() - done, kPageSize - (address + done) % kPageSize);
    if (!memory_.Read(GuestPhys(address + done), out.subspan(done, part))) break;
    done += part;
  }
  return done;
}

bool Debugger::WriteMemory(unsigned cpu, bool physical, uint64_t address,
                           std::span<const uint8_t> in) {
  TakePointsOut();
  const auto written = [this](GuestPhys start, uint64_t length) {
    vm_->OnHostWrite(start, length);
  };
  if (physical) {
    if (!memory_.Write(GuestPhys(address), in)) return false;
    written(GuestPhys(address), in.size());
    return true;
  }
  CpuState state;
  return ReadState(cpu, state).has_value() &&
         WriteLinear(state, memory_, GuestVirt(address), in, written);
}

// ---- Breakpoints. An engine may keep them in guest memory, so they are out of it while somebody
// looks there.

Result<void> Debugger::SetPoints(unsigned cpu, std::span<const DebugPoint> points) {
  std::vector<DebugPoint> old(points.begin(), points.end());
  points_.swap(old);
  const unsigned old_cpu = std::exchange(points_cpu_, cpu);
  const bool were_in = std::exchange(points_are_in_, false);
  auto put = PutPointsIn(cpu);
  if (!put) {
    points_.swap(old);
    points_cpu_ = old_cpu;
    points_are_in_ = were_in;
  }
  return put;
}

Result<void> Debugger::PutPointsIn(unsigned cpu) {
  if (points_are_in_) return {};
  CpuState context;
  if (!points_.empty()) {
    if (auto read = ReadState(cpu, context); !read) return read;
  }
  auto put = vm_->SetDebugPoints(points_, context);
  points_are_in_ = put.has_value();
  return put;
}

void Debugger::TakePointsOut() {
  if (points_.empty() || !points_are_in_) return;
  points_are_in_ = !vm_->SetDebugPoints({}, {}).has_value();
}

void Debugger::BeforeReset() {
  ++generation_;
  waiting_.clear();
  dead_.assign(dead_.size(), false);
  Withdraw();
}

void Debugger::AfterReset() {
  ForgetMotions();
  vcpus_.Freeze(std::vector<bool>(cpu_count()));
  last_cpu_ = points_cpu_ = 0;
  Renew();
}

void Debugger::Withdraw() {
  if (points_are_in_) points_are_in_ = !vm_->SetDebugPoints({}, {}).has_value();
}

void Debugger::Renew() {
  std::ranges::fill(states_, std::nullopt);
  if (still_) return;  // GoOn() will do the rest
  SetSteps();
  if (const auto put = PutPointsIn(points_cpu_); !put) {
    Log(LogLevel::kWarning, "gdb: breakpoints are lost: " + put.error().message);
    points_.clear();
  }
  std::ranges::fill(states_, std::nullopt);
}

}  // namespace vmm
