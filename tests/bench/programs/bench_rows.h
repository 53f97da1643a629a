// What every benchmark program stands on: a list of rows, measured one after the other.
#pragma once

#include <cstdint>
#include <span>

/// One row of the bench: a fixed amount of work with a checksum.
struct Row {
  const char* name;
  /// Makes what the work needs; not measured, called once with run's count. May be null.
  void (*prepare)(uint64_t count);
  /// The work. Called again it does the same and returns the same checksum.
  uint64_t (*run)(uint64_t count);
  /// How much of it; tests/bench/run --scale multiplies it.
  uint64_t count;
};

/// Runs the rows named on the command line and prints a line for each repetition:
///     bench: row NAME SECONDS CHECKSUM CLOCK CPU
/// CLOCK is CLOCK_MONOTONIC in seconds at the end of the repetition, CPU the seconds that this
/// process and its children had a processor for. Just before the first repetition "bench: clock
/// CLOCK" is printed. Returns the exit status.
///
/// Usage: PROGRAM --list | PROGRAM [--runs N] [--scale X] [ROW...]
int RunRows(int argc, char** argv, std::span<const Row> rows);

/// Ends the program with a message: a bench that can't do its work has no result.
[[noreturn]] void Fail(const char* what);

/// Numbers without a pattern, the same at every start (xorshift64*).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1D;
  }

 private:
  uint64_t state_;
};

/// One value more into a checksum.
constexpr uint64_t Mix(uint64_t checksum, uint64_t value) {
  checksum = (checksum ^ value) * 0x9E3779B97F4A7C15;
  return checksum ^ (checksum >> 29);
}
