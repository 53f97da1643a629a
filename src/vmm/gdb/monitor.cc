// `monitor ...` in GDB: what a machine has and a process has not.
#include <fmt/format.h>

#include "vmm/gdb/session.h"

namespace vmm::gdb {
namespace {

constexpr std::string_view kHelp =
    "monitor info registers    all registers of the current thread's processor\n"
    "monitor info cpus         what each processor does\n"
    "monitor physical on|off   addresses are guest-physical, or linear (the default)\n"
    "monitor interrupts on|off a step may end in an interrupt's handler (off by default)\n"
    "monitor nmi               an NMI for the current thread's processor\n"
    "monitor powerdown         press the power button\n"
    "monitor reset             back to the first instruction; breakpoints stay\n"
    "monitor quit              end the run\n";

std::string Segment(std::string_view name, const SegmentState& segment) {
  return fmt::format("{:<4} {:04x} base {:016x} limit {:08x} access {:05x}\n", name,
                     segment.selector, segment.base, segment.limit, segment.access);
}

std::string RegistersText(unsigned cpu, const CpuState& state) {
  constexpr std::string_view kNames[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                         "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  constexpr std::string_view kSegments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
  std::string text = fmt::format("CPU {}\n", cpu);
  for (unsigned i = 0; i < 16; ++i) {
    text += fmt::format("{:<3} {:016x}{}", kNames[i], state.gpr[i], i % 4 == 3 ? '\n' : ' ');
  }
  text += fmt::format("rip {:016x} rflags {:08x}\n", state.rip, state.rflags);
  for (unsigned i = 0; i < 6; ++i) text += Segment(kSegments[i], state.seg[i]);
  text += Segment("ldtr", state.ldtr) + Segment("tr", state.tr);
  text += fmt::format("gdtr base {:016x} limit {:04x}\nidtr base {:016x} limit {:04x}\n",
                      state.gdtr.base, state.gdtr.limit, state.idtr.base, state.idtr.limit);
  text += fmt::format("cr0 {:08x} cr2 {:016x} cr3 {:016x} cr4 {:08x} cr8 {:x}\n", state.cr0,
                      state.cr2, state.cr3, state.cr4, state.cr8);
  text += fmt::format("dr0 {:016x} dr1 {:016x} dr2 {:016x} dr3 {:016x}\ndr6 {:08x} dr7 {:08x}\n",
                      state.dr[0], state.dr[1], state.dr[2], state.dr[3], state.dr6, state.dr7);
  text += fmt::format("efer {:x} star {:016x} lstar {:016x} sfmask {:x} kernel_gs_base {:016x}\n",
                      state.msr.efer, state.msr.star, state.msr.lstar, state.msr.sfmask,
                      state.msr.kernel_gs_base);
  text += fmt::format("xcr0 {:x} apic_base {:x} tsc {:x}\n", state.xcr0, state.msr.apic_base,
                      state.msr.tsc);
  return text;
}

}  // namespace

std::string_view Session::ActivityText(const CpuState& state) {
  if (state.activity == Activity::kWaitForSipi) return "waits for SIPI";
  if (state.activity == Activity::kHalted) return "halted";
  return "running";
}

void Session::OnMonitor(FieldReader fields) {
  const auto bytes = FromHex(fields.rest());
  if (!bytes) return Send(kError);
  const std::string command(bytes->begin(), bytes->end());
  const auto answer = [this](std::string_view text) { Send(ToHex(text)); };
  CpuState state;
  if (command == "info registers") {
    if (!ReadCpu(state)) return Send(kError);
    return answer(RegistersText(general_cpu_, state));
  }
  if (command == "info cpus") {
    std::string text;
    for (unsigned cpu = 0; cpu < target_.cpu_count(); ++cpu) {
      if (!target_.ReadState(cpu, state)) return Send(kError);
      text += fmt::format("CPU {} (thread {}): {} at {:04x}:{:016x}\n", cpu, cpu + 1,
                          ActivityText(state), state.seg[1].selector, state.rip);
    }
    return answer(text);
  }
  if (command == "physical on" || command == "physical off") {
    physical_ = command.ends_with("on");
    return answer(physical_ ? "addresses of memory are guest-physical now\n"
                            : "addresses of memory are linear now\n");
  }
  if (command == "interrupts on" || command == "interrupts off") {
    target_.LetStepsTakeInterrupts(command.ends_with("on"));
    return Send("OK");
  }
  if (command == "nmi") {
    target_.InjectNmi(general_cpu_);
    return Send("OK");
  }
  if (command == "powerdown") {
    target_.PressPowerButton();
    return answer("the guest sees the power button when it runs on\n");
  }
  if (command == "reset") {
    target_.ResetMachine();
    stop_ = {};
    return answer("the machine is reset; GDB: maintenance flush register-cache\n");
  }
  if (command == "quit") {
    Send("OK");
    return OnKill(fields);
  }
  if (command == "help" || command.empty()) return answer(kHelp);
  answer(fmt::format("unknown command '{}'; monitor help lists them\n", command));
}

}  // namespace vmm::gdb
