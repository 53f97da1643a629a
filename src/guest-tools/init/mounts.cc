#include "guest-tools/init/mounts.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>

#include "guest-tools/init/text.h"

namespace guest_init {
namespace {

constexpr char kNewRoot[] = "/.vmm/root";

void Mount(const char* type, const char* place, unsigned long flags, const char* options) {
  mkdir(place, 0755);
  mount(type, place, type, flags, options);  // what the kernel has not, it has not
}

bool IsDirectory(const char* path) {
  struct stat status{};
  return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

// Does the first line of a file of /sys equal `text`?
bool FileSays(const char* path, const char* text) {
  FILE* file = fopen(path, "re");
  char line[64] = "";
  if (file == nullptr) return false;
  if (fgets(line, sizeof line, file) == nullptr) line[0] = '\0';
  fclose(file);
  line[strcspn(line, "\n")] = '\0';
  return strcmp(line, text) == 0;
}

// The name of the disk with this serial number, as in /sys/block.
bool FindDisk(const char* serial, char* name, size_t size) {
  DIR* disks = opendir("/sys/block");
  bool found = false;
  while (disks != nullptr && !found) {
    const dirent* entry = readdir(disks);
    if (entry == nullptr) break;
    found = FileSays(Text("/sys/block/%s/serial", entry->d_name).c_str(), serial);
    if (found) memcpy(name, entry->d_name, strnlen(entry->d_name, size - 1));
  }
  if (disks != nullptr) closedir(disks);
  return found;
}

bool LooksLikeRoot() {
  return IsDirectory("/.vmm/root/bin") || IsDirectory("/.vmm/root/usr/bin");
}

// Mounts a device by whichever of the kernel's file systems takes it.
bool MountDevice(const char* device) {
  FILE* types = fopen("/proc/filesystems", "re");
  char line[128];
  while (types != nullptr && fgets(line, sizeof line, types) != nullptr) {
    if (line[0] != '\t') continue;  // "nodev" and the like
    line[strcspn(line, "\n")] = '\0';
    for (const unsigned long flags : {0UL, static_cast<unsigned long>(MS_RDONLY)}) {
      if (mount(device, kNewRoot, line + 1, flags, nullptr) == 0) {
        fclose(types);
        return true;
      }
      if (errno != EROFS && errno != EACCES) break;
    }
  }
  if (types != nullptr) fclose(types);
  return false;
}

// The disk itself, or the first of its partitions that holds a root.
bool MountDisk(const char* name) {
  if (MountDevice(Text("/dev/%s", name).c_str())) return true;
  for (int part = 1; part <= 128; ++part) {
    const Text device("/dev/%s%d", name, part);
    if (access(device.c_str(), F_OK) != 0) continue;
    if (!MountDevice(device.c_str())) continue;
    if (LooksLikeRoot()) return true;
    umount2(kNewRoot, MNT_DETACH);
  }
  return false;
}

// The host's directory is only read: what is written is on top of it, in memory.
bool MountShare(const char* tag) {
  for (const char* folder : {"/.vmm/lower", "/.vmm/upper"}) mkdir(folder, 0755);
  if (mount(tag, "/.vmm/lower", "virtiofs", MS_RDONLY, nullptr) != 0 ||
      mount("tmpfs", "/.vmm/upper", "tmpfs", 0, "mode=0755") != 0) {
    return false;
  }
  for (const char* folder : {"/.vmm/upper/files", "/.vmm/upper/work"}) mkdir(folder, 0755);
  return mount("overlay", kNewRoot, "overlay", 0,
               "lowerdir=/.vmm/lower,upperdir=/.vmm/upper/files,workdir=/.vmm/upper/work") == 0;
}

bool MountRoot(const Plan& plan, Channel& channel) {
  if (plan.root_share != nullptr) {
    if (MountShare(plan.root_share)) return true;
    channel.SendText(Channel::Type::kProblem,
                     Text("can't mount the shared directory: %s", strerror(errno)).c_str());
    return false;
  }
  char name[64] = "";
  if (!FindDisk(plan.root_disk, name, sizeof name)) {
    channel.SendText(Channel::Type::kProblem,
                     "the guest does not see the disk of --rootfs: its kernel lacks virtio_blk or "
                     "virtio_pci; fix: name the kernel's modules by --modules DIR");
    return false;
  }
  if (MountDisk(name)) return true;
  channel.SendText(Channel::Type::kProblem,
                   "the guest can't mount the image of --rootfs: its kernel knows no file system "
                   "of it; fix: name the kernel's modules by --modules DIR, or another image");
  return false;
}

}  // namespace

void MountBasics() {
  Mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
  Mount("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
  Mount("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
  Mount("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666");
  Mount("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, nullptr);
  Mount("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
  Mount("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, nullptr);
  symlink("/proc/self/fd", "/dev/fd");
  symlink("/proc/self/fd/0", "/dev/stdin");
  symlink("/proc/self/fd/1", "/dev/stdout");
  symlink("/proc/self/fd/2", "/dev/stderr");
}

bool EnterRoot(const Plan& plan, Channel& channel) {
  if (plan.root_disk == nullptr && plan.root_share == nullptr) return true;
  mkdir(kNewRoot, 0755);
  if (!MountRoot(plan, channel)) return false;
  // The initramfs can't be unmounted; a mount over it hides it.
  if (chdir(kNewRoot) != 0 || mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || chroot(".") != 0 ||
      chdir("/") != 0) {
    channel.SendText(Channel::Type::kProblem,
                     Text("can't enter the file system of --rootfs: %s", strerror(errno)).c_str());
    return false;
  }
  MountBasics();
  return true;
}

}  // namespace guest_init
