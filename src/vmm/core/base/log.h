// Messages to the admin, on stderr. Thread-safe. A hostile guest can't flood the host's log: use
// LogGuest for what a guest can provoke; it is limited to a few lines a second per call site.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/core/base/result.h"

namespace vmm {

enum class LogLevel { kError, kWarning, kInfo, kDebug };

// What is said from now on is also written to a file, with the time, and appended to what is there.
// A file of `limit` bytes becomes vmm.1.log, if it is called vmm.log. kCannotCreate, or nothing.
Result<void> AddLogFile(const std::string& path, uint64_t limit);
// To that file alone; to nowhere where there is none.
void LogToFile(std::string_view message);
void SetLogLevel(LogLevel most_verbose);
// What ends a line: "\n", or "\r\n" while the terminal is in raw mode. Any thread.
void SetLogLineEnd(std::string_view end);
void Log(LogLevel level, std::string_view message);

// At most `kGuestLogBurst` lines a second over the whole process; the rest is counted and reported.
void LogGuest(LogLevel level, std::string_view message);

}  // namespace vmm
