// What a disk and a network carry: DISK, at least kDiskBytes long and without the cache of this
// kernel unless CACHED is set, and the server of devices.py at TARGET, an address and a port.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "bench_rows.h"

namespace {

constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB, kDiskBytes = 256 * kMiB;
constexpr unsigned kDepth = 32;

std::byte* Buffer(size_t size) {
  void* memory = std::aligned_alloc(4096, size);
  if (!memory) Fail("aligned_alloc");
  std::memset(memory, 0x5a, size);
  return static_cast<std::byte*>(memory);
}

int OpenDisk() {
  const char* path = std::getenv("DISK");
  const int flags = std::getenv("CACHED") ? O_RDWR : O_RDWR | O_DIRECT;
  const int disk = path ? open(path, flags) : -1;
  if (disk < 0) Fail("open of DISK");
  return disk;
}

template <uint64_t size>
uint64_t ReadAll(uint64_t count) {
  static std::byte* const buffer = Buffer(size);
  const int disk = OpenDisk();
  uint64_t checksum = 0;
  for (uint64_t i = 0; i < count; ++i) {
    if (pread(disk, buffer, size, static_cast<off_t>(i * size % kDiskBytes)) != size) Fail("pread");
    uint64_t word;
    std::memcpy(&word, buffer, sizeof(word));
    checksum = Mix(checksum, word);
  }
  close(disk);
  return checksum;
}

// The same bytes wherever they go, so that it does not matter to the rows that read.
template <uint64_t size>
uint64_t WriteAll(uint64_t count) {
  static std::byte* const buffer = Buffer(size);
  const int disk = OpenDisk();
  for (uint64_t i = 0; i < count; ++i) {
    if (pwrite(disk, buffer, size, static_cast<off_t>(i * size % kDiskBytes)) != size)
      Fail("pwrite");
  }
  close(disk);
  return count;
}

off_t RandomPlace(Random& random) {
  return static_cast<off_t>(random.Next() % (kDiskBytes / 4096) * 4096);
}

double Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Says the median of the time of one as well: "devices: latency SECONDS".
uint64_t ReadOneByOne(uint64_t count) {
  static std::byte* const buffer = Buffer(4096);
  const int disk = OpenDisk();
  Random random(1);
  uint64_t checksum = 0;
  std::vector<double> seconds(count);
  for (double& each : seconds) {
    const double begin = Now();
    if (pread(disk, buffer, 4096, RandomPlace(random)) != 4096) Fail("pread");
    each = Now() - begin;
    uint64_t word;
    std::memcpy(&word, buffer, sizeof(word));
    checksum = Mix(checksum, word);
  }
  close(disk);
  const auto middle = seconds.begin() + static_cast<ptrdiff_t>(count / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  std::printf("devices: latency %.9f\n", *middle);
  return checksum;
}

// Always kDepth of them on their way.
uint64_t ReadManyAtOnce(uint64_t count) {
  static std::byte* const buffers = Buffer(kDepth * 4096);
  const int disk = OpenDisk();
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, kDepth, &context) != 0) Fail("io_setup");
  Random random(2);
  std::vector<iocb> requests(kDepth);
  uint64_t begun = 0, ended = 0, sum = 0;
  const auto begin = [&](unsigned slot) {
    iocb& request = requests[slot];
    request = {};
    request.aio_data = slot;
    request.aio_lio_opcode = IOCB_CMD_PREAD;
    request.aio_fildes = static_cast<uint32_t>(disk);
    request.aio_buf = reinterpret_cast<uint64_t>(buffers + slot * 4096);
    request.aio_nbytes = 4096;
    request.aio_offset = RandomPlace(random);
    iocb* one = &request;
    if (syscall(SYS_io_submit, context, 1, &one) != 1) Fail("io_submit");
    ++begun;
  };
  for (unsigned slot = 0; slot < kDepth && begun < count; ++slot) begin(slot);
  while (ended < count) {
    io_event events[kDepth];
    const long got = syscall(SYS_io_getevents, context, 1, kDepth, events, nullptr);
    if (got < 1) Fail("io_getevents");
    for (long i = 0; i < got; ++i) {
      if (events[i].res != 4096) Fail("a read");
      uint64_t word;
      std::memcpy(&word, buffers + events[i].data * 4096, sizeof(word));
      sum += word;
      ++ended;
      if (begun < count) begin(static_cast<unsigned>(events[i].data));
    }
  }
  syscall(SYS_io_destroy, context);
  close(disk);
  // Which are begun depends on nothing; in which order they end does.
  return sum;
}

int Connect(char what, uint64_t bytes) {
  const char* target = std::getenv("TARGET");
  char address[64];
  unsigned port;
  if (!target || std::sscanf(target, "%63[0-9.]:%u", address, &port) != 2) Fail("TARGET");
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, address, &to.sin_addr) != 1) Fail("TARGET");
  const int stream = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(stream, reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) Fail("connect");
  char request[9] = {what};
  std::memcpy(request + 1, &bytes, sizeof(bytes));
  if (write(stream, request, sizeof(request)) != sizeof(request)) Fail("a request");
  return stream;
}

// Until the server has it all.
uint64_t Send(uint64_t count) {
  static std::byte* const buffer = Buffer(256 * kKiB);
  const int stream = Connect('s', count * kMiB);
  for (uint64_t left = count * kMiB; left != 0;) {
    const ssize_t sent = write(stream, buffer, std::min(left, 256 * kKiB));
    if (sent <= 0) Fail("write to the server");
    left -= static_cast<uint64_t>(sent);
  }
  char had;
  if (read(stream, &had, 1) != 1) Fail("the server's answer");
  close(stream);
  return count;
}

uint64_t Receive(uint64_t count) {
  static std::byte* const buffer = Buffer(256 * kKiB);
  const int stream = Connect('r', count * kMiB);
  for (uint64_t left = count * kMiB; left != 0;) {
    const ssize_t got = read(stream, buffer, std::min(left, 256 * kKiB));
    if (got <= 0) Fail("read from the server");
    left -= static_cast<uint64_t>(got);
  }
  close(stream);
  return count;
}

const Row kRows[] = {
    {"write-128k", nullptr, WriteAll<128 * kKiB>, 4096},
    {"read-128k", nullptr, ReadAll<128 * kKiB>, 4096},
    {"write-1m", nullptr, WriteAll<kMiB>, 512},
    {"read-1m", nullptr, ReadAll<kMiB>, 512},
    {"random-4k-1", nullptr, ReadOneByOne, 10'000},
    {"random-4k-32", nullptr, ReadManyAtOnce, 40'000},
    {"guest-to-host", nullptr, Send, 512},
    {"host-to-guest", nullptr, Receive, 512},
};

}  // namespace

int main(int argc, char** argv) {
  return RunRows(argc, argv, kRows);
}
