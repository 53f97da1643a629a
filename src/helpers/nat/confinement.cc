#include "helpers/nat/confinement.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <iterator>

namespace nat {
namespace {

// Calls of the 64-bit interface only: others would have numbers of their own.
void ForbidCalls() {
#define FORBID(number) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, refuse)
  constexpr unsigned refuse = SECCOMP_RET_ERRNO | EPERM;
  constexpr unsigned kX32 = 0x40000000;
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kX32, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      FORBID(SYS_execve),
      FORBID(SYS_execveat),
      FORBID(SYS_fork),
      FORBID(SYS_vfork),
      FORBID(SYS_ptrace),
      FORBID(SYS_process_vm_readv),
      FORBID(SYS_process_vm_writev),
      FORBID(SYS_kill),
      FORBID(SYS_tkill),
      FORBID(SYS_pidfd_open),
      FORBID(SYS_pidfd_getfd),
      FORBID(SYS_pidfd_send_signal),
      FORBID(SYS_mount),
      FORBID(SYS_umount2),
      FORBID(SYS_pivot_root),
      FORBID(SYS_chroot),
      FORBID(SYS_unshare),
      FORBID(SYS_setns),
      FORBID(SYS_bpf),
      FORBID(SYS_perf_event_open),
      FORBID(SYS_keyctl),
      FORBID(SYS_add_key),
      FORBID(SYS_request_key),
      FORBID(SYS_userfaultfd),
      FORBID(SYS_io_uring_setup),
      FORBID(SYS_init_module),
      FORBID(SYS_finit_module),
      FORBID(SYS_kexec_load),
      FORBID(SYS_reboot),
      FORBID(SYS_swapon),
      FORBID(SYS_unlink),
      FORBID(SYS_unlinkat),
      FORBID(SYS_rename),
      FORBID(SYS_renameat2),
      FORBID(SYS_creat),
      FORBID(SYS_mkdir),
      FORBID(SYS_link),
      FORBID(SYS_symlink),
      FORBID(SYS_chmod),
      FORBID(SYS_fchmodat),
      FORBID(SYS_chown),
      FORBID(SYS_truncate),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
#undef FORBID
  const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

}  // namespace

void Confine() {
  setsid();
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_DUMPABLE, 0);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  ForbidCalls();
}

}  // namespace nat
