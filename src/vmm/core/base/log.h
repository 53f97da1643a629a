// Messages to the admin, on stderr. Thread-safe. A hostile guest can't flood the host's log: use
// LogGuest for what a guest can provoke; it is limited to a few lines a second per call site.
#pragma once

#include <string_view>

namespace vmm {

enum class LogLevel { kError, kWarning, kInfo, kDebug };

void SetLogLevel(LogLevel most_verbose);
// What ends a line: "\n", or "\r\n" while the terminal is in raw mode. Any thread.
void SetLogLineEnd(std::string_view end);
void Log(LogLevel level, std::string_view message);

// At most `kGuestLogBurst` lines a second over the whole process; the rest is counted and reported.
void LogGuest(LogLevel level, std::string_view message);

}  // namespace vmm
