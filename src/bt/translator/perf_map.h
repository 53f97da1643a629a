// Names of translated code for perf(1): /tmp/perf-PID.map, which perf reads for code that has no
// file.
#pragma once

#include <cstddef>
#include <string_view>

namespace bt {

// One for the process; any thread.
class PerfMap {
 public:
  // Null, with a message: the file can't be made.
  static PerfMap* Get();

  // What lies at [start, start+size) from now on.
  void Add(const void* start, size_t size, std::string_view name);

 private:
  explicit PerfMap(int fd) : fd_(fd) {}
  const int fd_;  // open as long as the process
};

}  // namespace bt
