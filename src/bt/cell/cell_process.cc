#include "bt/cell/cell_process.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <new>

namespace bt {
namespace {

using Turn = CellState::Turn;

// Between where Linux puts programs and where it puts libraries and stacks: guests hardly have
// anything there.
constexpr uint64_t kLowest = 0x200000000000;

uint64_t ChooseAddress() {
  uint32_t random = 0;
  if (getrandom(&random, sizeof(random), 0) != sizeof(random)) random = 0;
  return kLowest + (static_cast<uint64_t>(random >> 4) << 12);
}

long Futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* timeout) {
  return syscall(SYS_futex, &word, operation, value, timeout, nullptr, 0);
}

// What the kernel wants to know of a handler. [rt_sigaction(2)]
struct KernelAction {
  uint64_t handler, flags, restorer, mask;
};
constexpr uint64_t kRestorer = 0x04000000;
constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

// The cell's code makes no other calls: if it were led astray, neither could that.
bool Confine() {
#define ALLOW(number) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      ALLOW(SYS_futex),
      ALLOW(SYS_mmap),
      ALLOW(SYS_munmap),
      ALLOW(SYS_rt_sigreturn),
      ALLOW(SYS_restart_syscall),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
#undef ALLOW
  const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace

std::unique_ptr<CellProcess> CellProcess::Create(int memory, const Bell& bell) {
  const int fd = memfd_create("vmm-cell", MFD_CLOEXEC);
  if (fd < 0) return nullptr;
  void* monitor = MAP_FAILED;
  if (ftruncate(fd, CellLayout::kBytes) == 0)
    monitor = mmap(nullptr, CellLayout::kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (monitor == MAP_FAILED) {
    close(fd);
    return nullptr;
  }
  return std::unique_ptr<CellProcess>(
      new CellProcess(static_cast<uint8_t*>(monitor), fd, memory, bell));
}

CellProcess::CellProcess(uint8_t* monitor, int fd, int memory, const Bell& bell)
    : monitor_(monitor), address_(ChooseAddress()), fd_(fd), memory_(memory), bell_(bell) {
  new (&state()) CellState;
  new (&control()) CellControl;
}

CellProcess::~CellProcess() {
  Stop();
  munmap(monitor_, CellLayout::kBytes);
  close(fd_);
}

bool CellProcess::Start(CodeSpace& space, const CellStubs& stubs) {
  state().turn = static_cast<uint32_t>(Turn::kCell);  // until it has begun
  const pid_t monitor = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != monitor) _exit(1);
    Become(space, stubs);
  }
  if (pid < 0) return false;
  pid_ = pid;
  while (state().turn == static_cast<uint32_t>(Turn::kCell)) {
    const timespec slice{0, 10'000'000};
    Futex(state().turn, FUTEX_WAIT, static_cast<uint32_t>(Turn::kCell), &slice);
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return false;
    }
  }
  return true;
}

// In the child: only calls of the kernel, for other threads of the parent may have held locks.
void CellProcess::Become(CodeSpace& space, const CellStubs& stubs) {
  struct Part {
    int fd;
    size_t offset, size, in_file;
    int rights;
  };
  const Part parts[] = {
      {fd_, CellLayout::kState, CellLayout::kStateBytes, CellLayout::kState,
       PROT_READ | PROT_WRITE},
      {fd_, CellLayout::kControl, CellLayout::kControlBytes, CellLayout::kControl, PROT_READ},
      {bell_.fd(), CellLayout::kBell, vmm::kPageSize, 0, PROT_READ},
      {bell_.fd(), CellLayout::kBell + vmm::kPageSize, vmm::kPageSize, vmm::kPageSize,
       PROT_READ | PROT_WRITE},
      {fd_, CellLayout::kTables, CellLayout::kTablesBytes, CellLayout::kTables, PROT_READ},
      {fd_, CellLayout::kCode, CellLayout::kCodeBytes, CellLayout::kCode, PROT_READ | PROT_EXEC},
  };
  for (const Part& part : parts) {
    const size_t size = (part.size + vmm::kPageSize - 1) & ~(vmm::kPageSize - 1);
    void* at = reinterpret_cast<void*>(address_ + part.offset);
    if (mmap(at, size, part.rights, MAP_SHARED | MAP_FIXED_NOREPLACE, part.fd,
             static_cast<off_t>(part.in_file)) != at)
      _exit(2);
  }
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  // The kernel writes to the C library's area of restartable sequences, which goes away.
  if (__rseq_size != 0) {
    syscall(SYS_rseq, static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset, 32,
            RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
  }
  const stack_t stack{reinterpret_cast<void*>(address_ + CellLayout::kStateBytes / 2), 0,
                      CellLayout::kStateBytes / 2};
  if (sigaltstack(&stack, nullptr) != 0) _exit(3);
  uint64_t blocked = ~0ull;
  for (int fault : kFaults) {
    blocked &= ~(1ull << (fault - 1));
    const KernelAction action{reinterpret_cast<uint64_t>(space.run(stubs.fault)),
                              SA_SIGINFO | SA_ONSTACK | kRestorer,
                              reinterpret_cast<uint64_t>(space.run(stubs.restore)), ~0ull};
    if (syscall(SYS_rt_sigaction, fault, &action, nullptr, 8) != 0) _exit(4);
  }
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, nullptr, 8);
  if (memory_ > 0) syscall(SYS_close_range, 0u, static_cast<unsigned>(memory_) - 1, 0u);
  syscall(SYS_close_range, static_cast<unsigned>(memory_) + 1, ~0u, 0u);
  if (!Confine()) _exit(5);
  reinterpret_cast<void (*)()>(space.run(stubs.main))();
  _exit(6);
}

bool CellProcess::HandOver() {
  constexpr auto kCell = static_cast<uint32_t>(Turn::kCell);
  if (pid_ < 0) return false;
  together_.Join(pid_);
  std::copy_n(calls_.begin(), queued_, state().call);
  state().calls = queued_;
  std::atomic<uint32_t>& turn = state().turn;
  turn = kCell;
  Futex(turn, FUTEX_WAKE, 1, nullptr);
  while (turn == kCell) {
    const timespec slice{1, 0};
    if (Futex(turn, FUTEX_WAIT, kCell, &slice) == 0 || errno != ETIMEDOUT) continue;
    if (waitpid(pid_, nullptr, WNOHANG) != pid_) continue;
    pid_ = -1;
    return false;
  }
  refused_ = false;
  for (unsigned i = 0; i < queued_; ++i)
    refused_ |= static_cast<int64_t>(state().call[i].result) < 0;
  queued_ = 0;
  return true;
}

uint64_t CellProcess::CpuTime() const {
  clockid_t clock;
  timespec time{};
  if (pid_ > 0 && clock_getcpuclockid(pid_, &clock) == 0) clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

void CellProcess::MakeCalls() {
  state().entry = 0;
  HandOver();
}

bool CellProcess::Queue(const CellState::Call& call) {
  if (pid_ < 0) return true;  // there is nothing to be mapped in
  if (queued_ == calls_.size()) return false;
  calls_[queued_++] = call;
  return true;
}

void CellProcess::Stop() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, __WALL);
  pid_ = -1;
}

}  // namespace bt
