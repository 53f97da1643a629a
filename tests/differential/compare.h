// What the host and an engine made of one case.
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
// `engine`: the name of what ran `guest`.
std::string Compare(const Case& test, const char* engine, Result& native, Result& guest);

// The instruction and the state that it started from.
std::string Describe(const Case& test);

}  // namespace difftest
