#include "kvm/host_facts.h"

#include <cpuid.h>
#include <dirent.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

namespace kvm {
namespace {

bool Exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

// First character of a module's boolean parameter: 'Y' or '1' = on; 0 = no such file.
bool ParameterOn(const std::string& path) {
  std::ifstream file(path);
  char value = 0;
  file >> value;
  return value == 'Y' || value == '1';
}

void ReadDevice(HostFacts& facts) {
  struct stat st;
  if (::stat("/dev/kvm", &st) != 0) return;
  facts.device_exists = true;
  facts.device_mode = st.st_mode & 07777;
  const group* entry = ::getgrgid(st.st_gid);
  facts.device_group = entry != nullptr ? entry->gr_name : std::to_string(st.st_gid);

  facts.group_active = ::getegid() == st.st_gid;
  gid_t groups[256];
  const int count = ::getgroups(256, groups);
  for (int i = 0; i < count; ++i) facts.group_active |= groups[i] == st.st_gid;
  facts.user_in_group = facts.group_active;
  if (entry == nullptr) return;
  for (char** member = entry->gr_mem; *member != nullptr; ++member)
    facts.user_in_group |= facts.user == *member;
}

void ReadUser(HostFacts& facts) {
  const uid_t uid = ::geteuid();
  facts.root = uid == 0;
  const passwd* entry = ::getpwuid(uid);
  facts.user = entry != nullptr ? entry->pw_name : std::to_string(uid);
}

// [SDM 2A] CPUID leaf 1, ECX bits 5 (VMX) and 31 (hypervisor); [APM 3] E.4.2, ECX bit 2 (SVM).
void ReadCpu(HostFacts& facts) {
  unsigned eax, ebx, ecx, edx;
  __cpuid(0, eax, ebx, ecx, edx);
  facts.module = ebx == signature_AMD_ebx ? "kvm_amd" : "kvm_intel";
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) {
    facts.in_guest = ecx & (1u << 31);
    if (ecx & (1u << 5)) facts.cpu_extension = "vmx";
  }
  if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx & (1u << 2)))
    facts.cpu_extension = "svm";
}

// The module behind /dev/kvm; kvm_intel and kvm_amd are looked for first, then any other.
std::string FindBackend() {
  for (const char* name : {"kvm_intel", "kvm_amd"})
    if (Exists(std::string("/sys/module/") + name)) return name;
  std::string found;
  DIR* dir = ::opendir("/sys/module");
  if (dir == nullptr) return found;
  while (const dirent* entry = ::readdir(dir))
    if (std::strncmp(entry->d_name, "kvm_", 4) == 0) found = entry->d_name;
  ::closedir(dir);
  return found;
}

}  // namespace

HostFacts GatherHostFacts() {
  HostFacts facts;
  ReadUser(facts);
  ReadDevice(facts);
  ReadCpu(facts);
  facts.in_container =
      Exists("/.dockerenv") || Exists("/run/.containerenv") || Exists("/run/systemd/container");
  facts.backend = FindBackend();
  facts.nested_paging = ParameterOn("/sys/module/kvm_intel/parameters/ept") ||
                        ParameterOn("/sys/module/kvm_amd/parameters/npt");
  for (const char* name : {"vboxdrv", "vmmon", "xen_privcmd"})
    if (Exists(std::string("/sys/module/") + name)) facts.vmx_holders.push_back(name);
  return facts;
}

}  // namespace kvm
