// What is wrong with a configuration, collected so that the user sees all of it at once.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm/config/toml_document.h"
#include "vmm/config/value_parsers.h"
#include "vmm/core/base/result.h"

namespace vmm {

// Where a value came from.
struct Place {
  SourcePosition at;   // in the file; no line: not from the file
  std::string option;  // "--memory": from the command line; then `at` means nothing
};

struct ConfigProblem {
  Place place;
  ExitCode code = ExitCode::kConfigInvalid;
  ValueError error;
};

class ConfigProblems {
 public:
  // `file` as the messages show it; empty: there is no file.
  explicit ConfigProblems(std::string file) : file_(std::move(file)) {}

  // Without a `code` it is kConfigInvalid for a place in the file, kUsage for an option.
  void Add(const Place& place, ValueError error, std::optional<ExitCode> code = {});
  bool empty() const { return problems_.empty(); }
  bool has_file() const { return !file_.empty(); }

  // All of them in the order of the file, options last, one line each; the code of the first.
  Error ToError() const;

 private:
  std::string Line(const ConfigProblem& problem) const;

  std::string file_;
  std::vector<ConfigProblem> problems_;
};

// A syntax error of TOML in the words of this program, with a fix.
ValueError ExplainTomlError(std::string_view what);

}  // namespace vmm
