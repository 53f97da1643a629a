#include "vmm/core/base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

namespace vmm {
namespace {

constexpr unsigned kGuestLogBurst = 10;
constexpr const char* kPattern = "vmm: %v";
constexpr const char* kFilePattern = "%Y-%m-%dT%H:%M:%S.%e%z %v";

const spdlog::sink_ptr& StderrSink() {
  static const spdlog::sink_ptr sink = [] {
    auto made = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    made->set_pattern(kPattern);
    return made;
  }();
  return sink;
}

// To all sinks. A sink is added only while there is one thread.
spdlog::logger& Logger() {
  static spdlog::logger& logger = [&]() -> spdlog::logger& {
    static spdlog::logger instance("vmm", StderrSink());
    instance.flush_on(spdlog::level::trace);
    return instance;
  }();
  return logger;
}

spdlog::sink_ptr& FileSink() {
  static spdlog::sink_ptr sink;
  return sink;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kDebug:
      return spdlog::level::debug;
  }
  return spdlog::level::info;
}

}  // namespace

void SetLogLevel(LogLevel most_verbose) {
  Logger().set_level(ToSpdlog(most_verbose));
}

Result<void> AddLogFile(const std::string& path, uint64_t limit) {
  try {
    auto sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(path, limit, /*files=*/1);
    sink->set_pattern(kFilePattern);
    FileSink() = sink;
    Logger().sinks().push_back(std::move(sink));
    return {};
  } catch (const spdlog::spdlog_ex& error) {
    return Fail(ExitCode::kCannotCreate, error.what());
  }
}

void LogToFile(std::string_view message) {
  if (!FileSink()) return;
  spdlog::logger file("vmm", FileSink());
  file.info(message);
  file.flush();
}

void SetLogLineEnd(std::string_view end) {
  StderrSink()->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      kPattern, spdlog::pattern_time_type::local, std::string(end)));
}

void Log(LogLevel level, std::string_view message) {
  Logger().log(ToSpdlog(level), message);
}

void LogGuest(LogLevel level, std::string_view message) {
  static std::mutex mutex;
  static std::chrono::steady_clock::time_point window_start;
  static unsigned in_window = 0;
  std::lock_guard lock(mutex);
  const auto now = std::chrono::steady_clock::now();
  if (now - window_start > std::chrono::seconds(1)) {
    if (in_window > kGuestLogBurst) {
      Logger().log(spdlog::level::warn, "{} more messages about the guest were dropped",
                   in_window - kGuestLogBurst);
    }
    window_start = now;
    in_window = 0;
  }
  if (++in_window <= kGuestLogBurst) Log(level, message);
}

}  // namespace vmm
