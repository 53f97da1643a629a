// vmm as a whole, on a host whose KVM is a fake: VMM_FAKE_KVM says what is wrong with it, as a
// list of the words below separated by commas ("slow,no-nested-paging"). Empty: nothing is.
//
//   VMM_FAKE_KVM=busy build/tests/guest/vmm_fakekvm probe
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/support/fake_kvm.h"
#include "vmm/cli/cli_main.h"

namespace vmm::test {
namespace {

int FailEntry(kvm_run& run) {
  run.exit_reason = KVM_EXIT_FAIL_ENTRY;
  run.fail_entry.hardware_entry_failure_reason = 0x80000021;
  return 0;
}

struct Condition {
  std::string_view name;
  void (*apply)(FakeKvm& kvm);
};

constexpr Condition kConditions[] = {
    {"missing",
     [](FakeKvm& kvm) {
       kvm.open_error = ENOENT;
       kvm.facts.device_exists = false;
       kvm.facts.backend.clear();
     }},
    {"forbidden",
     [](FakeKvm& kvm) {
       kvm.open_error = EACCES;
       kvm.facts.user_in_group = kvm.facts.group_active = false;
     }},
    {"busy", [](FakeKvm& kvm) { kvm.Refuse(KVM_CREATE_VM, EBUSY); }},
    {"virtualbox", [](FakeKvm& kvm) { kvm.facts.vmx_holders = {"vboxdrv"}; }},
    {"too-old", [](FakeKvm& kvm) { kvm.SetCapability(KVM_CAP_SPLIT_IRQCHIP, 0); }},
    {"slow", [](FakeKvm& kvm) { kvm.guest_slowness = 100; }},
    {"lacks",
     [](FakeKvm& kvm) { kvm.failing_stages = {probe::Stage::kCmpxchg16b, probe::Stage::kInt3}; }},
    {"hangs",
     [](FakeKvm& kvm) {
       for (unsigned i = 0; i < probe::kStages; ++i)
         kvm.hanging_stages.insert(static_cast<probe::Stage>(i));
     }},
    {"fail-entry", [](FakeKvm& kvm) { kvm.NextExit(FailEntry); }},
    {"no-nested-paging", [](FakeKvm& kvm) { kvm.facts.nested_paging = false; }},
    // Good while it is measured, and then the machine can't be entered.
    {"turns-bad", [](FakeKvm& kvm) { kvm.other_guests = FailEntry; }},
};

// False when there is no such condition.
bool Apply(std::string_view name, FakeKvm& kvm) {
  for (const Condition& condition : kConditions) {
    if (condition.name != name) continue;
    condition.apply(kvm);
    return true;
  }
  return false;
}

bool ApplyAll(std::string_view names, FakeKvm& kvm) {
  while (!names.empty()) {
    const std::string_view name = names.substr(0, names.find(','));
    names.remove_prefix(std::min(name.size() + 1, names.size()));
    if (Apply(name, kvm)) continue;
    fmt::print(stderr, "VMM_FAKE_KVM: no condition is called '{}'; there are:", name);
    for (const Condition& condition : kConditions) fmt::print(stderr, " {}", condition.name);
    fmt::print(stderr, "\n");
    return false;
  }
  return true;
}

}  // namespace
}  // namespace vmm::test

int main(int argc, char** argv) {
  // Lives until the end of the process: a thread that closes a rejected VM may outlive main().
  static auto& kvm = *new vmm::test::FakeKvm;
  const char* names = std::getenv("VMM_FAKE_KVM");
  if (names != nullptr && !vmm::test::ApplyAll(names, kvm)) return 2;
  kvm::OverrideKvmApi(kvm);
  return vmm::CliMain(argc, argv);
}
