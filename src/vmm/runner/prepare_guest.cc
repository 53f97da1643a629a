#include "vmm/runner/prepare_guest.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <sstream>

#include "vmm/core/protocol/test_channel.h"
#include "vmm/machine/helper_program.h"
#include "vmm/runner/cpio_writer.h"
#include "vmm/runner/module_tree.h"

namespace vmm {
namespace {

namespace fs = std::filesystem;
namespace wire = test_channel;

constexpr std::chrono::milliseconds kHangLook{400};  // a hang is seen within a second
constexpr const char* kInitProgram = "vmm-guest-init";
constexpr const char* kRootName = "vmm-test-root";  // serial number of a disk, tag of a share

// What the disk with the root needs where it is not built in; file systems by what images hold.
constexpr const char* kDiskModules[] = {"virtio_pci", "virtio_blk"};
constexpr const char* kFileSystems[] = {"ext4",  "xfs",   "btrfs", "squashfs",
                                        "erofs", "isofs", "vfat"};
constexpr const char* kShareModules[] = {"virtio_pci", "virtiofs", "overlay"};
constexpr const char* kNetModules[] = {"virtio_pci", "virtio_net"};

bool IsDirectory(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool RootIsImage(const TestCase& test) {
  return !test.rootfs.empty() && !IsDirectory(test.rootfs);
}

Result<fs::path> FindBusybox(const TestCase& test) {
  if (!test.busybox.empty()) return test.busybox;
  const char* path = std::getenv("PATH");
  std::istringstream folders(std::string(path == nullptr ? "" : path) +
                             ":/usr/bin:/bin:/usr/sbin:/sbin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const fs::path file = fs::path(folder) / "busybox";
    if (!folder.empty() && IsStaticProgram(file)) return file;
  }
  return Fail(ExitCode::kUnavailable,
              "the guest would have no programs: there is no static busybox on this host; fix: "
              "install busybox-static, or name a root file system by --rootfs");
}

class Builder {
 public:
  Builder(const TestCase& test, CpioWriter writer) : test_(test), writer_(std::move(writer)) {}

  Result<void> AddInit() {
    auto program = FindHelperProgram(kInitProgram, "");
    if (!program) return tl::unexpected(std::move(program.error()));
    return writer_.AddDevice("dev/console", 0600, 5, 1)
        .and_then([&] { return writer_.AddDevice("dev/null", 0666, 1, 3); })
        .and_then([&] { return writer_.AddFile(&wire::kInitPath[1], *program, 0755); });
  }

  Result<void> OpenModules() {
    if (test_.modules.empty()) return {};
    auto tree = ModuleTree::Open(test_.modules);
    if (!tree) return tl::unexpected(std::move(tree.error()));
    tree_ = std::move(*tree);
    root_is_shared_ = !test_.rootfs.empty() && !RootIsImage(test_) &&
                      std::all_of(std::begin(kShareModules), std::end(kShareModules),
                                  [&](const char* name) { return HasModule(name); });
    return {};
  }
  // The directory of --rootfs is not in the initramfs: the guest mounts it.
  bool root_is_shared() const { return root_is_shared_; }

  // The programs: those of the root, or busybox alone.
  Result<void> AddPrograms() {
    if (!test_.config.initrd.empty()) {
      if (auto added = writer_.AddArchive(test_.config.initrd); !added) return added;
    }
    if (root_is_shared_) return {};
    if (!test_.rootfs.empty() && !RootIsImage(test_)) return writer_.AddTree(test_.rootfs);
    if (!test_.rootfs.empty() || (!test_.config.initrd.empty() && test_.busybox.empty())) return {};
    const auto busybox = FindBusybox(test_);
    if (!busybox) return tl::unexpected(busybox.error());
    Plan(wire::kPlanApplets, "/bin/busybox");
    return writer_.AddFile("bin/busybox", *busybox, 0755)
        .and_then([&] { return writer_.AddLink("bin/sh", "busybox"); })
        .and_then([&] { return writer_.AddDirectory("sbin"); })
        .and_then([&] { return writer_.AddDirectory("usr/bin"); })
        .and_then([&] { return writer_.AddDirectory("usr/sbin"); })
        .and_then([&] { return writer_.AddDirectory("root", 0700); });
  }

  Result<void> AddModules() {
    if (!tree_) return {};
    std::vector<ModuleFile> files;
    const auto add = [&](const auto& names) {
      for (const auto& name : names) tree_->Add(name, false, files);
    };
    if (!test_.config.disks.empty() || RootIsImage(test_)) add(kDiskModules);
    if (RootIsImage(test_)) add(kFileSystems);
    if (!test_.config.nets.empty()) add(kNetModules);
    if (root_is_shared_) add(kShareModules);
    if (!tree_->is_of_whole_kernel()) add(tree_->Names());
    for (const std::string& given : test_.load) {
      const std::string name = ModuleName(given + ".ko");
      if (!HasModule(name)) {
        return Fail(ExitCode::kFileMissing,
                    fmt::format("--load: {} has no module '{}'", test_.modules.string(), given));
      }
      tree_->Add(name, true, files);
    }
    for (const ModuleFile& file : files) {
      const std::string place = ".vmm/modules/" + file.path.filename().string();
      if (auto added = writer_.AddFile(place, file.path, 0644); !added) return added;
      Plan(file.needed ? wire::kPlanNeeded : wire::kPlanModule, "/" + place);
    }
    return {};
  }

  Result<UniqueFd> Finish() {
    if (RootIsImage(test_)) Plan(wire::kPlanDisk, kRootName);
    if (root_is_shared_) Plan(wire::kPlanShare, kRootName);
    for (const std::string& word : test_.command) Plan(wire::kPlanArgument, word);
    return writer_.AddText(&wire::kPlanPath[1], plan_, 0600).and_then([&] {
      return writer_.Finish();
    });
  }

 private:
  bool HasModule(const std::string& name) const {
    return tree_->Has(name) || tree_->IsBuiltIn(name);
  }
  void Plan(const char* name, const std::string& value) {
    plan_ += name;
    plan_ += '\0';
    plan_ += value;
    plan_ += '\0';
  }

  const TestCase& test_;
  CpioWriter writer_;
  std::string plan_;
  std::optional<ModuleTree> tree_;
  bool root_is_shared_ = false;
};

Result<UniqueFd> BuildInitramfs(const TestCase& test, bool* root_is_shared) {
  auto writer = CpioWriter::Create();
  if (!writer) return tl::unexpected(std::move(writer.error()));
  Builder builder(test, std::move(*writer));
  return builder.OpenModules()
      .and_then([&] { return builder.AddPrograms(); })
      .and_then([&] { return builder.AddInit(); })
      .and_then([&] { return builder.AddModules(); })
      .and_then([&] { return builder.Finish(); })
      .map([&](UniqueFd initramfs) {
        *root_is_shared = builder.root_is_shared();
        return initramfs;
      });
}

bool HasParameter(const std::string& line, std::string_view name) {
  return (" " + line).find(" " + std::string(name) + "=") != std::string::npos;
}

// The last of several parameters of one name counts.
std::string CommandLineOf(const std::string& given) {
  std::string line = given;
  const auto add = [&](const std::string& more) { line += (line.empty() ? "" : " ") + more; };
  if (!HasParameter(given, "console")) add("console=ttyS0");
  if (!HasParameter(given, "oops")) add("oops=panic");
  add(fmt::format("rdinit={}", wire::kInitPath));
  return line;
}

}  // namespace

bool IsStaticProgram(const fs::path& file) {
  const UniqueFd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  Elf64_Ehdr header;
  if (!fd || pread(fd.get(), &header, sizeof header, 0) != sizeof header) return false;
  if (!std::equal(header.e_ident, header.e_ident + SELFMAG, ELFMAG) ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64) {
    return false;
  }
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const auto at = static_cast<off_t>(header.e_phoff + uint64_t{i} * sizeof segment);
    if (pread(fd.get(), &segment, sizeof segment, at) != sizeof segment) return false;
    if (segment.p_type == PT_INTERP) return false;
  }
  return access(file.c_str(), X_OK) == 0;
}

Result<void> CheckTest(const TestCase& test) {
  std::error_code error;
  if (test.command.empty()) {
    if (test.rootfs.empty() && test.modules.empty() && test.load.empty()) return {};
    return Fail(ExitCode::kUsage,
                "--rootfs, --modules and --load are for a command to run; fix: write it behind --");
  }
  if (test.config.kernel.empty()) {
    return Fail(ExitCode::kUsage, "only a Linux kernel can run a command; fix: name a --kernel");
  }
  if (test.config.serial[1].kind != ConsoleSpec::Kind::kNull) {
    return Fail(ExitCode::kUsage,
                "console.serial1 is the line over which vmm test hears of the command; fix: use "
                "serial2 for a console");
  }
  if (!test.rootfs.empty() && !fs::exists(test.rootfs, error)) {
    return FailErrno(ExitCode::kFileMissing, fmt::format("--rootfs {}", test.rootfs.string()),
                     error ? error.value() : ENOENT);
  }
  if (!test.load.empty() && test.modules.empty()) {
    return Fail(ExitCode::kUsage, "--load names modules of --modules DIR; fix: name that as well");
  }
  if (!test.busybox.empty() && !IsStaticProgram(test.busybox)) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("--busybox: {} is no static program; fix: name that of busybox-static",
                            test.busybox.string()));
  }
  if (RootIsImage(test) && test.config.disks.size() == Config::kMaxDisks) {
    return Fail(ExitCode::kUsage, "with the image of --rootfs the machine has too many disks");
  }
  return {};
}

Result<PreparedGuest> PrepareGuest(const TestCase& test) {
  PreparedGuest guest;
  guest.config = test.config;
  Config& config = guest.config;
  config.on_reboot = OnReboot::kExit;
  config.on_panic = OnPanic::kExit;
  config.hang_look = kHangLook;
  config.suspend_file.clear();
  config.logs.clear();
  if (!config.control_asked) config.control.clear();
  if (test.command.empty()) return guest;

  bool root_is_shared = false;
  auto initramfs = BuildInitramfs(test, &root_is_shared);
  if (!initramfs) return tl::unexpected(std::move(initramfs.error()));
  guest.initramfs = std::move(*initramfs);
  config.initrd = fmt::format("/proc/self/fd/{}", guest.initramfs.get());
  config.append = CommandLineOf(config.append);
  const auto size = static_cast<uint64_t>(lseek(guest.initramfs.get(), 0, SEEK_END));
  if (size > config.memory / 3) {  // it is there twice while the kernel unpacks it
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("the initramfs has {} MiB, too much for a guest with {} MiB of RAM; "
                            "fix: --memory {}M or more",
                            size / kMiB, config.memory / kMiB, size / kMiB * 3 + 256));
  }
  if (RootIsImage(test)) {
    DiskSpec disk;
    disk.path = test.rootfs;
    disk.mode = DiskMode::kSnapshot;
    disk.serial = kRootName;
    config.disks.push_back(std::move(disk));
  }
  if (root_is_shared) {
    ShareSpec share;
    share.path = test.rootfs;
    share.tag = kRootName;
    share.mode = ShareSpec::Mode::kReadOnly;  // the guest puts what it writes on top
    share.cache = ShareSpec::Cache::kLong;
    config.shares.push_back(std::move(share));
  }
  return guest;
}

}  // namespace vmm
