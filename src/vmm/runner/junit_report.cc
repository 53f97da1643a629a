#include "vmm/runner/junit_report.h"

#include <fmt/format.h>
#include <time.h>

namespace vmm {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// The length of the character at the start of `text` and its number; length 0: it is none.
size_t Decode(std::string_view text, uint32_t* point) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  const size_t length = first < 0x80             ? 1
                        : (first & 0xE0) == 0xC0 ? 2
                        : (first & 0xF0) == 0xE0 ? 3
                        : (first & 0xF8) == 0xF0 ? 4
                                                 : 0;
  if (length == 0 || length > text.size()) return 0;
  *point = length == 1 ? first : first & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    *point = *point << 6 | (byte(i) & 0x3F);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  return *point < kLeast[length] ? 0 : length;
}

// [XML] 2.2, production Char
bool IsXmlChar(uint32_t point) {
  return point == 9 || point == 10 || point == 13 || (point >= 0x20 && point <= 0xD7FF) ||
         (point >= 0xE000 && point <= 0xFFFD) || (point >= 0x10000 && point <= 0x10FFFF);
}

double Seconds(std::chrono::milliseconds time) {
  return static_cast<double>(time.count()) / 1000;
}

std::string Timestamp(int64_t seconds) {
  const time_t time = seconds;
  tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  return text;
}

bool IsSkipped(const TestResult& result) {
  return result.end.verdict == TestVerdict::kNotRun;
}

bool IsError(const TestResult& result) {
  return result.end.verdict != TestVerdict::kPass && !IsSkipped(result) &&
         !IsFailure(result.end.verdict);
}

std::string Details(const TestResult& result) {
  std::string text = result.end.reason + "\n";
  for (const std::string& note : result.notes) text += "the guest: " + note + "\n";
  if (result.outcome && !result.outcome->console_tail.empty()) {
    text += "the last lines of the guest's console:\n";
    for (const std::string& line : result.outcome->console_tail) text += line + "\n";
  }
  const std::string messages = result.messages.Text();
  if (!messages.empty()) text += "messages of vmm:\n" + messages;
  return text;
}

std::string Case(const TestResult& result) {
  std::string xml = fmt::format("    <testcase name=\"{}\" classname=\"vmm\" time=\"{:.3f}\">\n",
                                XmlText(result.name), Seconds(result.duration));
  if (IsSkipped(result)) {
    xml += fmt::format("      <skipped message=\"{}\"/>\n", XmlText(result.end.reason));
  } else if (result.end.verdict != TestVerdict::kPass) {
    const std::string_view element = IsFailure(result.end.verdict) ? "failure" : "error";
    xml +=
        fmt::format("      <{0} message=\"{1}\" type=\"{2}\">{3}</{0}>\n", element,
                    XmlText(result.end.reason), Name(result.end.verdict), XmlText(Details(result)));
  }
  xml += fmt::format("      <system-out>{}</system-out>\n", XmlText(result.out.Text()));
  xml += fmt::format("      <system-err>{}</system-err>\n", XmlText(result.err.Text()));
  return xml + "    </testcase>\n";
}

}  // namespace

std::string XmlText(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    uint32_t point = 0;
    const size_t length = Decode(bytes, &point);
    const std::string_view character = bytes.substr(0, length == 0 ? 1 : length);
    bytes.remove_prefix(character.size());
    switch (point) {
      case '&':
        text += "&amp;";
        break;
      case '<':
        text += "&lt;";
        break;
      case '>':
        text += "&gt;";
        break;
      case '"':
        text += "&quot;";
        break;
      case '\r':
        text += "&#13;";  // a parser would make a line feed of it
        break;
      default:
        text += length != 0 && IsXmlChar(point) ? character : kReplacement;
    }
  }
  return text;
}

std::string JUnitXml(std::span<const TestResult> results, int64_t started) {
  size_t failures = 0, errors = 0, skipped = 0;
  std::chrono::milliseconds time{};
  std::string cases;
  for (const TestResult& result : results) {
    failures += IsFailure(result.end.verdict);
    errors += IsError(result);
    skipped += IsSkipped(result);
    time += result.duration;
    cases += Case(result);
  }
  const std::string counts =
      fmt::format("tests=\"{}\" failures=\"{}\" errors=\"{}\"", results.size(), failures, errors);
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<testsuites name=\"vmm test\" {0} time=\"{1:.3f}\">\n"
      "  <testsuite name=\"vmm test\" {0} skipped=\"{2}\" time=\"{1:.3f}\" timestamp=\"{3}\" "
      "hostname=\"localhost\">\n{4}  </testsuite>\n</testsuites>\n",
      counts, Seconds(time), skipped, Timestamp(started), cases);
}

}  // namespace vmm
