// What the user asks for: one virtual machine, as vm.toml and the command line describe it. Plain
// data; whoever holds a Config may trust that every rule of docs/config.md was checked.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/base/types.h"
#include "vmm/core/share/id_map.h"
#include "vmm/core/state/cpuid_policy.h"

namespace vmm {

enum class MachineKind : uint8_t { kPc };
enum class AccelChoice : uint8_t { kAuto, kKvm, kBt, kInterpreter };
enum class KernelEntry : uint8_t { kAuto, kUnpacked, kLong, kProtected, kReal };
enum class OnReboot : uint8_t { kReset, kExit };
enum class OnPanic : uint8_t { kExit, kReset, kPause };

// Where a serial line leads on the host. kSocket is no user's: a line on which a program of ours in
// the guest speaks to whoever made the Config.
struct ConsoleSpec {
  enum class Kind : uint8_t { kNull, kStdio, kPty, kUnix, kFile, kSocket };
  Kind kind = Kind::kNull;
  std::filesystem::path path;  // kUnix: the socket to listen on; kFile: the file to append to
  int fd = -1;                 // kSocket: connected; stays its owner's
  friend bool operator==(const ConsoleSpec&, const ConsoleSpec&) = default;
};

// A byte stream between a program of the guest and the host, by a name.
struct PortSpec {
  static constexpr size_t kMaxName = 63;  // bytes
  std::string name;
  ConsoleSpec to;
  friend bool operator==(const PortSpec&, const PortSpec&) = default;
};

// Where a debugger connects.
struct GdbSpec {
  enum class Kind : uint8_t { kNone, kTcp, kUnix };
  Kind kind = Kind::kNone;
  std::string host;   // kTcp: a name or a numeric address
  uint16_t port = 0;  // kTcp; 0: one that the host chooses
  std::string path;   // kUnix: the socket to listen on
  friend bool operator==(const GdbSpec&, const GdbSpec&) = default;
};

// What a debugger takes the processor for.
enum class GdbArch : uint8_t { kAuto, kI8086, kI386, kX8664 };

enum class DiskMode : uint8_t { kReadWrite, kReadOnly, kSnapshot };
enum class DiskFormat : uint8_t { kAuto, kRaw, kQcow2 };

// A disk of the guest.
struct DiskSpec {
  static constexpr unsigned kMaxQueues = 8;
  static constexpr size_t kMaxSerial = 20;  // bytes
  enum class Cache : uint8_t { kWriteBack, kWriteThrough, kUnsafe };

  std::filesystem::path path;
  DiskMode mode = DiskMode::kReadWrite;
  DiskFormat format = DiskFormat::kAuto;
  std::string serial;   // that the guest sees
  unsigned queues = 0;  // 0: one a processor
  Cache cache = Cache::kWriteBack;
  bool direct = false;     // past the host's page cache
  uint64_t iops = 0;       // requests a second; 0: no limit
  uint64_t bandwidth = 0;  // bytes a second; 0: no limit
  friend bool operator==(const DiskSpec&, const DiskSpec&) = default;
};

// Where a network card's wire leads on the host.
enum class NetMode : uint8_t { kUser, kTap, kPasst };

// Connections to a port of the host go to a port of the guest.
struct ForwardSpec {
  bool is_udp = false;
  std::string address = "127.0.0.1";  // of the host, IPv4 or IPv6
  uint16_t host_port = 0;             // 0: one that the host chooses
  uint16_t guest_port = 0;
  bool is_ipv6() const { return address.find(':') != std::string::npos; }
  friend bool operator==(const ForwardSpec&, const ForwardSpec&) = default;
};

// A network card of the guest.
struct NetSpec {
  using Mac = std::array<uint8_t, 6>;

  NetMode mode = NetMode::kUser;
  std::optional<Mac> mac;             // not given: made from the machine's place
  std::vector<ForwardSpec> forwards;  // kUser
  bool restricted = false;            // kUser: no way to the host and beyond
  std::string tap;                    // kTap: its name; or
  std::optional<int> fd;              // kTap: its descriptor, inherited
  std::filesystem::path path;         // kPasst: the socket that it listens on
  unsigned mtu = 0;                   // bytes; 0: the guest is told none
  std::filesystem::path pcap;         // what passes is recorded there; empty: nowhere
  friend bool operator==(const NetSpec&, const NetSpec&) = default;
};

// A directory of the host that the guest can mount.
struct ShareSpec {
  static constexpr size_t kMaxTag = 36;  // bytes
  enum class Mode : uint8_t { kReadWrite, kReadOnly };
  enum class Cache : uint8_t { kNone, kShort, kLong };

  std::filesystem::path path;
  std::string tag;  // that the guest mounts; empty: made from its place in the list
  Mode mode = Mode::kReadWrite;
  Cache cache = Cache::kNone;
  bool setuid = false;          // may the guest make set-user-ID programs there?
  std::vector<IdRange> users;   // none: the guest's root is the user that vmm runs as
  std::vector<IdRange> groups;  // likewise
  friend bool operator==(const ShareSpec&, const ShareSpec&) = default;
};

// A Multiboot module.
struct ModuleSpec {
  std::filesystem::path path;
  std::string args;  // the text that the kernel sees with the module
  friend bool operator==(const ModuleSpec&, const ModuleSpec&) = default;
};

// When a run is ended from outside the guest. Zero: no limit.
struct RunLimits {
  std::chrono::milliseconds wall{0};  // since the first guest instruction
  std::chrono::milliseconds idle{0};  // since the guest last wrote to a console
};

// What a deterministic run writes and reads, by options of the command line. Empty: nothing.
struct TraceOptions {
  std::filesystem::path record, replay;   // inputs (machine/input_log.h)
  std::filesystem::path state_hash;       // machine/state_hash.h
  uint64_t state_hash_every = 1'000'000;  // instructions
  bool any() const { return !record.empty() || !replay.empty() || !state_hash.empty(); }
};

// Paths are absolute, or relative to the working directory of the process; empty: not given.
struct Config {
  static constexpr unsigned kMaxCpus = 8;
  static constexpr unsigned kSerialPorts = 4;
  static constexpr unsigned kVirtioConsoles = 2;
  static constexpr unsigned kConsoles = kSerialPorts + kVirtioConsoles;  // that print messages
  static constexpr unsigned kMaxPorts = 5;
  static constexpr unsigned kMaxDisks = 16;
  static constexpr unsigned kMaxNets = 8;
  static constexpr unsigned kMaxShares = 8;
  static constexpr uint64_t kLogLimit = 8 * kMiB;  // of each file in `logs`

  std::string name;                 // of the machine, for logs; never empty
  std::filesystem::path directory;  // that holds vm.toml; the working directory without a file
  std::filesystem::path file;       // vm.toml itself

  MachineKind machine = MachineKind::kPc;
  unsigned cpus = 1;             // 1 to kMaxCpus
  uint64_t memory = 256 * kMiB;  // bytes, a multiple of 4 KiB
  CpuChoice cpu;                 // what CPUID shows
  Mitigations mitigations = Mitigations::kEngine;
  AccelChoice accel = AccelChoice::kAuto;
  // May a running machine move to another engine? Not given: yes under auto, no under "kvm".
  std::optional<bool> accel_move;
  bool accel_cell = true;  // may user code of the guest run in host processes of its own?

  // One of the three is given: what starts.
  std::filesystem::path kernel;            // bzImage, PVH ELF or Multiboot ELF
  std::filesystem::path boot_sector;       // a disk image, or its first sector
  std::filesystem::path firmware;          // a raw ROM image
  KernelEntry entry = KernelEntry::kAuto;  // of a bzImage
  std::filesystem::path initrd;
  std::string append;               // the kernel's command line
  std::vector<ModuleSpec> modules;  // Multiboot only

  std::vector<DiskSpec> disks;
  std::vector<NetSpec> nets;
  std::vector<ShareSpec> shares;
  bool rng = false;  // a virtio entropy device

  std::array<ConsoleSpec, kSerialPorts> serial{
      ConsoleSpec{.kind = ConsoleSpec::Kind::kStdio, .path = {}}, {}, {}, {}};
  std::array<ConsoleSpec, kVirtioConsoles> hvc;  // of the virtio console device
  std::vector<PortSpec> ports;                   // likewise
  ConsoleSpec debug;                             // what is written to ports 0xE9 and 0x402

  bool testdev = false;  // the device of kernel unit tests

  OnReboot on_reboot = OnReboot::kReset;
  OnPanic on_panic = OnPanic::kExit;
  // From the press of the power button (SIGTERM) to the end by force. Zero: at once.
  std::chrono::milliseconds stop_timeout{30'000};
  RunLimits limits;
  // How long an idle guest may at most go unlooked at whether it can ever do anything again, where
  // the engine does not tell. No user's: servers are left alone, `vmm test` is in a hurry.
  std::chrono::milliseconds hang_look{16'000};

  // Where the machine is saved when it is suspended, and found by the next run; empty: nowhere.
  std::filesystem::path suspend_file;
  // The socket of `vmm ctl`; empty: none. One that nobody has asked for need not be there.
  std::filesystem::path control;
  bool control_asked = false;
  // The directory that keeps what the machine and vmm say; empty: none. RunCommand makes it.
  std::filesystem::path logs;
  bool deterministic = false;  // time is the number of instructions
  TraceOptions trace;
  bool statistics = false;  // RunOutcome has them
  bool perf_map = false;
  bool lockstep = false;

  GdbSpec gdb;
  bool gdb_wait = false;  // the first instruction waits for a debugger
  GdbArch gdb_arch = GdbArch::kAuto;
};

}  // namespace vmm
