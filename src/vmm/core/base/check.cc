#include "vmm/core/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace vmm {

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "vmm: internal error at %s:%d: %s\n", file, line, condition);
  std::abort();
}

}  // namespace vmm
