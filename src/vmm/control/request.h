// What a client asks of a running machine: one line of JSON. docs/control.md is the protocol.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "vmm/core/base/result.h"

namespace vmm::control {

// A client that knows this version understands all that later ones of the same number say; fields
// may be added.
inline constexpr unsigned kProtocol = 1;

enum class Command : uint8_t {
  kStatus,
  kStats,
  kDisk,
  kLink,
  kPause,
  kResume,
  kSuspend,
  kPowerdown,
  kReset,
  kStop,
  kMove,
  kWait,
};

// "status"
std::string_view NameOf(Command command);

struct Request {
  std::string id = "null";  // as JSON: given back with the answer
  Command command = Command::kStatus;
  bool force = false;  // of kStop: at once
  // Of kLink: plug the cable of card `net` in, or pull it out. Empty, none: only list the cards.
  std::string net;
  std::optional<bool> up;
};

// A line that asks for nothing: the answer says why.
struct BadRequest {
  std::string id = "null";
  Error error;
};

// `line` without its end; any bytes.
tl::expected<Request, BadRequest> ParseRequest(std::string_view line);
// The line of a request, with its end.
std::string FormatRequest(const Request& request);

}  // namespace vmm::control
