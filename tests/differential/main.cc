// Random instructions, the interpreter and the translator against the host CPU, in 64-bit mode and,
// the interpreter alone, in 32-bit (compatibility) mode: registers, defined flags, vector and x87
// state, memory, fault kind, error code and address must agree.
//
//   differential_test [--cases N] [--seed S] [--most N] [--bits 32|64] [--state FILE]
//
// With --state the run can be stopped at any time: started again with the same file it goes on,
// until N cases are done in all.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "campaign.h"

int main(int argc, char** argv) {
  difftest::Campaign::Options options;
  for (int i = 1; i < argc; i += 2) {
    const char* value = argv[i + 1];
    const auto is = [&](const char* name) { return value && std::strcmp(argv[i], name) == 0; };
    if (is("--cases")) {
      options.cases = std::strtoull(value, nullptr, 0);
    } else if (is("--seed")) {
      options.seed = std::strtoull(value, nullptr, 0);
    } else if (is("--most")) {
      options.most = static_cast<unsigned>(std::strtoul(value, nullptr, 0));
    } else if (is("--state")) {
      options.state_file = value;
    } else if (is("--bits")) {
      options.only32 = std::strcmp(value, "32") == 0;
      options.only64 = std::strcmp(value, "64") == 0;
    } else {
      std::fprintf(stderr,
                   "usage: differential_test [--cases N] [--seed S] [--most N] [--bits 32|64] "
                   "[--state FILE]\n");
      return 2;
    }
  }
  return difftest::Campaign(options).Run() ? 0 : 1;
}
