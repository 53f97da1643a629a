#include "vmm/config/problems.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace vmm {
namespace {

constexpr size_t kMostLines = 20;

// What a message of toml++ means to a user; the first row whose words occur in it.
struct SyntaxRow {
  std::string_view words;
  std::string_view what, why, fix;
};

constexpr SyntaxRow kSyntaxRows[] = {
    {"too many dots", "the keys hold too many dots", "no key of vm.toml needs more than one",
     "write sections as [console]"},
    {"forbidden control character", "a control character", "TOML is plain text",
     "remove the character"},
    {"utf-8", "a byte here is not UTF-8 text", "TOML files are UTF-8", "save the file as UTF-8"},
    {"not representable", "the number is too large", "TOML numbers have 64 bits",
     "write a smaller number"},
    {"could not determine value type", "this is not a value", "strings need quotation marks",
     "write it as \"...\""},
    {"expected digit, saw", "a number is followed by something else",
     "values with a unit are strings", "put it in quotation marks, as in \"512M\""},
    {"parsing boolean", "this is neither true nor false", "they are written in lower case",
     "write true or false"},
    {"expected value, saw", "a value is missing", "every key needs one", "write key = value"},
    {"expected '=', saw", "a '=' is missing behind the key", "keys and values are joined by '='",
     "write key = value"},
    {"parsing key-value pair: encountered end-of-file", "the value of the last key is missing",
     "every key needs one", "write key = value"},
    {"escape sequence", "an unknown escape sequence in a string", "'\\' starts one in \"...\"",
     "write '\\\\' for one backslash, or put the string in '...'"},
    {"parsing string", "a string does not end where it should", "the quotation mark is missing",
     "close the string"},
    {"parsing array", "a list does not end where it should",
     "its values are separated by ',' and end with ']'", "close the list with ']'"},
    {"parsing inline table", "a table in braces is not right",
     "its keys are separated by ',' and it is one line", "write { key = value, key = value }"},
    {"parsing table header", "the name of a section is not right", "it stands alone in brackets",
     "write it as [console]"},
    {"parsing key", "this is not a key", "keys are made of letters, digits, '_' and '-'",
     "write key = value, or start the line with '#'"},
};

}  // namespace

void ConfigProblems::Add(const Place& place, ValueError error, std::optional<ExitCode> code) {
  const bool on_command_line = !place.option.empty() || file_.empty();
  const ExitCode usual = on_command_line ? ExitCode::kUsage : ExitCode::kConfigInvalid;
  problems_.push_back({place, code.value_or(usual), std::move(error)});
}

std::string ConfigProblems::Line(const ConfigProblem& problem) const {
  std::string where;
  if (!problem.place.option.empty()) {
    where = problem.place.option + ": ";
  } else if (!file_.empty()) {
    // What concerns the file as a whole stands at its start.
    where = fmt::format("{}:{}:{}: ", file_, std::max(problem.place.at.line, 1U),
                        std::max(problem.place.at.column, 1U));
  }
  std::string line = fmt::format("{}{} ({}); fix: {}", where, problem.error.what, problem.error.why,
                                 problem.error.fix);
  // What a file says must neither break the line nor steer the terminal.
  for (char& c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) c = '?';
  }
  return line;
}

Error ConfigProblems::ToError() const {
  std::vector<const ConfigProblem*> sorted;
  for (const ConfigProblem& problem : problems_) sorted.push_back(&problem);
  // By place; of one place in the order of being found, which is that of their addresses.
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    const bool a_option = !a->place.option.empty(), b_option = !b->place.option.empty();
    if (a_option != b_option) return b_option;
    return std::tie(a->place.at, a) < std::tie(b->place.at, b);
  });
  Error error{sorted.front()->code, {}};
  for (size_t i = 0; i < sorted.size() && i < kMostLines; ++i) {
    if (i > 0) error.message += '\n';
    error.message += Line(*sorted[i]);
  }
  if (sorted.size() > kMostLines) {
    error.message += fmt::format("\n... and {} more", sorted.size() - kMostLines);
  }
  return error;
}

ValueError ExplainTomlError(std::string_view what) {
  constexpr std::string_view kRedefine = "cannot redefine existing ";
  if (const size_t start = what.find(kRedefine); start != std::string_view::npos) {
    const size_t quote = what.find('\'', start);
    const std::string_view name = quote == std::string_view::npos ? "'?'" : what.substr(quote);
    return {fmt::format("{} is given twice", name), "only one of the two could count",
            "keep one of them"};
  }
  for (const SyntaxRow& row : kSyntaxRows) {
    if (what.find(row.words) == std::string_view::npos) continue;
    return {std::string(row.what), std::string(row.why), std::string(row.fix)};
  }
  return {"this is not TOML", std::string(what), "write one key = value a line"};
}

}  // namespace vmm
