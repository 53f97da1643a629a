// What the machine says to a client: plain data, and the JSON of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/core/accel/statistic.h"
#include "vmm/core/base/result.h"
#include "vmm/machine/run_outcome.h"

namespace vmm::control {

struct Greeting {
  std::string name;  // of the machine
  int pid = 0;       // of the process that runs it
};

struct Console {
  std::string name;   // "serial0"
  std::string kind;   // "stdio", "pty", "unix", "file" or "null"
  std::string where;  // an absolute path, or empty
};

struct Status {
  std::string name;
  bool paused = false;
  std::string engine;         // "bt"
  std::string engine_reason;  // why it was chosen at the start
  uint64_t uptime_ms = 0;     // host time since the guest's first instruction
  uint64_t cpu_ms = 0;        // that its processors have taken of the host's
  unsigned cpus = 0;
  uint64_t memory = 0;  // bytes
  int pid = 0;
  std::string config;        // the vm.toml; absolute, or empty
  std::string suspend_file;  // likewise
  std::vector<Console> consoles;
};

struct EngineStatistics {
  std::string engine;
  bool running = false;           // false: the machine has moved away from it
  std::vector<Statistics> vcpus;  // the same names in each
};

struct DiskStatus {
  std::string name;    // "disk0"
  std::string path;    // absolute
  std::string format;  // "qcow2"
  std::string mode;    // "rw", "ro" or "snapshot"
  uint64_t size = 0;   // bytes
  unsigned queues = 0;
  std::string io;  // "io_uring", or "threads" and why
};

struct NetStatus {
  std::string name;       // "net0"
  std::string mode;       // "user", "tap" or "passt"
  std::string mac;        // "52:54:00:12:34:56"
  bool plugged = true;    // the guest's end of the cable
  bool connected = true;  // its other end leads somewhere
};

// Results as JSON, on one line without its end.
std::string ToJson(const Status& status);
std::string ToJson(std::span<const EngineStatistics> engines);
std::string ToJson(std::span<const DiskStatus> disks);
std::string ToJson(std::span<const NetStatus> nets);
std::string EndToJson(const RunOutcome& outcome);
// {"KEY": "TEXT"}
std::string TextToJson(std::string_view key, std::string_view text);

// Whole lines, with their end. `id`: Request::id.
std::string GreetingLine(const Greeting& greeting);
std::string AnswerLine(std::string_view id, const Result<std::string>& result);

}  // namespace vmm::control
