#include "vmm/control/request.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

using namespace vmm::control;

namespace {

std::string WhyBad(std::string_view line) {
  const auto request = ParseRequest(line);
  REQUIRE_FALSE(request);
  CHECK(request.error().error.code == vmm::ExitCode::kUsage);
  return request.error().error.message;
}

}  // namespace

TEST_CASE("a request has a command, and an id that is given back", "[control]") {
  const auto plain = ParseRequest(R"({"command": "status"})");
  REQUIRE(plain);
  CHECK(plain->command == Command::kStatus);
  CHECK(plain->id == "null");
  const auto number = ParseRequest(R"({"id": -7, "command": "wait"})");
  REQUIRE(number);
  CHECK(number->command == Command::kWait);
  CHECK(number->id == "-7");
  const auto text = ParseRequest(R"( {"command":"stop","force":true,"id":"a\"b\n\u00e9"} )");
  REQUIRE(text);
  CHECK(text->force);
  CHECK(nlohmann::json::parse(text->id) == "a\"b\n\u00e9");
  CHECK(text->id.find('\n') == std::string::npos);  // an answer is one line
}

TEST_CASE("every request is read back as it was written", "[control]") {
  for (unsigned i = 0; i <= static_cast<unsigned>(Command::kWait); ++i) {
    const auto command = static_cast<Command>(i);
    for (const bool force : {false, true}) {
      if (force && command != Command::kStop) continue;
      Request asked;
      asked.id = "12";
      asked.command = command;
      asked.force = force;
      std::string line = FormatRequest(asked);
      REQUIRE(line.back() == '\n');
      line.pop_back();
      CHECK(line.find('\n') == std::string::npos);
      const auto request = ParseRequest(line);
      REQUIRE(request);
      CHECK((request->command == command && request->force == force && request->id == "12"));
    }
  }
}

TEST_CASE("a link names a card and what becomes of it, or neither", "[control]") {
  for (const bool up : {false, true}) {
    Request asked;
    asked.command = Command::kLink;
    asked.net = "net\"0";
    asked.up = up;
    std::string line = FormatRequest(asked);
    line.pop_back();
    const auto request = ParseRequest(line);
    REQUIRE(request);
    CHECK((request->command == Command::kLink && request->net == "net\"0" && request->up == up));
  }
  const auto list = ParseRequest(R"({"command":"link"})");
  REQUIRE(list);
  CHECK_FALSE(list->up);
  CHECK(WhyBad(R"({"command":"link","net":"net0"})").find("takes both") != std::string::npos);
  CHECK(WhyBad(R"({"command":"link","up":true})").find("takes both") != std::string::npos);
  CHECK(WhyBad(R"({"command":"link","net":"net0","up":1})").find("true or false") !=
        std::string::npos);
  CHECK(WhyBad(R"({"command":"link","net":0,"up":true})").find("card's name") != std::string::npos);
  CHECK(WhyBad(R"({"command":"pause","up":true})").find("pause has no") != std::string::npos);
}

TEST_CASE("what is no request is told, with the nearest right spelling", "[control]") {
  for (const char* line : {"status", "", "[]", "\"status\"", "{\"command\":\"status\"", "\xFF\xFE",
                           "{\"command\":\"sta\xFFtus\"}", "{} {}", "null"}) {
    INFO(line);
    CHECK_FALSE(WhyBad(line).empty());
  }
  CHECK(WhyBad(R"({"command":"statsu"})").find("\"stat") != std::string::npos);
  CHECK(WhyBad(R"({"command":"powerdwn"})") ==
        "unknown command \"powerdwn\"; fix: write \"powerdown\"");
  CHECK(WhyBad(R"({"command":"explode"})").find("known: status, stats") != std::string::npos);
  CHECK(WhyBad(R"({"command":7})").find("what it wants") != std::string::npos);
  CHECK(WhyBad(R"({"command":"stop","froce":true})") ==
        "stop has no \"froce\"; fix: write \"force\"");
  CHECK(WhyBad(R"({"command":"pause","force":true})").find("pause has no") != std::string::npos);
  CHECK(WhyBad(R"({"command":"stop","force":1})") == "\"force\" is true or false");
}

TEST_CASE("an id is short and plain", "[control]") {
  WhyBad(R"({"id":{},"command":"status"})");
  WhyBad(R"({"id":[1],"command":"status"})");
  WhyBad(R"({"id":1.5,"command":"status"})");
  WhyBad(R"({"id":")" + std::string(200, 'x') + R"(","command":"status"})");
  // It is given back with an error too.
  CHECK(ParseRequest(R"({"id":5,"command":"no"})").error().id == "5");
}

TEST_CASE("a message shows no more than a little of what came", "[control]") {
  const std::string line = R"({"command":")" + std::string(10'000, 'x') + "\x01" + R"("})";
  CHECK(WhyBad(line).size() < 300);
  CHECK(WhyBad(R"({"command":")" + std::string(10'000, 'x') + R"("})").size() < 300);
  const std::string deep(16'000, '[');
  CHECK(WhyBad(deep).size() < 300);
  CHECK(WhyBad(R"({"id":)" + deep).size() < 300);
}
