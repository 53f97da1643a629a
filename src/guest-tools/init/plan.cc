#include "guest-tools/init/plan.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/protocol/test_channel.h"

namespace guest_init {

namespace wire = vmm::test_channel;

namespace {

// The whole file with a NUL behind it, or null.
char* ReadWhole(const char* path, size_t* size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat status{};
  if (fd < 0 || fstat(fd, &status) != 0) return nullptr;
  const auto length = static_cast<size_t>(status.st_size);
  auto* text = static_cast<char*>(malloc(length + 1));
  size_t filled = 0;
  while (text != nullptr && filled < length) {
    const ssize_t got = read(fd, text + filled, length - filled);
    if (got <= 0) break;
    filled += static_cast<size_t>(got);
  }
  close(fd);
  if (text == nullptr || filled != length) return nullptr;
  text[length] = '\0';
  *size = length;
  return text;
}

bool Add(Plan& plan, const char* name, char* value) {
  const auto is = [name](const char* key) { return strcmp(name, key) == 0; };
  if (is(wire::kPlanArgument)) {
    if (plan.argument_count == Plan::kMostWords) return false;
    plan.arguments[plan.argument_count++] = value;
    plan.arguments[plan.argument_count] = nullptr;
  } else if (is(wire::kPlanModule) || is(wire::kPlanNeeded)) {
    if (plan.module_count == Plan::kMostWords) return false;
    plan.modules[plan.module_count++] = {value, is(wire::kPlanNeeded)};
  } else if (is(wire::kPlanApplets)) {
    plan.applets = value;
  } else if (is(wire::kPlanDisk)) {
    plan.root_disk = value;
  } else if (is(wire::kPlanShare)) {
    plan.root_share = value;
  } else {
    return false;
  }
  return true;
}

}  // namespace

const Plan* ReadPlan() {
  static Plan plan;
  size_t size = 0;
  char* text = ReadWhole(wire::kPlanPath, &size);
  if (text == nullptr) return nullptr;
  for (char* at = text; at < text + size;) {
    char* value = at + strlen(at) + 1;
    if (value >= text + size || !Add(plan, at, value)) return nullptr;
    at = value + strlen(value) + 1;
  }
  return plan.argument_count > 0 ? &plan : nullptr;
}

}  // namespace guest_init
