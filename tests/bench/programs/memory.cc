// Memory: latency, random access, streams and copies.

#include <sys/mman.h>

#include <cstring>
#include <utility>
#include <vector>

#include "bench_rows.h"

namespace {

constexpr size_t kBytes = 64 * 1024 * 1024;

// One area for all rows, in pages of 4 KiB everywhere: whether huge ones are to be had is luck.
uint64_t* Area() {
  static uint64_t* const area = [] {
    void* mapped =
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) Fail("mmap of 64 MiB");
    madvise(mapped, kBytes, MADV_NOHUGEPAGE);
    return static_cast<uint64_t*>(mapped);
  }();
  return area;
}

// Each cache line holds the number of another: one cycle through all of them (Sattolo's shuffle).
constexpr uint32_t kLines = kBytes / 64;

void PrepareChase(uint64_t) {
  std::vector<uint32_t> order(kLines);
  for (uint32_t i = 0; i < kLines; ++i) order[i] = i;
  Random random(4);
  for (uint32_t i = kLines - 1; i > 0; --i) std::swap(order[i], order[random.Next() % i]);
  uint64_t* const area = Area();
  for (uint32_t i = 0; i < kLines; ++i) area[size_t{i} * 8] = order[i];
}

uint64_t RunChase(uint64_t count) {
  const uint64_t* const area = Area();
  uint64_t line = 0, checksum = 0;
  while (count-- > 0) {
    line = area[line * 8];
    checksum += line;
  }
  return Mix(checksum, line);
}

constexpr size_t kWords = kBytes / 8;
constexpr uint64_t kFactor = 0x9E3779B97F4A7C15;

void PrepareRandom(uint64_t) {
  uint64_t* const area = Area();
  for (size_t i = 0; i < kWords; ++i) area[i] = i * kFactor;
}

// Reads one word and writes another; a word's value follows from its place.
uint64_t RunRandom(uint64_t count) {
  uint64_t* const area = Area();
  Random random(5);
  uint64_t checksum = 0;
  while (count-- > 0) {
    const uint64_t value = random.Next();
    checksum += area[value % kWords];
    const uint64_t written = (value >> 32) % kWords;
    area[written] = written * kFactor;
  }
  return checksum;
}

constexpr size_t kThird = kWords / 3;

void PrepareStream(uint64_t) {
  uint64_t* const area = Area();
  for (size_t i = 0; i < kWords; ++i) area[i] = i;
}

uint64_t RunStream(uint64_t count) {
  uint64_t* const a = Area();
  const uint64_t* const b = a + kThird;
  const uint64_t* const c = b + kThird;
  while (count-- > 0) {
    for (size_t i = 0; i < kThird; ++i) a[i] = b[i] + 3 * c[i];
  }
  uint64_t checksum = 0;
  for (size_t i = 0; i < kThird; i += 4096) checksum = Mix(checksum, a[i]);
  return checksum;
}

// 16 MiB in each of four sizes: most of it from the caches' last level and from RAM.
uint64_t RunMemcpy(uint64_t count) {
  constexpr size_t kCopied = 16 * 1024 * 1024;
  constexpr size_t kSizes[] = {256, 4096, 65536, 1048576};
  char* const from = reinterpret_cast<char*>(Area());
  char* const to = from + kBytes / 2 + 64;
  while (count-- > 0) {
    for (const size_t size : kSizes) {
      for (size_t offset = 0; offset < kCopied; offset += size) {
        std::memcpy(to + offset, from + offset, size);
        asm volatile("" : : "r"(to) : "memory");
      }
    }
  }
  uint64_t checksum = 0;
  for (size_t i = 0; i < kCopied; i += 4096) {
    uint64_t word;
    std::memcpy(&word, to + i, 8);
    checksum = Mix(checksum, word);
  }
  return checksum;
}

constexpr Row kRows[] = {
    {"chase64m", PrepareChase, RunChase, 1'500'000},
    {"random64m", PrepareRandom, RunRandom, 3'000'000},
    {"stream", PrepareStream, RunStream, 60},
    {"memcpy", PrepareStream, RunMemcpy, 15},
};

}  // namespace

int main(int argc, char** argv) {
  return RunRows(argc, argv, kRows);
}
