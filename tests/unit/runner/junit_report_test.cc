#include "vmm/runner/junit_report.h"

#include <catch2/catch.hpp>

namespace vmm::test {
namespace {

TestResult Result(std::string name, TestVerdict verdict, std::string reason) {
  TestResult result;
  result.name = std::move(name);
  result.end.verdict = verdict;
  result.end.reason = std::move(reason);
  result.duration = std::chrono::milliseconds(1500);
  return result;
}

TEST_CASE("Any bytes become text that XML takes", "[junit]") {
  const std::string bad = "\xEF\xBF\xBD";
  CHECK(XmlText("a<b>&\"c\"\n\t") == "a&lt;b&gt;&amp;&quot;c&quot;\n\t");
  CHECK(XmlText("\r") == "&#13;");
  CHECK(XmlText(std::string("a\0b\x1b[1m\x7f", 8)) == "a" + bad + "b" + bad + "[1m\x7f");
  CHECK(XmlText("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80") == "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80");
  CHECK(XmlText("\xC3") == bad);              // cut off
  CHECK(XmlText("\xC0\x80") == bad + bad);    // longer than need be
  CHECK(XmlText("\xED\xA0\x80") == bad);      // a surrogate
  CHECK(XmlText("\xEF\xBF\xBE") == bad);      // U+FFFE
  CHECK(XmlText("\xF4\x90\x80\x80") == bad);  // beyond U+10FFFF
  CHECK(XmlText("\xFF\x80x") == bad + bad + "x");
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::string text = XmlText(std::string(1, static_cast<char>(byte)));
    CHECK((text == bad) == ((byte < 32 && byte != 9 && byte != 10 && byte != 13) || byte >= 128));
  }
}

TEST_CASE("A report counts failures of guests apart from errors of vmm and what was not run",
          "[junit]") {
  std::vector<TestResult> results = {
      Result("one", TestVerdict::kPass, "the command exited with 0"),
      Result("two & three", TestVerdict::kPanic, "Kernel panic <1>"),
      Result("four", TestVerdict::kError, "no memory"),
      Result("five", TestVerdict::kNotRun, "stopped before its turn"),
      Result("six", TestVerdict::kStopped, "stopped from outside"),
  };
  results[1].outcome.emplace();
  results[1].outcome->console_tail = {"last line"};
  results[1].out.Add("said \x01");
  const std::string xml = JUnitXml(results, 86400);
  const auto has = [&](std::string_view part) { return xml.find(part) != std::string::npos; };
  CHECK(
      has("<testsuites name=\"vmm test\" tests=\"5\" failures=\"1\" errors=\"2\" time=\"7.500\">"));
  CHECK(has("skipped=\"1\" time=\"7.500\" timestamp=\"1970-01-02T00:00:00\""));
  CHECK(has("<testcase name=\"two &amp; three\" classname=\"vmm\" time=\"1.500\">"));
  CHECK(has("<failure message=\"Kernel panic &lt;1&gt;\" type=\"panic\">"));
  CHECK(has("last line\n"));
  CHECK(has("<system-out>said \xEF\xBF\xBD</system-out>"));
  CHECK(has("<error message=\"no memory\" type=\"error\">"));
  CHECK(has("<skipped message=\"stopped before its turn\"/>"));
  CHECK(has("type=\"stopped\""));
}

TEST_CASE("Of a long text the end is kept, and what is missing is counted", "[junit]") {
  LastBytes bytes;
  bytes.Add("begin ");
  for (int i = 0; i < 3000; ++i) bytes.Add(std::string(1024, 'x'));
  bytes.Add(" end");
  const std::string text = bytes.Text();
  const std::string missing = std::to_string(6 + 3000 * 1024 + 4 - LastBytes::kMost);
  CHECK(text.starts_with("[" + missing + " bytes before this are left out]\n"));
  CHECK(text.ends_with(" end"));
  CHECK(text.find("begin") == std::string::npos);
  LastBytes short_text;
  short_text.Add("all");
  CHECK(short_text.Text() == "all");
}

}  // namespace
}  // namespace vmm::test
