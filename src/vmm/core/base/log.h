// Messages to the admin, on stderr. Thread-safe. A hostile guest can't flood the host's log: use
// LogGuest for what a guest can provoke; it is limited to a few lines a second per call site.
#pragma once

#include <string_view>

namespace vmm {

enum class LogLevel { kError, kWarning, kInfo, kDebug };

void SetLogLevel(LogLevel most_verbose);
void Log(LogLevel level, std::string_view message);

// At most `kGuestLogBurst` lines a second over the whole process; the rest is counted and reported.
void LogGuest(LogLevel level, std::string_view message);

}  // namespace vmm
