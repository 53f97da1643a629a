#include "bt/translator/perf_map.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "vmm/core/base/log.h"

namespace bt {

PerfMap* PerfMap::Get() {
  static PerfMap* const map = []() -> PerfMap* {
    const std::string path = fmt::format("/tmp/perf-{}.map", getpid());
    unlink(path.c_str());  // of a process that had this number; what isn't ours stays, and fails
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0) return new PerfMap(fd);
    vmm::Log(vmm::LogLevel::kWarning,
             fmt::format("no names for perf: can't make {}: {}", path, std::strerror(errno)));
    return nullptr;
  }();
  return map;
}

// A line in one write, so that those of several threads don't mix.
void PerfMap::Add(const void* start, size_t size, std::string_view name) {
  if (size == 0) return;
  const std::string line =
      fmt::format("{:x} {:x} {}\n", reinterpret_cast<uintptr_t>(start), size, name);
  [[maybe_unused]] const ssize_t written = write(fd_, line.data(), line.size());
}

}  // namespace bt
