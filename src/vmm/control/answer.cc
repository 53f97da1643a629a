#include "vmm/control/answer.h"

#include <nlohmann/json.hpp>

#include "vmm/control/request.h"

namespace vmm::control {
namespace {

using Json = nlohmann::ordered_json;

// Paths and what a guest printed need not be UTF-8.
std::string Text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json TextOrNull(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

Json Value(const Statistic& statistic) {
  return statistic.scale == 0 ? Json(statistic.count) : Json(statistic.value());
}

Json Rows(const std::vector<Statistics>& vcpus) {
  Json rows = Json::array();
  for (size_t row = 0; !vcpus.empty() && row < vcpus.front().size(); ++row) {
    Statistic total = vcpus.front()[row];
    total.count = total.per = 0;
    Json values = Json::array();
    for (const Statistics& vcpu : vcpus) {
      total.count += vcpu[row].count;
      total.per += vcpu[row].per;
      values.push_back(Value(vcpu[row]));
    }
    rows.push_back(
        {{"name", std::string(total.name)}, {"total", Value(total)}, {"cpus", std::move(values)}});
  }
  return rows;
}

}  // namespace

std::string ToJson(const Status& status) {
  Json consoles = Json::array();
  for (const Console& console : status.consoles) {
    consoles.push_back(
        {{"name", console.name}, {"kind", console.kind}, {"where", TextOrNull(console.where)}});
  }
  return Text({{"name", status.name},
               {"state", status.paused ? "paused" : "running"},
               {"engine", status.engine},
               {"engine_reason", status.engine_reason},
               {"uptime_ms", status.uptime_ms},
               {"cpu_ms", status.cpu_ms},
               {"cpus", status.cpus},
               {"memory", status.memory},
               {"pid", status.pid},
               {"config", TextOrNull(status.config)},
               {"suspend_file", TextOrNull(status.suspend_file)},
               {"consoles", std::move(consoles)}});
}

std::string ToJson(std::span<const EngineStatistics> engines) {
  Json list = Json::array();
  for (const EngineStatistics& engine : engines) {
    list.push_back({{"engine", engine.engine},
                    {"running", engine.running},
                    {"statistics", Rows(engine.vcpus)}});
  }
  return Text({{"engines", std::move(list)}});
}

std::string ToJson(std::span<const DiskStatus> disks) {
  Json list = Json::array();
  for (const DiskStatus& disk : disks) {
    list.push_back({{"name", disk.name},
                    {"path", disk.path},
                    {"format", disk.format},
                    {"mode", disk.mode},
                    {"size", disk.size},
                    {"queues", disk.queues},
                    {"io", disk.io}});
  }
  return Text({{"disks", std::move(list)}});
}

std::string ToJson(std::span<const NetStatus> nets) {
  Json list = Json::array();
  for (const NetStatus& net : nets) {
    list.push_back({{"name", net.name},
                    {"mode", net.mode},
                    {"mac", net.mac},
                    {"plugged", net.plugged},
                    {"connected", net.connected}});
  }
  return Text({{"nets", std::move(list)}});
}

std::string EndToJson(const RunOutcome& outcome) {
  return Text({{"exit_code", static_cast<int>(outcome.code)},
               {"exit_name", std::string(Name(outcome.code))},
               {"reason", outcome.reason}});
}

std::string TextToJson(std::string_view key, std::string_view text) {
  return Text({{std::string(key), std::string(text)}});
}

std::string GreetingLine(const Greeting& greeting) {
  const Json json{{"vmm",
                   {{"protocol", kProtocol},
                    {"version", VMM_VERSION},
                    {"name", greeting.name},
                    {"pid", greeting.pid}}}};
  return Text(json) + "\n";
}

std::string AnswerLine(std::string_view id, const Result<std::string>& result) {
  std::string line = "{\"id\":" + std::string(id);
  if (result) return line + ",\"ok\":true,\"result\":" + *result + "}\n";
  const Json error{{"code", static_cast<int>(result.error().code)},
                   {"name", std::string(Name(result.error().code))},
                   {"message", result.error().message}};
  return line + ",\"ok\":false,\"error\":" + Text(error) + "}\n";
}

}  // namespace vmm::control
