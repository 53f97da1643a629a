// CHECK(condition): ends the process when our own code is wrong. Never on a value that a guest, a
// file or a user supplied: those get an answer or an error.
#pragma once

namespace vmm {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}  // namespace vmm

#define CHECK(condition)                             \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::vmm::CheckFailed(__FILE__, __LINE__, #condition))
