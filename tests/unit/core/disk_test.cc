#include "vmm/core/block/disk.h"

#include <pthread.h>
#include <sys/uio.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <random>

#include "tests/support/memory_file.h"
#include "vmm/core/block/host_file.h"
#include "vmm/core/block/qcow2_check.h"
#include "vmm/core/block/qcow2_create.h"
#include "vmm/core/block/qcow2_image.h"
#include "vmm/core/block/raw_image.h"

namespace vmm {
namespace {

using Kind = BlockRequest::Kind;
using namespace std::chrono_literals;

// A request with memory of its own, and its end.
struct Asked {
  explicit Asked(Kind kind, uint64_t offset = 0, uint64_t length = 0, uint8_t value = 0)
      : bytes(kind == Kind::kRead || kind == Kind::kWrite ? length : 0, value) {
    buffer = {bytes.data(), bytes.size()};
    request.kind = kind;
    request.offset = offset;
    request.length = length;
    if (!bytes.empty()) request.buffers = {&buffer, 1};
    request.user = this;
    request.done = [](BlockRequest& r, int e) {
      auto& self = *static_cast<Asked*>(r.user);
      const std::lock_guard lock(self.mutex);
      self.error = e;
      char name[16] = {};
      pthread_getname_np(pthread_self(), name, sizeof(name));
      self.thread = name;
      self.is_done = true;
      self.changed.notify_all();
    };
  }
  int Wait() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return is_done; });
    return error;
  }

  std::vector<uint8_t> bytes;
  iovec buffer;
  BlockRequest request;
  std::mutex mutex;
  std::condition_variable changed;
  bool is_done = false;
  int error = -1;
  std::string thread;  // that told the end
};

int Do(Disk& disk, Asked& asked, unsigned queue = 0) {
  disk.Submit(queue, asked.request);
  return asked.Wait();
}

std::unique_ptr<HostFile> TemporaryFile() {
  auto file = HostFile::Temporary(std::filesystem::temp_directory_path());
  REQUIRE(file);
  return std::move(*file);
}

std::unique_ptr<BlockImage> MakeImage(bool is_qcow2, uint64_t size) {
  auto file = TemporaryFile();
  if (!is_qcow2) {
    REQUIRE(file->Resize(size) == 0);
    return std::make_unique<RawImage>(std::move(file), false, false);
  }
  Qcow2Header header;
  header.size = size;
  REQUIRE(CreateQcow2(*file, header) == 0);
  const auto made = Qcow2Image::ReadHeader(*file);
  REQUIRE(made);
  return std::move(*Qcow2Image::Open(std::move(file), *made, nullptr, true));
}

}  // namespace

TEST_CASE("many requests of several queues end as they should", "[block][threads]") {
  const bool is_qcow2 = GENERATE(false, true);
  const bool use_uring = GENERATE(false, true);
  constexpr uint64_t kSize = 8 << 20, kBlock = 8192, kBlocks = kSize / kBlock;
  Disk::Options options;
  options.queues = 2;
  options.depth = 8;
  options.use_uring = use_uring;
  Disk disk(MakeImage(is_qcow2, kSize), options);
  INFO(disk.Describe());
  std::vector<uint8_t> expected(kBlocks, 0);
  std::mt19937 random(7);
  for (int round = 0; round < 12; ++round) {
    // Blocks of one round are different ones, so the order within it does not matter.
    std::vector<uint64_t> blocks(kBlocks);
    for (uint64_t i = 0; i < kBlocks; ++i) blocks[i] = i;
    std::shuffle(blocks.begin(), blocks.end(), random);
    std::vector<std::unique_ptr<Asked>> asked;
    std::vector<BlockRequest*> requests[2];
    for (size_t i = 0; i < 120; ++i) {
      const uint64_t block = blocks[i];
      const auto value = static_cast<uint8_t>(1 + random() % 255);
      const unsigned what = random() % 10;
      const Kind kind = what < 6 ? Kind::kWrite : what < 9 ? Kind::kRead : Kind::kWriteZeroes;
      asked.push_back(std::make_unique<Asked>(kind, block * kBlock, kBlock, value));
      if (kind == Kind::kWrite) expected[block] = value;
      if (kind == Kind::kWriteZeroes) expected[block] = 0;
      requests[i % 2].push_back(&asked.back()->request);
    }
    asked.push_back(std::make_unique<Asked>(Kind::kFlush));
    requests[0].push_back(&asked.back()->request);
    disk.Submit(0, requests[0]);
    disk.Submit(1, requests[1]);
    disk.Drain();
    for (const auto& one : asked) {
      REQUIRE(one->Wait() == 0);
      if (one->request.kind != Kind::kRead) continue;
      const uint8_t value = expected[one->request.offset / kBlock];
      REQUIRE(one->bytes == std::vector<uint8_t>(kBlock, value));
    }
  }
  for (uint64_t block = 0; block < kBlocks; ++block) {
    Asked read(Kind::kRead, block * kBlock, kBlock, 0xEE);
    REQUIRE(Do(disk, read, block % 2) == 0);
    REQUIRE(read.bytes == std::vector<uint8_t>(kBlock, expected[block]));
  }
  if (is_qcow2) {
    REQUIRE(disk.image().Flush() == 0);
    REQUIRE(disk.image().Flush() == 0);
    auto& image = static_cast<Qcow2Image&>(disk.image());
    const auto report = CheckQcow2(image.file());
    REQUIRE(report);
    CHECK(report->corruptions == 0);
    CHECK(report->leaks == 0);
  }
}

TEST_CASE("what the host has in its page cache is read at once, and is right", "[block]") {
  constexpr uint64_t kSize = 4 << 20, kBlock = 4096;
  for (const bool is_qcow2 : {false, true}) {
    Disk::Options options;
    options.use_uring = is_qcow2;
    Disk disk(MakeImage(is_qcow2, kSize), options);
    for (uint64_t block = 0; block < 8; ++block) {
      Asked write(Kind::kWrite, block * kBlock, kBlock, static_cast<uint8_t>(block + 1));
      REQUIRE(Do(disk, write) == 0);
    }
    BlockImage::Place place;
    REQUIRE(disk.image().Locate(0, kBlock, false, &place));
    std::vector<uint8_t> bytes(kBlock);
    const iovec one{bytes.data(), bytes.size()};
    const ssize_t now = preadv2(place.fd, &one, 1, static_cast<off_t>(place.offset), RWF_NOWAIT);
    place.owner->Release(place.ticket);
    if (now < 0) {
      WARN("the file system of the test never says whether it would wait");
      continue;
    }
    for (uint64_t block = 0; block < 8; ++block) {
      Asked read(Kind::kRead, block * kBlock, kBlock, 0xEE);
      disk.Submit(0, read.request);
      CHECK(read.is_done);  // nobody else had to run
      CHECK(read.error == 0);
      CHECK(read.bytes == std::vector<uint8_t>(kBlock, static_cast<uint8_t>(block + 1)));
    }
    Asked long_one(Kind::kRead, 0, 1 << 20);  // too much for the thread that submits
    REQUIRE(Do(disk, long_one) == 0);
    CHECK(long_one.bytes[7 * kBlock] == 8);
    disk.Drain();
  }
}

TEST_CASE("a write that io_uring would need a thread for is made by the pool's", "[block]") {
  constexpr uint64_t kBlock = 4096;
  Disk disk(MakeImage(false, 1 << 20), {});
  BlockImage::Place place;
  REQUIRE(disk.image().Locate(0, kBlock, true, &place));
  std::vector<uint8_t> bytes(kBlock, 9);
  const iovec one{bytes.data(), bytes.size()};
  REQUIRE(pwritev2(place.fd, &one, 1, 0, 0) == kBlock);
  const bool at_once = pwritev2(place.fd, &one, 1, 0, RWF_NOWAIT) == kBlock;
  place.owner->Release(place.ticket);
  for (uint64_t size : {kBlock, 128 * 1024ul, kBlock}) {
    Asked write(Kind::kWrite, 0, size, 7);
    disk.Submit(0, write.request);
    REQUIRE(write.Wait() == 0);
    if (!at_once) CHECK(write.thread == "disk");
    Asked read(Kind::kRead, 0, size);
    REQUIRE(Do(disk, read) == 0);
    CHECK(read.bytes == std::vector<uint8_t>(size, 7));
  }
  disk.Drain();
}

TEST_CASE("a request outside the disk, or to a read-only one, fails alone", "[block]") {
  auto file = std::make_unique<MemoryFile>(std::vector<uint8_t>(4096, 1));
  Disk disk(std::make_unique<RawImage>(std::move(file), true, false), {});
  Asked beyond(Kind::kRead, 4096, 512);
  CHECK(Do(disk, beyond) == EINVAL);
  Asked wrapping(Kind::kRead, UINT64_MAX - 255, 512);
  CHECK(Do(disk, wrapping) == EINVAL);
  Asked write(Kind::kWrite, 0, 512);
  CHECK(Do(disk, write) == EROFS);
  Asked zeroes(Kind::kWriteZeroes, 0, 512);
  CHECK(Do(disk, zeroes) == EROFS);
  Asked read(Kind::kRead, 0, 512);
  CHECK(Do(disk, read) == 0);
  CHECK(read.bytes == std::vector<uint8_t>(512, 1));
}

TEST_CASE("the last sector reads as zero where the file ends within it", "[block]") {
  auto file = TemporaryFile();
  REQUIRE(WriteAt(*file, 0, std::vector<uint8_t>(700, 5)) == 0);
  Disk disk(std::make_unique<RawImage>(std::move(file), true, false), {});
  Asked read(Kind::kRead, 512, 512, 0xEE);
  REQUIRE(Do(disk, read) == 0);
  std::vector<uint8_t> expected(188, 5);
  expected.resize(512);
  CHECK(read.bytes == expected);
}

TEST_CASE("cache modes sync when they promise to", "[block]") {
  const auto cache = GENERATE(DiskCache::kWriteBack, DiskCache::kWriteThrough, DiskCache::kUnsafe);
  auto file = std::make_unique<MemoryFile>(std::vector<uint8_t>(4096));
  MemoryFile& raw = *file;
  Disk::Options options;
  options.cache = cache;
  Disk disk(std::make_unique<RawImage>(std::move(file), false, false), options);
  Asked write(Kind::kWrite, 0, 512, 1);
  REQUIRE(Do(disk, write) == 0);
  CHECK(raw.syncs == (cache == DiskCache::kWriteThrough ? 1 : 0));
  const int before = raw.syncs;
  Asked flush(Kind::kFlush);
  REQUIRE(Do(disk, flush) == 0);
  CHECK(raw.syncs - before == (cache == DiskCache::kUnsafe ? 0 : 1));
}

TEST_CASE("token buckets let through what the rate says", "[block]") {
  TokenBucket bucket(1000, 0ns);
  // A tenth of a second's worth at once.
  CHECK(bucket.Wait(100, 0ns) == 0ns);
  bucket.Take(100);
  CHECK(bucket.Wait(1, 0ns) == 1ms);
  CHECK(bucket.Wait(1, 500us) == 500us);
  CHECK(bucket.Wait(1, 1ms) == 0ns);
  // More than fits: when it is full, and the debt is paid afterwards.
  CHECK(bucket.Wait(1000, 1s) == 0ns);
  bucket.Take(1000);
  CHECK(bucket.Wait(1, 1s) == 901ms);
  TokenBucket unlimited(0, 0ns);
  unlimited.Take(1'000'000);
  CHECK(unlimited.Wait(1'000'000, 0ns) == 0ns);
}

TEST_CASE("a limiter waits for the slower of its two limits, and takes from neither", "[block]") {
  RateLimiter limiter({.requests = 10, .bytes = 10240}, 0ns);
  CHECK(limiter.TryTake(512, 0ns) == 0ns);
  CHECK(limiter.TryTake(512, 0ns) == 100ms);
  CHECK(limiter.TryTake(512, 100ms) == 0ns);
  CHECK(limiter.TryTake(4096, 200ms) == 0ns);  // the bucket of bytes is full: 1024, and a debt
  CHECK(limiter.TryTake(512, 300ms) > 100ms);
}

TEST_CASE("requests under a limit all end", "[block][threads]") {
  auto file = std::make_unique<MemoryFile>(std::vector<uint8_t>(4096));
  Disk::Options options;
  options.limits.requests = 2000;
  std::vector<std::unique_ptr<Asked>> asked;
  {
    Disk disk(std::make_unique<RawImage>(std::move(file), false, false), options);
    for (int i = 0; i < 300; ++i) {
      asked.push_back(std::make_unique<Asked>(Kind::kWrite, 0, 512));
      disk.Submit(0, asked.back()->request);
    }
  }
  for (const auto& one : asked) CHECK(one->is_done);
}

}  // namespace vmm
