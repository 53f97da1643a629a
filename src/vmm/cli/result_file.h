// `--result FILE`: how a run ended, as JSON (docs/exit-codes.md), for whoever started it.
#pragma once

#include <filesystem>
#include <string>

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
  Result<void> Write(const RunOutcome& outcome) const;

 private:
  explicit ResultFile(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace vmm
