// Opens the host side of a serial line: the one door to all kinds of CharBackend.
#pragma once

#include <memory>
#include <string>

#include "vmm/core/base/result.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/host/event_loop.h"

namespace vmm {

struct CharBackendSpec {
  enum class Kind : uint8_t { kNull, kStdio, kPty, kUnix, kFile, kSocket };
  Kind kind = Kind::kNull;
  std::string path = {};           // kUnix: the socket to listen on; kFile: the file
  bool truncate = false;           // kFile: begin anew instead of appending
  uint64_t limit = 0;              // kFile: as CharFile's
  std::string name = "a console";  // for the log: "serial0"
  int fd = -1;                     // kSocket: stays the caller's
};

// On the thread that sets the machine up, before EventLoop::Run(); the backend is destroyed before
// the loop, when nobody is in Run(). Keys that stop the machine are not its business: EscapeKeys of
// the machine wraps it.
//
// Errors: kConsoleLost when it can't be opened, kConfigInvalid when it never could (a socket's path
// that is too long, stdio twice); the message names the path and the remedy; which line it is, the
// caller knows.
Result<std::unique_ptr<CharBackend>> OpenCharBackend(const CharBackendSpec& spec, EventLoop& loop);

}  // namespace vmm
