// A host's KVM that does what a test says: refuses calls, lacks capabilities, ends KVM_RUN as told.
// Left alone it keeps every piece of vCPU state that is set, and plays the probe's tiny guest.
//
//   FakeKvm kvm;
//   kvm.Refuse(KVM_CREATE_VM, EBUSY);
//   kvm.NextExit([](kvm_run& run) { run.exit_reason = KVM_EXIT_SHUTDOWN; return 0; });
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "kvm/kvm_api.h"
#include "kvm/kvm_uapi.h"
#include "vmm/probe/probe_guest.h"

namespace vmm::test {

class FakeKvm final : public kvm::KvmApi {
 public:
  FakeKvm();

  // --- What the host is like. ---
  int open_error = 0;      // errno of open("/dev/kvm")
  bool map_fails = false;  // mmap of kvm_run
  kvm::HostFacts facts;    // at first: an Intel machine with everything
  void Refuse(unsigned long request, int error) { refused_[request] = error; }
  void SetCapability(int capability, int value) { capabilities_[capability] = value; }
  std::vector<kvm_cpuid_entry2> supported_cpuid;  // at first: all ones for leaves 0-0x80000008
  std::set<uint32_t> unreadable_msrs, unwritable_msrs;
  int tsc_khz = 2'000'000;

  // --- The probe's guest. ---
  double guest_slowness = 1;              // CPU time of its loop, as a multiple of native
  std::set<probe::Stage> failing_stages;  // end with KVM_EXIT_INTERNAL_ERROR
  std::set<probe::Stage> hanging_stages;  // KVM_RUN never ends by itself

  // --- What KVM_RUN does; it returns 0 or -errno. ---
  using Exit = std::function<int(kvm_run&)>;
  void NextExit(Exit exit) { exits_.push_back(std::move(exit)); }  // once, whatever guest runs
  Exit other_guests;  // always, but not for the probe's guest; empty: wait for a kick

  // --- What was asked of it. ---
  struct Slot {
    uint64_t start, size, host;
  };
  struct Vcpu {
    unsigned id = 0;
    kvm_regs regs{};
    kvm_sregs sregs{};
    kvm_debugregs debugregs{};
    kvm_lapic_state lapic{};
    kvm_vcpu_events events{};
    kvm_mp_state mp{};
    kvm_xcrs xcrs{};
    std::vector<uint8_t> xsave = std::vector<uint8_t>(4096);
    std::map<uint32_t, uint64_t> msrs;
    std::vector<kvm_cpuid_entry2> cpuid;
    std::vector<uint32_t> interrupts;  // by KVM_INTERRUPT
    kvm_guest_debug guest_debug{};     // the last one asked for
    unsigned guest_debugs = 0;
    int tsc_khz = 0;
    unsigned runs = 0;
    unsigned immediate_exits = 0;
    std::vector<uint8_t> run;  // the shared page
    int phase = 0;             // of the probe's guest
  };
  Vcpu& vcpu(unsigned id);  // of the newest VM
  std::map<uint32_t, Slot> slots;
  std::vector<kvm_msi> msis;
  std::vector<kvm_irq_routing_entry> routes;
  unsigned route_updates = 0;
  kvm_clock_data clock{};  // stands still
  std::vector<kvm_ioeventfd> ioeventfds;
  std::vector<kvm_irqfd> irqfds;
  std::vector<kvm_enable_cap> enabled;
  int open_fds = 0;

  int Open() override;
  void Close(int fd) override;
  using KvmApi::Ioctl;
  int Ioctl(int fd, unsigned long request, uintptr_t argument) override;
  void* MapRun(int vcpu_fd, size_t size) override;
  void UnmapRun(void* run, size_t size) override;
  kvm::HostFacts Facts() override { return facts; }

 private:
  int SystemCall(unsigned long request, uintptr_t argument);
  int VmCall(unsigned long request, uintptr_t argument);
  int VcpuCall(Vcpu& vcpu, unsigned long request, uintptr_t argument);
  int TransferMsrs(Vcpu& vcpu, kvm_msrs& list, bool set);
  int Run(Vcpu& vcpu);
  int RunProbeGuest(Vcpu& vcpu, kvm_run& run, probe::Stage stage);
  static int WaitForKick(kvm_run& run);

  std::map<unsigned long, int> refused_;
  std::map<int, int> capabilities_;
  std::deque<Exit> exits_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
};

}  // namespace vmm::test
