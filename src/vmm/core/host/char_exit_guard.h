// Gives the host back what a console took from it, on every way out of the process.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "vmm/core/base/result.h"

namespace vmm {

// Undone by the destructor, else by exit(), quick_exit() and any signal that ends the process,
// abort() included (what had a handler already keeps it; who takes a signal over later chains to
// the handler that he finds). A terminal is also given back while the process is stopped (SIGTSTP).
// Only SIGKILL and _exit() leave things as they are. At most kMost exist at a time; a child made by
// fork() undoes nothing.
//
// Threads: any.
class CharExitGuard {
 public:
  static constexpr int kMost = 16;

  // Puts the terminal `fd` into raw mode: every key goes to the guest, every byte of the guest to
  // the terminal, both unchanged. Given back as it was, unless another program has the terminal by
  // then. kOsError.
  static Result<CharExitGuard> RawTerminal(int fd);
  // Removes the socket file `path`, if it is the same file then. kOsError when there is none.
  static Result<CharExitGuard> RemoveSocket(const std::string& path);

  CharExitGuard() = default;  // guards nothing
  CharExitGuard(CharExitGuard&& other) noexcept : slot_(std::exchange(other.slot_, -1)) {}
  CharExitGuard& operator=(CharExitGuard&& other) noexcept {
    std::swap(slot_, other.slot_);
    return *this;
  }
  ~CharExitGuard() { Undo(); }
  void Undo();
  // Makes the terminal raw again, after another job had it.
  void Renew();
  explicit operator bool() const { return slot_ >= 0; }

 private:
  explicit CharExitGuard(int slot) : slot_(slot) {}
  int slot_ = -1;
};

// False for a terminal that another job of this session has: reading from it, or setting its modes,
// would stop this process.
bool InForeground(int terminal);

}  // namespace vmm
