#include "vmm/machine/input_log.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "../support/temp_dir.h"

namespace vmm::test {
namespace {

std::string WhyWrong(std::string_view text) {
  const TempDir directory;
  const auto path = directory.Write("inputs", text);
  auto read = ReadInputLog(path);
  REQUIRE_FALSE(read);
  CHECK(read.error().code == ExitCode::kConfigInvalid);
  const std::string& message = read.error().message;
  const size_t place = message.find("inputs:");
  return message.substr(place + 7, message.find(";") - place - 7);
}

}  // namespace

TEST_CASE("a record of inputs reads as it was written") {
  const TempDir directory;
  const auto path = directory.path() / "inputs";
  const std::vector<MachineInput> inputs = {
      {Nanoseconds(0), 0, "ls\n"},
      {Nanoseconds(17), 3, std::string("\0\xff", 2)},
      {Nanoseconds(17), kPowerButtonInput, ""},
      {Nanoseconds(INT64_MAX), 1, "x"},
  };
  auto writer = InputLogWriter::Create(path);
  REQUIRE(writer);
  for (const MachineInput& input : inputs) (*writer)->Write(input);
  REQUIRE((*writer)->Finish());
  auto read = ReadInputLog(path);
  REQUIRE(read);
  REQUIRE(read->size() == inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    CHECK((*read)[i].at == inputs[i].at);
    CHECK((*read)[i].source == inputs[i].source);
    CHECK((*read)[i].bytes == inputs[i].bytes);
  }
}

TEST_CASE("a record of inputs that is none names the line and the reason") {
  CHECK(WhyWrong("") == "1: this is no record of inputs: the first line is wrong");
  CHECK(WhyWrong("vmm-inputs 2\n") == "1: this is no record of inputs: the first line is wrong");
  const std::string head = "vmm-inputs 1\n5 serial0 00\n";
  const std::string three = "3: this is no record of inputs: ";
  CHECK(WhyWrong(head + "4 serial0 00\n") == three + "its time is before that of the line above");
  CHECK(WhyWrong(head + "\n") == three + "it must begin with a time in nanoseconds");
  CHECK(WhyWrong(head + "-1 serial0 00\n") == three + "it must begin with a time in nanoseconds");
  CHECK(WhyWrong(head + "99999999999999999999 serial0 00\n") ==
        three + "it must begin with a time in nanoseconds");
  const std::string source = three + "the source must be serial0 to serial3 or power-button";
  CHECK(WhyWrong(head + "6\n") == source);
  CHECK(WhyWrong(head + "6 serial4 00\n") == source);
  CHECK(WhyWrong(head + "6 power-button 00\n") == three + "nothing may follow power-button");
  const std::string bytes = three + "the bytes must be pairs of hexadecimal digits";
  CHECK(WhyWrong(head + "6 serial0\n") == bytes);
  CHECK(WhyWrong(head + "6 serial0 0\n") == bytes);
  CHECK(WhyWrong(head + "6 serial0 zz\n") == bytes);
  CHECK(WhyWrong(head + "6 serial0 00 00\n") == bytes);
}

TEST_CASE("a record of inputs that is missing says so") {
  auto read = ReadInputLog("/nonexistent/inputs");
  REQUIRE_FALSE(read);
  CHECK(read.error().code == ExitCode::kFileMissing);
}

}  // namespace vmm::test
