#include "vmm/machine/input_log.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <fstream>
#include <optional>
#include <string_view>

namespace vmm {
namespace {

constexpr std::string_view kHeader = "vmm-inputs 1";
constexpr std::string_view kPowerButton = "power-button";
constexpr std::string_view kSerial = "serial";

std::string SourceName(unsigned source) {
  return source == kPowerButtonInput ? std::string(kPowerButton)
                                     : fmt::format("{}{}", kSerial, source);
}

std::optional<unsigned> SourceOf(std::string_view name) {
  for (unsigned source = 0; source <= kPowerButtonInput; ++source) {
    if (name == SourceName(source)) return source;
  }
  return std::nullopt;
}

template <class T>
bool Parse(std::string_view text, T& value, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

bool ParseHex(std::string_view text, std::string& bytes) {
  if (text.empty() || text.size() % 2 != 0) return false;
  for (size_t i = 0; i < text.size(); i += 2) {
    uint8_t byte = 0;
    if (!Parse(text.substr(i, 2), byte, 16)) return false;
    bytes.push_back(static_cast<char>(byte));
  }
  return true;
}

// The first word of `line`, which loses it and the blank after it.
std::string_view TakeWord(std::string_view& line) {
  const size_t blank = line.find(' ');
  const std::string_view word = line.substr(0, blank);
  line = blank == std::string_view::npos ? std::string_view() : line.substr(blank + 1);
  return word;
}

// What is wrong with the line; empty: nothing.
std::string_view ParseLine(std::string_view line, MachineInput& input) {
  int64_t at = 0;
  if (!Parse(TakeWord(line), at, 10) || at < 0) return "it must begin with a time in nanoseconds";
  const std::optional<unsigned> source = SourceOf(TakeWord(line));
  if (!source) return "the source must be serial0 to serial3 or power-button";
  input.at = Nanoseconds(at);
  input.source = *source;
  if (*source == kPowerButtonInput) return line.empty() ? "" : "nothing may follow power-button";
  return ParseHex(line, input.bytes) ? "" : "the bytes must be pairs of hexadecimal digits";
}

}  // namespace

Result<std::vector<MachineInput>> ReadInputLog(const std::filesystem::path& path) {
  std::ifstream file(path);
  const auto wrong = [&](size_t line, std::string_view why) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{}:{}: this is no record of inputs: {}; fix: give a file that "
                            "vmm run --record wrote",
                            path.string(), line, why));
  };
  if (!file) {
    return FailErrno(ExitCode::kFileMissing, "can't read the inputs " + path.string(), errno);
  }
  std::vector<MachineInput> inputs;
  std::string line;
  if (!std::getline(file, line) || line != kHeader) return wrong(1, "the first line is wrong");
  for (size_t number = 2; std::getline(file, line); ++number) {
    MachineInput input;
    if (const std::string_view why = ParseLine(line, input); !why.empty()) {
      return wrong(number, why);
    }
    if (!inputs.empty() && input.at < inputs.back().at) {
      return wrong(number, "its time is before that of the line above");
    }
    inputs.push_back(std::move(input));
  }
  if (file.bad()) {
    return FailErrno(ExitCode::kIoError, "can't read the inputs " + path.string(), errno);
  }
  return inputs;
}

Result<std::unique_ptr<InputLogWriter>> InputLogWriter::Create(const std::filesystem::path& path) {
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) {
    return FailErrno(ExitCode::kCannotCreate, "can't write the inputs " + path.string(), errno);
  }
  std::unique_ptr<InputLogWriter> writer(new InputLogWriter(file, path));
  fmt::print(file, "{}\n", kHeader);
  return writer;
}

void InputLogWriter::Write(const MachineInput& input) {
  std::string line = fmt::format("{} {}", input.at.count(), SourceName(input.source));
  if (!input.bytes.empty()) line += ' ';
  for (const char byte : input.bytes) line += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), file_.get());
}

Result<void> InputLogWriter::Finish() {
  if (std::fflush(file_.get()) == 0 && std::ferror(file_.get()) == 0) return {};
  return FailErrno(ExitCode::kIoError, "the record of inputs " + path_.string() + " is incomplete",
                   errno);
}

}  // namespace vmm
