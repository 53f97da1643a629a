// Every exit code of the program, once. docs/exit-codes.md is checked against this list; a number,
// once given, never changes. 124-127, 128+n and 200-245 stay free: shells and systemd use them.
#pragma once

#include <string_view>

namespace vmm {

// X(name, value, meaning)
#define VMM_EXIT_CODES(X)                                                      \
  X(Success, 0, "the guest powered off, or reported success")                  \
  X(Usage, 64, "the command line is wrong")                                    \
  X(ConfigInvalid, 65, "vm.toml or a guest image is malformed")                \
  X(FileMissing, 66, "a file that was named does not exist or can't be read")  \
  X(Unavailable, 69, "what was required is missing on this host")              \
  X(Internal, 70, "a defect of vmm itself")                                    \
  X(OsError, 71, "the host refused a system call")                             \
  X(CannotCreate, 73, "an output file or socket can't be made")                \
  X(IoError, 74, "reading or writing a host file failed")                      \
  X(NoPermission, 77, "the host forbids it to this user")                      \
  X(GuestFailure, 80, "the guest reported a failure (debug-exit port)")        \
  X(GuestPanic, 81, "the guest kernel panicked")                               \
  X(TripleFault, 82, "a vCPU met a triple fault")                              \
  X(GuestHang, 83, "every vCPU is halted with interrupts off")                 \
  X(WallTimeout, 84, "the time limit ended the run")                           \
  X(IdleTimeout, 85, "the guest said nothing for too long")                    \
  X(GuestReset, 86, "the guest reset itself and on_reboot is \"exit\"")        \
  X(Stopped, 87, "stopped from outside before the guest powered off")          \
  X(Suspended, 88, "suspended to a file; the next run goes on from there")     \
  X(BootFailed, 89, "the guest did not get as far as the command of vmm test") \
  X(NoStatus, 90, "the guest ended before the command of vmm test did")        \
  X(TestsFailed, 91, "not every test of vmm test passed")                      \
  X(EngineFailed, 100, "the engine met a state that it can't continue from")   \
  X(HostMemory, 101, "the host has no memory for the guest")                   \
  X(ConsoleLost, 102, "a console could not be opened or written")              \
  X(EngineUnavailable, 103, "the engine that was asked for can't run here")    \
  X(ImageLocked, 104, "another program uses a disk image")                     \
  X(ImageCorrupt, 105, "a disk image contradicts itself")

enum class ExitCode : int {
#define X(name, value, meaning) k##name = value,
  VMM_EXIT_CODES(X)
#undef X
};

constexpr std::string_view Meaning(ExitCode code) {
  switch (code) {
#define X(name, value, meaning) \
  case ExitCode::k##name:       \
    return meaning;
    VMM_EXIT_CODES(X)
#undef X
  }
  return "unknown";
}

constexpr std::string_view Name(ExitCode code) {
  switch (code) {
#define X(name, value, meaning) \
  case ExitCode::k##name:       \
    return #name;
    VMM_EXIT_CODES(X)
#undef X
  }
  return "unknown";
}

}  // namespace vmm
