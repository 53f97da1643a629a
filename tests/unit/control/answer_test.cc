#include "vmm/control/answer.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "vmm/cli/ctl_parts.h"

using namespace vmm::control;
using nlohmann::json;

namespace {

Status SomeStatus() {
  Status status;
  status.name = "web1";
  status.engine = "bt";
  status.uptime_ms = 61'500;
  status.cpus = 2;
  status.memory = 512 << 20;
  status.pid = 77;
  status.consoles = {{"serial0", "unix", "/vm/c.sock"},
                     {"serial1", "null", ""},
                     {"serial2", "file", "/vm/log"},
                     {"serial3", "pty", "/dev/pts/9"}};
  return status;
}

// One line of an answer as the client reads it.
std::string Line(const vmm::Result<std::string>& result) {
  std::string line = AnswerLine("3", result);
  REQUIRE(line.back() == '\n');
  line.pop_back();
  REQUIRE(line.find('\n') == std::string::npos);
  return line;
}

}  // namespace

TEST_CASE("an answer is one line of JSON with the id of its request", "[control]") {
  CHECK(json::parse(Line(ToJson(SomeStatus())))["id"] == 3);
  const json failed = json::parse(Line(vmm::Fail(vmm::ExitCode::kUnavailable, "a\n\xFF")));
  CHECK(failed["ok"] == false);
  CHECK(failed["error"]["code"] == 69);
  CHECK(failed["error"]["name"] == "Unavailable");
  const json greeting = json::parse(GreetingLine({"web1", 5}));
  CHECK(greeting["vmm"]["protocol"] == kProtocol);
  CHECK(greeting["vmm"]["name"] == "web1");
  CHECK(greeting["vmm"]["pid"] == 5);
}

TEST_CASE("the status says how the machine is, and where its consoles are", "[control]") {
  Status status = SomeStatus();
  const json result = json::parse(ToJson(status));
  CHECK(result["state"] == "running");
  CHECK(result["memory"] == 512 << 20);
  CHECK(result["config"] == nullptr);
  CHECK(result["consoles"][0]["where"] == "/vm/c.sock");
  const auto text = vmm::CtlText(Command::kStatus, Line(ToJson(status)));
  REQUIRE(text);
  CHECK(text->find("web1 is running: 2 CPUs, 512M, engine bt, up 61.5 s") == 0);
  CHECK(text->find("serial1") == std::string::npos);
  status.paused = true;
  CHECK(vmm::CtlText(Command::kStatus, Line(ToJson(status)))->find("web1 is paused") == 0);
}

TEST_CASE("statistics have a value a processor and their total", "[control]") {
  const vmm::Statistic ratio{"hits per 100", 0, 0, 100};
  auto one = ratio, two = ratio;
  one.count = 1, one.per = 2, two.count = 2, two.per = 8;
  const EngineStatistics engine{"bt", true, {{{"blocks", 3}, one}, {{"blocks", 4}, two}}};
  const json rows = json::parse(ToJson(std::span(&engine, 1)))["engines"][0]["statistics"];
  CHECK(rows[0] == json{{"name", "blocks"}, {"total", 7}, {"cpus", {3, 4}}});
  CHECK(rows[1] == json{{"name", "hits per 100"}, {"total", 30.0}, {"cpus", {50.0, 25.0}}});
  const auto text = vmm::CtlText(Command::kStats, Line(ToJson(std::span(&engine, 1))));
  REQUIRE(text);
  CHECK(text->find("bt\n  blocks ") == 0);
  CHECK(text->find(" 30.000\n") != std::string::npos);
}

TEST_CASE("an end, a disk and a text are told to people too", "[control]") {
  vmm::RunOutcome outcome;
  outcome.code = vmm::ExitCode::kStopped;
  outcome.reason = "stopped by somebody";
  CHECK(*vmm::CtlText(Command::kWait, Line(EndToJson(outcome))) ==
        "the machine ended with 87 (Stopped): stopped by somebody\n");
  const DiskStatus disk{"disk0", "/vm/a", "raw", "ro", 512, 1, "io_uring"};
  CHECK(*vmm::CtlText(Command::kDisk, Line(ToJson(std::span(&disk, 1)))) ==
        "disk0: /vm/a (raw, ro), 512 bytes, by io_uring\n");
  CHECK(*vmm::CtlText(Command::kDisk, Line(ToJson(std::span<const DiskStatus>()))) ==
        "the machine has no disks\n");
  const NetStatus nets[] = {{"net0", "user", "52:54:00:00:00:01", true, true},
                            {"net1", "tap", "52:54:00:00:00:02", false, true},
                            {"net2", "passt", "52:54:00:00:00:03", true, false}};
  CHECK(*vmm::CtlText(Command::kLink, Line(ToJson(nets))) ==
        "net0: user, 52:54:00:00:00:01, up\nnet1: tap, 52:54:00:00:00:02, down\n"
        "net2: passt, 52:54:00:00:00:03, up, but its other end is gone\n");
  CHECK(*vmm::CtlText(Command::kLink, Line(ToJson(std::span<const NetStatus>()))) ==
        "the machine has no network cards\n");
  CHECK(TextToJson("state", "paused") == R"({"state":"paused"})");
  CHECK(*vmm::CtlText(Command::kPause, Line(TextToJson("state", "paused"))) ==
        "the machine is paused\n");
}

TEST_CASE("an error of the machine is the client's, with its code", "[control]") {
  const auto text =
      vmm::CtlText(Command::kMove, Line(vmm::Fail(vmm::ExitCode::kEngineUnavailable, "no other")));
  REQUIRE_FALSE(text);
  CHECK(text.error().code == vmm::ExitCode::kEngineUnavailable);
  CHECK(text.error().message == "no other");
}

TEST_CASE("what is no answer is an error, whatever it says", "[control]") {
  for (const char* line :
       {"", "{}", "[]", "7", R"({"ok":1})", R"({"ok":true})", R"({"ok":true,"result":[]})",
        R"({"ok":false})", R"({"ok":false,"error":"no"})", "\xFF"}) {
    for (unsigned i = 0; i <= static_cast<unsigned>(Command::kWait); ++i) {
      INFO(line);
      const auto text = vmm::CtlText(static_cast<Command>(i), line);
      REQUIRE_FALSE(text);
      CHECK(text.error().code == vmm::ExitCode::kIoError);
    }
  }
  // An error without a code that is known is one nevertheless.
  for (const char* code : {"0", "1", "-1", "99999999999", "\"x\"", "null"}) {
    const auto text =
        vmm::CtlText(Command::kPause, R"({"ok":false,"error":{"code":)" + std::string(code) + "}}");
    REQUIRE_FALSE(text);
    CHECK(text.error().code == vmm::ExitCode::kUnavailable);
  }
  // Fields of other kinds than they should be.
  CHECK(vmm::CtlText(Command::kStatus, R"({"ok":true,"result":{"name":1,"consoles":[3,{}]}})"));
  CHECK(vmm::CtlText(Command::kStats,
                     R"({"ok":true,"result":{"engines":[1,{"statistics":[2,{"cpus":7}]}]}})"));
}

TEST_CASE("only a socket or a pty can be attached to", "[control]") {
  const std::string status = Line(ToJson(SomeStatus()));
  const auto socket = vmm::FindConsole(status, "serial0");
  REQUIRE(socket);
  CHECK((socket->kind == "unix" && socket->where == "/vm/c.sock"));
  CHECK(vmm::FindConsole(status, "serial3")->where == "/dev/pts/9");
  for (const char* name : {"serial1", "serial2"}) {
    const auto none = vmm::FindConsole(status, name);
    REQUIRE_FALSE(none);
    CHECK(none.error().code == vmm::ExitCode::kUnavailable);
    CHECK(none.error().message.find("; fix: ") != std::string::npos);
  }
  CHECK(vmm::FindConsole(status, "serial9").error().code == vmm::ExitCode::kUsage);
}
