// A run of any length in chunks, each of which depends on nothing but the seed and its number: so a
// long run can be stopped and taken up again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compare.h"
#include "forms.h"
#include "random.h"

namespace difftest {

class GuestCpu;

struct Totals {
  uint64_t next_chunk = 0;
  uint64_t cases64 = 0, cases32 = 0, faults = 0, mismatches = 0;
  std::vector<bool> covered64, covered32;  // by index into Forms::list
};

class Campaign {
 public:
  static constexpr uint64_t kChunk = 100'000;  // cases
  struct Options {
    uint64_t cases = 1'000'000, seed = 1;
    unsigned most = 20;      // mismatches that are shown
    std::string state_file;  // empty: none
    bool only32 = false, only64 = false;
  };
  explicit Campaign(const Options& options);
  // False: a mismatch, a form not covered, or a state file that does not fit.
  bool Run();

 private:
  class Side;
  bool LoadState();
  bool SaveState() const;
  std::string RunTranslated(const Case& test, const char* engine, GuestCpu& guest, Result& native,
                            Random& random);
  void RunChunk(Side& side, uint64_t chunk, uint64_t cases);
  bool Report(const Side& wide, const Side& narrow) const;

  const Options options_;
  Totals totals_;
};

}  // namespace difftest
