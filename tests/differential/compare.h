// What the host and the interpreter made of one case.
#pragma once

#include <span>
#include <string>

#include "case.h"

namespace difftest {

struct Result {
  Outcome outcome;
  Registers registers;
  std::span<uint8_t> memory;  // the writable pages
};

// The differences, a line each; empty: none. Memory that the case leaves undefined is made equal.
std::string Compare(const Case& test, Result& native, Result& guest);

// The instruction and the state that it started from.
std::string Describe(const Case& test);

}  // namespace difftest
