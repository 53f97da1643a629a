// Holds what UseOf() says of an instruction against the host CPU: what is not written stays, and
// what is not read makes no difference.
#pragma once

#include <string>
#include <vector>

#include "compare.h"
#include "native_cpu.h"
#include "random.h"

namespace difftest {

class UseCheck {
 public:
  UseCheck(NativeCpu& native, uint64_t seed) : native_(native), random_(seed) {}
  // After the host ran `test` from test.registers and the memory `before` to `after`. Runs it again
  // with other values where it should not look; memory is `after` again in the end. The faults
  // found, a line each.
  std::string Check(const Case& test, std::span<const uint8_t> before, const Result& after);

 private:
  NativeCpu& native_;
  Random random_;
  std::vector<uint8_t> memory_;
};

}  // namespace difftest
