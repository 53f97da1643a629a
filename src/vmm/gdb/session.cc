#include "vmm/gdb/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vmm/gdb/packet.h"

namespace vmm::gdb {
namespace {

// Numbers of signals are GDB's own, the same on every host. [GDB] E.13.4 and gdb/signals.def
constexpr unsigned kSigInt = 2, kSigTrap = 5, kSigAbort = 6;

constexpr size_t kMaxMemory = PacketReader::kMaxPacket / 2 - 16;  // bytes that fit one packet

constexpr unsigned ThreadOf(unsigned cpu) {
  return cpu + 1;
}

// "-1" is every thread, "0" any one: none of a number.
std::optional<unsigned> CpuOf(std::string_view thread, unsigned cpu_count) {
  FieldReader fields(thread);
  const auto number = fields.Number();
  if (!number || !fields.empty() || *number == 0 || *number > cpu_count) return std::nullopt;
  return static_cast<unsigned>(*number - 1);
}

bool IsAnyThread(std::string_view thread) {
  return thread == "-1" || thread == "0";
}

}  // namespace

Session::Session(Target& target, Architecture architecture, bool avx, const StopEvent& stop,
                 Hooks hooks)
    : target_(target),
      registers_(architecture, avx),
      hooks_(std::move(hooks)),
      stop_(stop),
      general_cpu_(stop.cpu) {}

void Session::SendResult(bool good) {
  Send(good ? "OK" : kError);
}

void Session::OnPacket(std::string_view packet) {
  if (done_) return;
  if (packet.empty()) return Send("");
  const char kind = packet.front();
  const FieldReader fields(packet.substr(1));
  // A machine that runs has nothing to show; GDB waits for its stop and asks nothing.
  if (running_ && kind != 'D' && kind != 'k') return Send(kError);
  switch (kind) {
    case '!':
      return Send("OK");
    case '?':
      return OnWhyStopped(fields);
    case 'c':
      return OnContinueAll(fields, Motion::Kind::kRun);
    case 'C':
      return OnSignalledContinue(fields, Motion::Kind::kRun);
    case 'D':
      return OnDetach(fields);
    case 'g':
      return OnReadAll(fields);
    case 'G':
      return OnWriteAll(fields);
    case 'H':
      return OnSelect(fields);
    case 'k':
      return OnKill(fields);
    case 'm':
      return OnReadMemory(fields);
    case 'M':
      return OnWriteMemory(fields, false);
    case 'p':
      return OnReadRegister(fields);
    case 'P':
      return OnWriteRegister(fields);
    case 'q':
    case 'Q':
      return OnQuery(packet);
    case 'R':
      return OnRestart(fields);
    case 's':
      return OnContinueAll(fields, Motion::Kind::kStep);
    case 'S':
      return OnSignalledContinue(fields, Motion::Kind::kStep);
    case 'T':
      return OnThreadAlive(fields);
    case 'v':
      return OnVPacket(packet);
    case 'X':
      return OnWriteMemory(fields, true);
    case 'z':
    case 'Z':
      return OnBreakpoint(kind, fields);
    default:
      return Send("");  // unknown
  }
}

void Session::OnInterrupt() {
  if (running_) target_.Interrupt();
}

void Session::OnStop(const StopEvent& stop) {
  if (done_ || !running_) return;
  running_ = false;
  stop_ = stop;
  general_cpu_ = stop.cpu;
  Send(StopReply());
}

void Session::OnEnd(int exit_code) {
  if (!done_ && running_) Send(fmt::format("W{:02x}", exit_code & 0xff));
  done_ = true;
}

// ---- Why it stopped

// Does GDB, which knows no segments, see the processor at `address`?
bool Session::StandsAt(GuestVirt address) {
  CpuState state;
  return target_.ReadState(stop_.cpu, state) && state.rip == address.value;
}

std::string Session::PointReason() {
  using Kind = DebugPoint::Kind;
  const DebugPoint& point = stop_.point;
  switch (point.kind) {
    case Kind::kWrite:
      return fmt::format("watch:{:x};", point.address.value);
    case Kind::kRead:
      return fmt::format("rwatch:{:x};", point.address.value);
    case Kind::kAccess:
      return fmt::format("awatch:{:x};", point.address.value);
    // Where CS has a base GDB would find no breakpoint of its own at RIP, and go on at once.
    case Kind::kSoftware:
      return tells_swbreak_ && StandsAt(point.address) ? "swbreak:;" : "";
    case Kind::kHardware:
      return tells_hwbreak_ && StandsAt(point.address) ? "hwbreak:;" : "";
  }
  return "";
}

std::string Session::StopReply() {
  unsigned signal = kSigTrap;
  std::string reason;
  switch (stop_.cause) {
    case StopEvent::Cause::kAsked:
      signal = kSigInt;
      break;
    case StopEvent::Cause::kStep:
      break;
    case StopEvent::Cause::kPoint:
      reason = PointReason();
      break;
    case StopEvent::Cause::kTripleFault:
      signal = kSigAbort;
      break;
  }
  return fmt::format("T{:02x}{}thread:{:x};", signal, reason, ThreadOf(stop_.cpu));
}

void Session::OnWhyStopped(FieldReader) {
  general_cpu_ = stop_.cpu;
  Send(StopReply());
}

// ---- Registers and memory

bool Session::ReadCpu(CpuState& state) {
  return target_.ReadState(general_cpu_, state).has_value();
}

bool Session::ChangeCpu(const std::function<bool(CpuState&)>& change) {
  CpuState state;
  return ReadCpu(state) && change(state) && target_.WriteState(general_cpu_, state).has_value();
}

void Session::OnReadAll(FieldReader) {
  CpuState state;
  if (!ReadCpu(state)) return Send(kError);
  Send(ToHex(registers_.ReadAll(state)));
}

void Session::OnWriteAll(FieldReader fields) {
  const auto bytes = FromHex(fields.rest());
  SendResult(bytes &&
             ChangeCpu([&](CpuState& state) { return registers_.WriteAll(*bytes, state); }));
}

void Session::OnReadRegister(FieldReader fields) {
  const auto number = fields.Number();
  CpuState state;
  if (!number || *number >= registers_.count() || !ReadCpu(state)) return Send(kError);
  Send(ToHex(registers_.Read(static_cast<unsigned>(*number), state)));
}

void Session::OnWriteRegister(FieldReader fields) {
  const auto number = fields.Number();
  if (!number || *number >= registers_.count() || !fields.Skip('=')) return Send(kError);
  const auto bytes = FromHex(fields.rest());
  SendResult(bytes && ChangeCpu([&](CpuState& state) {
               return registers_.Write(static_cast<unsigned>(*number), *bytes, state);
             }));
}

void Session::OnReadMemory(FieldReader fields) {
  const auto address = fields.Number();
  if (!address || !fields.Skip(',')) return Send(kError);
  const auto length = fields.Number();
  if (!length) return Send(kError);
  std::vector<uint8_t> bytes(std::min<uint64_t>(*length, kMaxMemory));
  bytes.resize(target_.ReadMemory(general_cpu_, physical_, *address, bytes));
  if (bytes.empty() && *length != 0) return Send(kBadMemory);
  Send(ToHex(bytes));
}

void Session::OnWriteMemory(FieldReader fields, bool binary) {
  const auto address = fields.Number();
  if (!address || !fields.Skip(',')) return Send(kError);
  const auto length = fields.Number();
  if (!length || !fields.Skip(':')) return Send(kError);
  const std::string_view rest = fields.rest();
  const auto bytes =
      binary ? std::optional(std::vector<uint8_t>(rest.begin(), rest.end())) : FromHex(rest);
  if (!bytes || bytes->size() != *length) return Send(kError);
  const bool written =
      bytes->empty() || target_.WriteMemory(general_cpu_, physical_, *address, *bytes);
  Send(written ? "OK" : kBadMemory);
}

// ---- Breakpoints and watchpoints: Z0 to Z4

void Session::OnBreakpoint(char what, FieldReader fields) {
  const auto type = fields.Number();
  if (!type || !fields.Skip(',')) return Send(kError);
  if (*type > 4) return Send("");
  const auto address = fields.Number();
  if (!address || !fields.Skip(',')) return Send(kError);
  const auto length = fields.Number();
  if (!length) return Send(kError);
  DebugPoint point{static_cast<DebugPoint::Kind>(*type), GuestVirt(*address), 1};
  if (point.is_data()) point.length = std::max<uint64_t>(1, *length);
  std::vector<DebugPoint> points = points_;
  const auto found = std::ranges::find(points, point);
  if (what == 'Z' && found == points.end()) points.push_back(point);
  if (what == 'z' && found != points.end()) points.erase(found);
  if (points.size() != points_.size()) {
    if (const auto set = target_.SetPoints(general_cpu_, points); !set) {
      // GDB takes the empty answer for "no such kind": it tries another.
      const bool never =
          set.error().code == ExitCode::kUnavailable && point.kind == DebugPoint::Kind::kRead;
      return Send(never ? "" : kError);
    }
    points_ = std::move(points);
  }
  Send("OK");
}

// ---- Going on

void Session::Resume(std::vector<Motion> motions) {
  running_ = true;
  target_.Resume(motions);
}

void Session::OnContinueAll(FieldReader fields, Motion::Kind kind) {
  const unsigned cpu = move_cpu_.value_or(stop_.cpu);
  if (!fields.empty()) {
    const auto address = fields.Number();
    CpuState state;
    if (!address || !target_.ReadState(cpu, state)) return Send(kError);
    state.rip = *address;
    if (!target_.WriteState(cpu, state)) return Send(kError);
  }
  std::vector<Motion> motions(target_.cpu_count());
  for (unsigned other = 0; other < motions.size(); ++other) {
    if (other == cpu) {
      motions[other].kind = kind;
    } else if (!move_cpu_) {
      motions[other].kind = Motion::Kind::kRun;
    }
  }
  Resume(std::move(motions));
}

// C and S: a signal, which means nothing to a machine, then the same as c and s.
void Session::OnSignalledContinue(FieldReader fields, Motion::Kind kind) {
  if (!fields.Number()) return Send(kError);
  if (!fields.empty() && !fields.Skip(';')) return Send(kError);
  OnContinueAll(fields, kind);
}

// vCont;ACTION[:THREAD]...: for each thread the leftmost action that fits. [GDB] E.2
void Session::OnVCont(FieldReader fields) {
  std::vector<Motion> motions(target_.cpu_count());
  std::vector<bool> decided(motions.size());
  bool any = false;
  while (!fields.empty()) {
    FieldReader part(fields.Until(';'));
    FieldReader action(part.Until(':'));
    const std::string_view thread = part.rest();
    Motion motion;
    if (action.Skip('r')) {
      const auto start = action.Number();
      if (!start || !action.Skip(',')) return Send(kError);
      const auto end = action.Number();
      if (!end) return Send(kError);
      motion = {Motion::Kind::kStepRange, *start, *end};
    } else if (action.Skip('c') || action.Skip('C')) {
      motion.kind = Motion::Kind::kRun;
    } else if (action.Skip('s') || action.Skip('S')) {
      motion.kind = Motion::Kind::kStep;
    } else {
      return Send(kError);
    }
    const auto only = CpuOf(thread, target_.cpu_count());
    if (!only && !thread.empty() && !IsAnyThread(thread)) return Send(kError);
    for (unsigned cpu = 0; cpu < motions.size(); ++cpu) {
      if (decided[cpu] || (only && *only != cpu)) continue;
      motions[cpu] = motion;
      decided[cpu] = any = true;
    }
  }
  if (!any) return Send(kError);
  Resume(std::move(motions));
}

void Session::OnDetach(FieldReader) {
  done_ = true;
  target_.Detach();
  Send("OK");
}

void Session::OnKill(FieldReader) {
  done_ = true;
  target_.Kill();
}

void Session::OnRestart(FieldReader) {
  target_.ResetMachine();  // no answer; GDB asks what came of it
  stop_ = {};
}

// ---- Threads

void Session::OnSelect(FieldReader fields) {
  const bool to_move = fields.Skip('c');
  if (!to_move && !fields.Skip('g')) return Send(kError);
  const auto cpu = CpuOf(fields.rest(), target_.cpu_count());
  if (!cpu && !IsAnyThread(fields.rest())) return Send(kError);
  if (to_move) {
    move_cpu_ = cpu;
  } else if (cpu) {
    general_cpu_ = *cpu;
  }
  Send("OK");
}

void Session::OnThreadAlive(FieldReader fields) {
  SendResult(CpuOf(fields.rest(), target_.cpu_count()).has_value());
}

void Session::OnThreadExtra(FieldReader fields) {
  const auto cpu = CpuOf(fields.rest(), target_.cpu_count());
  CpuState state;
  if (!cpu || !target_.ReadState(*cpu, state)) return Send(kError);
  Send(ToHex(fmt::format("CPU {} [{}]", *cpu, ActivityText(state))));
}

// ---- Queries

void Session::OnSupported(FieldReader fields) {
  while (!fields.empty()) {
    const std::string_view feature = fields.Until(';');
    if (feature == "swbreak+") tells_swbreak_ = true;
    if (feature == "hwbreak+") tells_hwbreak_ = true;
  }
  Send(
      fmt::format("PacketSize={:x};QStartNoAckMode+;qXfer:features:read+;swbreak+;hwbreak+;"
                  "vContSupported+",
                  PacketReader::kMaxPacket));
}

// qXfer:features:read:target.xml:OFFSET,LENGTH
void Session::OnTransfer(FieldReader fields) {
  if (fields.Until(':') != "features" || fields.Until(':') != "read") return Send("");
  if (fields.Until(':') != "target.xml") return Send("E00");
  const auto offset = fields.Number();
  if (!offset || !fields.Skip(',')) return Send("E00");
  const auto length = fields.Number();
  if (!length) return Send("E00");
  const std::string xml = registers_.Description();
  if (*offset > xml.size()) return Send(kError);
  const size_t size = std::min<uint64_t>(*length, kMaxMemory);
  const std::string part = xml.substr(*offset, size);
  Send((*offset + part.size() < xml.size() ? "m" : "l") + part);
}

void Session::OnQuery(std::string_view packet) {
  const size_t end = packet.find_first_of(":,;");
  const std::string_view name = packet.substr(0, end);
  FieldReader fields(end == std::string_view::npos ? "" : packet.substr(end + 1));
  if (name == "qSupported") return OnSupported(fields);
  if (name == "qXfer") return OnTransfer(fields);
  if (name == "QStartNoAckMode") {
    Send("OK");
    return hooks_.stop_acks();
  }
  if (name == "qC") return Send(fmt::format("QC{:x}", ThreadOf(stop_.cpu)));
  if (name == "qfThreadInfo") {
    std::string threads = "m";
    for (unsigned cpu = 0; cpu < target_.cpu_count(); ++cpu) {
      threads += fmt::format("{}{:x}", cpu == 0 ? "" : ",", ThreadOf(cpu));
    }
    return Send(threads);
  }
  if (name == "qsThreadInfo") return Send("l");
  if (name == "qThreadExtraInfo") return OnThreadExtra(fields);
  if (name == "qAttached") return Send("1");  // so that GDB detaches when it quits
  if (name == "qRcmd") return OnMonitor(fields);
  Send("");
}

void Session::OnVPacket(std::string_view packet) {
  const size_t end = packet.find_first_of(";?");
  const std::string_view name = packet.substr(0, end);
  if (packet == "vCont?") return Send("vCont;c;C;s;S;r");
  FieldReader fields(end == std::string_view::npos ? "" : packet.substr(end + 1));
  if (name == "vCont") return OnVCont(fields);
  if (name == "vKill") {
    Send("OK");
    return OnKill(fields);
  }
  Send("");
}

}  // namespace vmm::gdb
