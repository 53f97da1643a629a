// One debugger's conversation with the machine: GDB's remote serial protocol without its transport.
// [GDB] E
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/gdb/hex.h"
#include "vmm/gdb/registers.h"
#include "vmm/gdb/target.h"

namespace vmm::gdb {

// An error's number is for the reader's eye only: GDB looks at none.
inline constexpr std::string_view kError = "E01", kBadMemory = "E0e";  // EFAULT

// Threads of GDB are processors: thread n is CPU n-1. The I/O thread only.
class Session {
 public:
  struct Hooks {
    std::function<void(std::string_view text)> send;  // a packet, to be framed
    std::function<void()> stop_acks;                  // from the next packet on
  };

  // The machine stands still. `stop`: why.
  Session(Target& target, Architecture architecture, bool avx, const StopEvent& stop, Hooks hooks);

  void OnPacket(std::string_view packet);
  void OnInterrupt();  // Ctrl-C
  void OnStop(const StopEvent& stop);
  // The run is over; nothing is sent or asked after it.
  void OnEnd(int exit_code);
  // GDB has said that it leaves, or that the machine shall end.
  bool done() const { return done_; }

 private:
  void Send(std::string_view text) { hooks_.send(text); }
  void SendResult(bool good);  // OK or an error

  // What each packet asks; the fields are what follows its name.
  void OnBreakpoint(char what, FieldReader fields);
  void OnContinueAll(FieldReader fields, Motion::Kind kind);
  void OnDetach(FieldReader fields);
  void OnKill(FieldReader fields);
  void OnQuery(std::string_view packet);
  void OnReadAll(FieldReader fields);
  void OnReadMemory(FieldReader fields);
  void OnReadRegister(FieldReader fields);
  void OnRestart(FieldReader fields);
  void OnSelect(FieldReader fields);
  void OnSignalledContinue(FieldReader fields, Motion::Kind kind);
  void OnSupported(FieldReader fields);
  void OnThreadAlive(FieldReader fields);
  void OnThreadExtra(FieldReader fields);
  void OnTransfer(FieldReader fields);
  void OnVCont(FieldReader fields);
  void OnVPacket(std::string_view packet);
  void OnWhyStopped(FieldReader fields);
  void OnWriteAll(FieldReader fields);
  void OnWriteMemory(FieldReader fields, bool binary);
  void OnWriteRegister(FieldReader fields);
  void OnMonitor(FieldReader fields);

  static std::string_view ActivityText(const CpuState& state);
  bool ReadCpu(CpuState& state);
  bool ChangeCpu(const std::function<bool(CpuState&)>& change);
  void Resume(std::vector<Motion> motions);
  std::string StopReply();
  std::string PointReason();
  bool StandsAt(GuestVirt address);

  Target& target_;
  const RegisterSet registers_;
  const Hooks hooks_;
  StopEvent stop_;
  unsigned general_cpu_ = 0;          // of Hg: registers and memory
  std::optional<unsigned> move_cpu_;  // of Hc: c and s; none: all
  bool running_ = false;
  bool done_ = false;
  bool physical_ = false;  // addresses are guest-physical
  bool tells_swbreak_ = false, tells_hwbreak_ = false;
  std::vector<DebugPoint> points_;
};

}  // namespace vmm::gdb
