// Any bytes as a line that a client sends, and as one that the machine answers: each is refused or
// means something, and what comes out is one line of JSON.
#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/cli/ctl_parts.h"
#include "vmm/control/answer.h"
#include "vmm/control/request.h"
#include "vmm/core/base/check.h"

using namespace vmm::control;

namespace {

void CheckLine(std::string line) {
  CHECK(!line.empty() && line.back() == '\n');
  line.pop_back();
  CHECK(line.find('\n') == std::string::npos);
  // It says what it is.
  const auto text = vmm::CtlText(Command::kPause, line);
  CHECK(text || text.error().code != vmm::ExitCode::kIoError);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  if (const auto request = ParseRequest(line)) {
    std::string again = FormatRequest(*request);
    again.pop_back();
    const auto same = ParseRequest(again);
    CHECK(same && same->id == request->id && same->command == request->command &&
          same->force == request->force);
    CheckLine(AnswerLine(request->id, TextToJson("state", line)));
  } else {
    CHECK(!request.error().error.message.empty() && request.error().error.message.size() < 400);
    CheckLine(AnswerLine(request.error().id, tl::unexpected(request.error().error)));
  }
  for (unsigned i = 0; i <= static_cast<unsigned>(Command::kWait); ++i) {
    static_cast<void>(vmm::CtlText(static_cast<Command>(i), line));
  }
  static_cast<void>(vmm::FindConsole(line, "serial0"));
  return 0;
}
