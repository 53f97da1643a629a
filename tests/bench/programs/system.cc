// System calls, processes and page faults.

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "bench_rows.h"

namespace {

const char* own_path;  // of this program
constexpr char kChild[] = "--child";
constexpr int kChildStatus = 7;

uint64_t RunGetppid(uint64_t count) {
  long same = 0;
  const long parent = syscall(SYS_getppid);
  for (uint64_t i = 0; i < count; ++i) same += syscall(SYS_getppid) == parent;
  return static_cast<uint64_t>(same);
}

uint64_t RunStat(uint64_t count) {
  uint64_t directories = 0;
  while (count-- > 0) {
    struct stat status;
    if (stat("/tmp", &status) != 0) Fail("stat");
    directories += S_ISDIR(status.st_mode);
  }
  return directories;
}

volatile sig_atomic_t handled;

uint64_t RunSignals(uint64_t count) {
  struct sigaction action = {};
  action.sa_handler = [](int) { handled = handled + 1; };
  if (sigaction(SIGUSR1, &action, nullptr) != 0) Fail("sigaction");
  handled = 0;
  while (count-- > 0) raise(SIGUSR1);
  return static_cast<uint64_t>(handled);
}

uint64_t WaitFor(pid_t child) {
  int status;
  if (child < 0 || waitpid(child, &status, 0) != child) Fail("fork or waitpid");
  return WIFEXITED(status) ? static_cast<uint64_t>(WEXITSTATUS(status)) : 1000;
}

uint64_t RunForkExec(uint64_t count) {
  uint64_t checksum = 0;
  while (count-- > 0) {
    const pid_t child = fork();
    if (child == 0) {
      execl(own_path, own_path, kChild, nullptr);
      _exit(1);
    }
    checksum += WaitFor(child);
  }
  return checksum;
}

uint64_t RunFork(uint64_t count) {
  uint64_t checksum = 0;
  while (count-- > 0) {
    const pid_t child = fork();
    if (child == 0) _exit(kChildStatus);
    checksum += WaitFor(child);
  }
  return checksum;
}

// One byte to another process and back, incremented on each side.
uint64_t RunPipe(uint64_t count) {
  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) Fail("pipe");
  const pid_t child = fork();
  if (child == 0) {
    close(there[1]);
    uint8_t byte;
    while (read(there[0], &byte, 1) == 1) {
      ++byte;
      if (write(back[1], &byte, 1) != 1) _exit(1);
    }
    _exit(kChildStatus);
  }
  uint8_t byte = 0;
  uint64_t checksum = 0;
  while (count-- > 0) {
    ++byte;
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) Fail("ping-pong");
    checksum += byte;
  }
  for (const int end : {there[0], there[1], back[0], back[1]}) close(end);
  return Mix(checksum, WaitFor(child));
}

constexpr size_t kPage = 4096, kPages = 1024;

uint8_t* Map() {
  void* mapped =
      mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) Fail("mmap");
  madvise(mapped, kPages * kPage, MADV_NOHUGEPAGE);  // the same number of faults everywhere
  return static_cast<uint8_t*>(mapped);
}

uint64_t RunMmap(uint64_t count) {
  uint64_t checksum = 0;
  while (count-- > 0) {
    uint8_t* const pages = Map();
    for (size_t page = 0; page < kPages; ++page) {
      checksum += pages[page * kPage];
      pages[page * kPage] = 1;
    }
    for (size_t page = 0; page < kPages; ++page) checksum += pages[page * kPage];
    if (munmap(pages, kPages * kPage) != 0) Fail("munmap");
  }
  return checksum;
}

// A page becomes read-only and writable again, and is written.
uint64_t RunMprotect(uint64_t count) {
  uint8_t* const pages = Map();
  std::memset(pages, 0, kPages * kPage);
  for (uint64_t i = 0; i < count; ++i) {
    uint8_t* const page = pages + i % kPages * kPage;
    if (mprotect(page, kPage, PROT_READ) != 0) Fail("mprotect");
    if (mprotect(page, kPage, PROT_READ | PROT_WRITE) != 0) Fail("mprotect");
    ++*page;
  }
  uint64_t checksum = 0;
  for (size_t i = 0; i < kPages; ++i) checksum = Mix(checksum, pages[i * kPage]);
  munmap(pages, kPages * kPage);
  return checksum;
}

constexpr Row kRows[] = {
    {"getppid", nullptr, RunGetppid, 1'000'000},
    {"stat", nullptr, RunStat, 200'000},
    {"signals", nullptr, RunSignals, 100'000},
    {"fork-exec", nullptr, RunForkExec, 300},
    {"fork", nullptr, RunFork, 1000},
    {"pipe", nullptr, RunPipe, 20'000},
    {"mmap", nullptr, RunMmap, 80},
    {"mprotect", nullptr, RunMprotect, 50'000},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], kChild) == 0) return kChildStatus;
  own_path = argv[0];
  return RunRows(argc, argv, kRows);
}
