// What `vmm ctl` prints for people.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vmm/cli/ctl_parts.h"
#include "vmm/config/value_parsers.h"

namespace vmm {
namespace {

using control::Command;
using Json = nlohmann::ordered_json;

// Fields of an answer, which may be anything: another program may have given it.
std::string Text(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

uint64_t Number(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

const Json& List(const Json& object, const char* key) {
  static const Json kNone = Json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : kNone;
}

Result<Json> ResultOf(std::string_view answer) {
  const Json json = Json::parse(answer, nullptr, /*allow_exceptions=*/false);
  const auto ok = json.is_object() ? json.find("ok") : json.end();
  if (!json.is_object() || ok == json.end() || !ok->is_boolean()) {
    return Fail(ExitCode::kIoError, "the machine's answer makes no sense");
  }
  const char* const key = ok->get<bool>() ? "result" : "error";
  const auto part = json.find(key);
  if (part == json.end() || !part->is_object()) {
    return Fail(ExitCode::kIoError, "the machine's answer makes no sense");
  }
  if (ok->get<bool>()) return *part;
  const auto code = static_cast<ExitCode>(Number(*part, "code"));
  const bool known = code != ExitCode::kSuccess && Name(code) != "unknown";
  return Fail(known ? code : ExitCode::kUnavailable, Text(*part, "message"));
}

std::string Seconds(uint64_t ms) {
  return fmt::format("{}.{} s", ms / 1000, ms % 1000 / 100);
}

std::string StatusText(const Json& status) {
  const uint64_t cpus = Number(status, "cpus");
  std::string text =
      fmt::format("{} is {}: {} CPU{}, {}, engine {}, up {} ({} of CPU time), process {}\n",
                  Text(status, "name"), Text(status, "state"), cpus, cpus == 1 ? "" : "s",
                  FormatSize(Number(status, "memory")), Text(status, "engine"),
                  Seconds(Number(status, "uptime_ms")), Seconds(Number(status, "cpu_ms")),
                  Number(status, "pid"));
  for (const Json& console : List(status, "consoles")) {
    const std::string kind = Text(console, "kind"), where = Text(console, "where");
    if (kind == "null") continue;
    text +=
        fmt::format("  {}: {}{}{}\n", Text(console, "name"), kind, where.empty() ? "" : " ", where);
  }
  return text;
}

std::string Shown(const Json& value) {
  return value.is_number_float() ? fmt::format("{:.3f}", value.get<double>()) : value.dump();
}

std::string StatsText(const Json& stats) {
  std::string text;
  for (const Json& engine : List(stats, "engines")) {
    const auto running = engine.find("running");
    const bool left = running != engine.end() && *running == false;
    text += fmt::format("{}{}\n", Text(engine, "engine"), left ? " (before)" : "");
    for (const Json& row : List(engine, "statistics")) {
      const Json& cpus = List(row, "cpus");
      text += fmt::format("  {:<40}", Text(row, "name"));
      for (const Json& value : cpus) {
        if (cpus.size() > 1) text += fmt::format("  {:>14}", Shown(value));
      }
      const auto total = row.find("total");
      text += fmt::format("  {:>14}\n", total == row.end() ? "" : Shown(*total));
    }
  }
  return text;
}

std::string DiskText(const Json& disks) {
  std::string text;
  for (const Json& disk : List(disks, "disks")) {
    text += fmt::format("{}: {} ({}, {}), {} bytes, by {}\n", Text(disk, "name"),
                        Text(disk, "path"), Text(disk, "format"), Text(disk, "mode"),
                        Number(disk, "size"), Text(disk, "io"));
  }
  return text.empty() ? "the machine has no disks\n" : text;
}

std::string NetText(const Json& nets) {
  std::string text;
  for (const Json& net : List(nets, "nets")) {
    const bool plugged = net.value("plugged", false), connected = net.value("connected", false);
    text += fmt::format("{}: {}, {}, {}\n", Text(net, "name"), Text(net, "mode"), Text(net, "mac"),
                        !plugged     ? "down"
                        : !connected ? "up, but its other end is gone"
                                     : "up");
  }
  return text.empty() ? "the machine has no network cards\n" : text;
}

}  // namespace

Result<std::string> CtlText(Command command, std::string_view answer) {
  return ResultOf(answer).map([&](const Json& result) -> std::string {
    switch (command) {
      case Command::kStatus:
        return StatusText(result);
      case Command::kStats:
        return StatsText(result);
      case Command::kDisk:
        return DiskText(result);
      case Command::kLink:
        return NetText(result);
      case Command::kPause:
      case Command::kResume:
        return fmt::format("the machine is {}\n", Text(result, "state"));
      case Command::kReset:
        return "the machine was reset\n";
      case Command::kSuspend:
        return fmt::format("suspended to {}\n", Text(result, "file"));
      case Command::kMove:
        return fmt::format("the machine goes on under {}\n", Text(result, "engine"));
      case Command::kPowerdown:
        return "the power button was pressed\n";
      case Command::kStop:
        return fmt::format("the machine is told to stop, {}\n", Text(result, "stopping"));
      case Command::kWait:
        return fmt::format("the machine ended with {} ({}): {}\n", Number(result, "exit_code"),
                           Text(result, "exit_name"), Text(result, "reason"));
    }
    return {};
  });
}

Result<CtlConsole> FindConsole(std::string_view status_answer, std::string_view name) {
  return ResultOf(status_answer).and_then([&](const Json& status) -> Result<CtlConsole> {
    std::string names;
    for (const Json& console : List(status, "consoles")) {
      names += (names.empty() ? "" : ", ") + Text(console, "name");
      if (Text(console, "name") != name) continue;
      CtlConsole found{Text(console, "kind"), Text(console, "where")};
      if ((found.kind == "unix" || found.kind == "pty") && !found.where.empty()) return found;
      return Fail(ExitCode::kUnavailable,
                  fmt::format("{} leads to {}, where nobody can attach; fix: write {} = "
                              "\"unix:{}.sock\" below [console]",
                              name,
                              found.kind == "stdio"  ? "the terminal of vmm itself"
                              : found.kind == "file" ? "the file " + found.where
                                                     : "nowhere",
                              name, name));
    }
    return Fail(ExitCode::kUsage, fmt::format("'{}' is no console; known: {}", name, names));
  });
}

}  // namespace vmm
