#include "vmm/control/request.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "vmm/config/spelling.h"

namespace vmm::control {
namespace {

// In the order of the enum.
constexpr std::string_view kNames[] = {"status",  "stats",     "disk",  "link", "pause", "resume",
                                       "suspend", "powerdown", "reset", "stop", "move",  "wait"};
constexpr size_t kLongestId = 128;  // bytes of JSON

tl::unexpected<BadRequest> Bad(std::string id, std::string message) {
  return tl::unexpected(BadRequest{std::move(id), {ExitCode::kUsage, std::move(message)}});
}

// What came from outside, fit for a message.
std::string Shown(std::string_view text) {
  constexpr size_t kMost = 40;
  return nlohmann::json(std::string(text.substr(0, kMost)))
      .dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

std::string FixOf(std::string_view word, std::span<const std::string_view> known) {
  const std::string_view near = NearestSpelling(word, known);
  return near.empty() ? fmt::format("known: {}", fmt::join(known, ", "))
                      : fmt::format("write \"{}\"", near);
}

}  // namespace

std::string_view NameOf(Command command) {
  return kNames[static_cast<size_t>(command)];
}

tl::expected<Request, BadRequest> ParseRequest(std::string_view line) {
  using nlohmann::json;
  const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  Request request;
  if (!object.is_object()) {
    return Bad(request.id, R"(a request is an object of JSON on one line: {"command": "status"})");
  }
  if (const auto id = object.find("id"); id != object.end()) {
    const bool plain = id->is_null() || id->is_number_integer() || id->is_string();
    std::string text = plain ? id->dump(-1, ' ', true) : std::string();
    if (!plain || text.size() > kLongestId) {
      return Bad(request.id,
                 fmt::format("\"id\" is a whole number, or text of at most {} bytes", kLongestId));
    }
    request.id = std::move(text);
  }
  const auto command = object.find("command");
  if (command == object.end() || !command->is_string()) {
    return Bad(request.id, R"(a request says what it wants: {"command": "status"})");
  }
  const auto& word = command->get_ref<const std::string&>();
  const auto* name = std::find(std::begin(kNames), std::end(kNames), word);
  if (name == std::end(kNames)) {
    return Bad(request.id,
               fmt::format("unknown command {}; fix: {}", Shown(word), FixOf(word, kNames)));
  }
  request.command = static_cast<Command>(name - std::begin(kNames));
  std::vector<std::string_view> known{"id", "command"};
  if (request.command == Command::kStop) known.emplace_back("force");
  if (request.command == Command::kLink) known.insert(known.end(), {"net", "up"});
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return Bad(request.id,
                 fmt::format("{} has no {}; fix: {}", *name, Shown(key), FixOf(key, known)));
    }
  }
  if (const auto force = object.find("force"); force != object.end()) {
    if (!force->is_boolean()) return Bad(request.id, R"("force" is true or false)");
    request.force = force->get<bool>();
  }
  const auto net = object.find("net"), up = object.find("up");
  if ((net == object.end()) != (up == object.end()))
    return Bad(request.id, R"(a link takes both: {"command": "link", "net": "net0", "up": false})");
  if (net != object.end()) {
    if (!net->is_string() || !up->is_boolean())
      return Bad(request.id, R"("net" is a card's name, "up" is true or false)");
    request.net = net->get<std::string>();
    request.up = up->get<bool>();
  }
  return request;
}

std::string FormatRequest(const Request& request) {
  std::string more = request.force ? R"(,"force":true)" : "";
  if (request.up)
    more += fmt::format(R"(,"net":{},"up":{})", nlohmann::json(request.net).dump(-1, ' ', true),
                        *request.up);
  return fmt::format(R"({{"id":{},"command":"{}"{}}})"
                     "\n",
                     request.id, NameOf(request.command), more);
}

}  // namespace vmm::control
