#include "bench_rows.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

double Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

// Of this process and the children it has waited for.
double CpuSeconds() {
  double sum = 0;
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage;
    getrusage(who, &usage);
    sum += Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
  }
  return sum;
}

void SayClock() {
  std::printf("bench: clock %.6f\n", Now());
  std::fflush(stdout);
}

void Measure(const Row& row, int runs, double scale) {
  const auto count =
      std::max<uint64_t>(static_cast<uint64_t>(static_cast<double>(row.count) * scale), 1);
  if (row.prepare != nullptr) row.prepare(count);
  SayClock();
  for (int run = 0; run < runs; ++run) {
    const double cpu = CpuSeconds();
    const double start = Now();
    const uint64_t checksum = row.run(count);
    const double end = Now();
    std::printf("bench: row %s %.6f %016llx %.6f %.6f\n", row.name, end - start,
                static_cast<unsigned long long>(checksum), end, CpuSeconds() - cpu);
    std::fflush(stdout);
  }
}

}  // namespace

void Fail(const char* what) {
  std::printf("bench: failed %s: %s\n", what, std::strerror(errno));
  std::fflush(stdout);
  _exit(1);
}

int RunRows(int argc, char** argv, std::span<const Row> rows) {
  int runs = 3;
  double scale = 1;
  int next = 1;
  for (; next < argc && argv[next][0] == '-'; ++next) {
    if (std::strcmp(argv[next], "--list") == 0) {
      for (const Row& row : rows) std::printf("%s\n", row.name);
      return 0;
    }
    if (next + 1 == argc) Fail(argv[next]);
    if (std::strcmp(argv[next], "--runs") == 0) {
      runs = std::atoi(argv[++next]);
    } else if (std::strcmp(argv[next], "--scale") == 0) {
      scale = std::atof(argv[++next]);
    } else {
      Fail(argv[next]);
    }
  }
  SayClock();
  for (; next < argc; ++next) {
    const auto row = std::ranges::find_if(
        rows, [&](const Row& each) { return std::strcmp(each.name, argv[next]) == 0; });
    if (row == rows.end()) Fail(argv[next]);
    Measure(*row, runs, scale);
  }
  return 0;
}
