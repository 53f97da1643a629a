// `--result FILE`: how a run ended, as JSON (docs/exit-codes.md), for whoever started it; and other
// files that are to be there whole or not at all.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "vmm/core/base/result.h"
#include "vmm/machine/run_outcome.h"

namespace vmm {

// The object, indented, with a final newline.
std::string ToJson(const RunOutcome& outcome);

class ResultFile {
 public:
  // Before the run: a file that an earlier run left is removed, so that it can't be taken for this
  // one's. kCannotCreate, kNoPermission: `path` could not be written later.
  static Result<ResultFile> Prepare(const std::filesystem::path& path);

  // The whole file appears at once. What is no regular file (/dev/stderr, a pipe) is written to.
  Result<void> Write(const RunOutcome& outcome) const { return WriteText(ToJson(outcome)); }
  Result<void> WriteText(std::string_view text) const;

 private:
  explicit ResultFile(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace vmm
