#include "guest-tools/init/modules.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "guest-tools/init/text.h"

namespace guest_init {
namespace {

constexpr int kCompressedFile = 4;  // MODULE_INIT_COMPRESSED_FILE of linux/module.h, since 5.17

bool IsCompressed(const char* path) {
  const size_t length = strlen(path);
  return length > 3 && strcmp(path + length - 3, ".ko") != 0;
}

// 0, or errno.
int Load(const char* path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int flags = IsCompressed(path) ? kCompressedFile : 0;
  const int error = syscall(SYS_finit_module, fd, "", flags) == 0 ? 0 : errno;
  close(fd);
  return error;
}

const char* Remedy(const char* path, int error) {
  if (IsCompressed(path) && (error == EINVAL || error == EOPNOTSUPP || error == ENOEXEC)) {
    return "this kernel can't unpack modules itself; fix: unpack the files first";
  }
  if (error == ENOEXEC || error == EINVAL || error == ENOENT) {
    return "it is of another kernel; fix: name the modules of this one";
  }
  return "see the kernel's last lines";
}

}  // namespace

bool LoadModules(const Plan& plan, Channel& channel) {
  for (size_t i = 0; i < plan.module_count; ++i) {
    const Plan::Module& module = plan.modules[i];
    const int error = Load(module.path);
    if (error == 0 || error == EEXIST) continue;
    // Some find nothing to do and say so: a driver without its device.
    if (!module.needed && error == ENODEV) continue;
    const char* name = strrchr(module.path, '/');
    const Text text("can't load the module %s: %s (%s)", name == nullptr ? module.path : name + 1,
                    strerror(error), Remedy(module.path, error));
    channel.SendText(module.needed ? Channel::Type::kProblem : Channel::Type::kNote, text.c_str());
    if (module.needed) return false;
  }
  return true;
}

}  // namespace guest_init
