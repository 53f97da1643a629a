// What the host says about virtualization apart from /dev/kvm itself: the raw material of the
// reason that a user reads when KVM is not used.
#pragma once

#include <string>
#include <vector>

namespace kvm {

struct HostFacts {
  bool device_exists = false;  // /dev/kvm is there
  std::string device_group;    // its group, by name ("kvm") or number
  unsigned device_mode = 0;    // permission bits, as in stat(2)
  std::string user;            // effective user, by name or number
  bool root = false;           // effective user id 0
  bool user_in_group = false;  // `user` belongs to `device_group` in the user database...
  bool group_active = false;   // ...and this process carries the group
  std::string cpu_extension;   // "vmx", "svm", or empty: the CPU (or hypervisor) offers none
  std::string module;          // the module that the CPU would need: "kvm_intel", "kvm_amd"
  bool in_guest = false;       // CPUID says that a hypervisor runs below this host
  bool in_container = false;   // device nodes are someone else's to hand in
  bool nested_paging = false;  // EPT or NPT is on in the loaded module
  std::string backend;  // loaded module that runs guests: "kvm_intel", "kvm_amd", other; or empty
  std::vector<std::string> vmx_holders;  // loaded modules of other hypervisors: "vboxdrv", "vmmon"
};

// Reads /dev, /sys, /proc and the user database. Never fails: what can't be read stays empty.
HostFacts GatherHostFacts();

}  // namespace kvm
