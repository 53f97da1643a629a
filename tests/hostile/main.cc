// The hostile driver against each virtio device, and then: does the device live?
//
//   hostile_driver [--device NAME|all] [--operations N] [--seed N] [--processors N]
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "tests/hostile/hostile_driver.h"
#include "tests/hostile/victim.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"
#include "vmm/core/pci/i440fx.h"
#include "vmm/core/pci/piix3_isa.h"
#include "vmm/core/pci/piix4_pm.h"

#ifdef __has_feature  // clang, which our sanitizers come with
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER_ALLOCATOR
#endif
#endif
#ifdef HAS_SANITIZER_ALLOCATOR
#include <sanitizer/allocator_interface.h>
#endif

// ThreadSanitizer's: the guest may have two requests in the same bytes, or a request in its rings,
// whose copies race as its own stores would. These touch nothing but guest RAM and files.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:virtio::ChainBuffers::\n"
         "race:LoadDescriptor\n"
         "race:virtio::SplitQueue::Return\n"
         "race:FillZero\n"
         "race:memory_file.h\n"
         "race:vmm::HostFile::\n"
         "race:^Offer$\n"
         "race:^UsedIndex$\n"
         "race:hostile::HostileDriver::UsedIndex\n";
}

namespace {

using namespace hostile;

constexpr uint64_t kRam = 4 * vmm::kMiB, kRom = 64 * vmm::kKiB;
constexpr uint64_t kMostHeap = 160 * vmm::kMiB;  // bytes that may be in use at any time
constexpr unsigned kMostSeconds = 60;            // of one operation, on a host that has much to do
constexpr uint64_t kBetweenLooks = 256;          // operations

struct Arguments {
  std::string device = "all";
  uint64_t operations = 20'000, seed = 1, processors = 1;
};

// What a watchdog has to say.
std::string running;

void OnAlarm(int) {
  static constexpr char kText[] = "hostile_driver: an operation does not end: ";
  static_cast<void>(!write(STDERR_FILENO, kText, sizeof kText - 1));
  static_cast<void>(!write(STDERR_FILENO, running.data(), running.size()));
  std::abort();
}

uint64_t HeapInUse() {
#ifdef HAS_SANITIZER_ALLOCATOR
  return __sanitizer_get_current_allocated_bytes();
#else
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
#endif
}

void ReadNumber(const char* text, uint64_t& value) {
  const char* end = text + std::strlen(text);
  if (std::from_chars(text, end, value).ptr != end) {
    std::fprintf(stderr, "hostile_driver: %s is no number\n", text);
    std::exit(64);
  }
}

Arguments ReadArguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--device") arguments.device = argv[i + 1];
    if (name == "--operations") ReadNumber(argv[i + 1], arguments.operations);
    if (name == "--seed") ReadNumber(argv[i + 1], arguments.seed);
    if (name == "--processors") ReadNumber(argv[i + 1], arguments.processors);
  }
  return arguments;
}

// The rest of the board, whose configuration space is written too.
struct Chipset {
  explicit Chipset(vmm::VirtioBoard& board) {
    CHECK(bridge.Add({0, 0}, host) && bridge.Add({1, 0}, isa) && bridge.Add({1, 3}, power));
    CHECK(board.ports().Attach(vmm::PciHostBridge::kPort, vmm::PciHostBridge::kSize, bridge));
  }
  vmm::PciHostBridge bridge{nullptr};
  vmm::I440Fx host;
  vmm::Piix3Isa isa;
  vmm::Piix4Pm power{[](vmm::Piix4Pm::Block, vmm::Piix4Pm::Placement) {}};
};

void Attack(Scene& scene, const Arguments& arguments, uint64_t processor) {
  HostileDriver driver(scene, arguments.seed * 64 + processor);
  for (uint64_t done = 0; done < arguments.operations / arguments.processors; ++done) {
    if (done % kBetweenLooks == 0) {
      if (processor == 0) alarm(kMostSeconds);
      CHECK(HeapInUse() < kMostHeap);
    }
    driver.Act();
  }
}

bool Run(const VictimKind& kind, const Arguments& arguments) {
  running = fmt::format("{}, seed {}\n", kind.name, arguments.seed);
  const auto memory = std::move(vmm::GuestMemory::Create(kRam, kRom).value());
  std::memset(memory.rom()->host, 0x5A, kRom);
  vmm::VirtioBoard board(memory);
  const std::unique_ptr<Victim> victim = kind.make(board);
  Chipset chipset(board);
  vmm::PciAddressPlan plan;
  CHECK(victim->slot().function().AssignResources(plan, 11));
  CHECK(chipset.bridge.Add(victim->slot().place(), victim->slot().function()));
  GoodDriver good(board, victim->slot().function());
  Scene scene(board, *victim, good, victim->slot().place());
  {
    std::vector<std::jthread> others;
    for (uint64_t processor = 1; processor < arguments.processors; ++processor) {
      others.emplace_back([&, processor] { Attack(scene, arguments, processor); });
    }
    Attack(scene, arguments, 0);
  }
  alarm(10 * kMostSeconds);
  const std::string dead = victim->IsAlive(good);
  alarm(0);
  for (uint64_t i = 0; i < kRom; ++i) CHECK(memory.rom()->host[i] == 0x5A);
  fmt::print(
      "{}: {} operations, {} beginnings ({} after the device was broken), {} chains of which {} "
      "came back, {} interrupts, {} rests ({} with a changed state), {}\n",
      kind.name, arguments.operations, scene.starts.load(), scene.broken.load(),
      scene.chains.load(), scene.returned.load(), board.interrupts(), scene.rests.load(),
      scene.loads.load(), dead.empty() ? "it lives" : dead);
  std::fflush(stdout);
  return dead.empty();
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = ReadArguments(argc, argv);
  vmm::SetLogLevel(vmm::LogLevel::kError);
  std::signal(SIGALRM, OnAlarm);
  unsigned count = 0, failed = 0;
  for (const VictimKind& kind : VictimKinds()) {
    if (arguments.device != "all" && arguments.device != kind.name) continue;
    ++count;
    if (!Run(kind, arguments)) ++failed;
  }
  if (count == 0) std::fprintf(stderr, "hostile_driver: no such device\n");
  return count == 0 || failed != 0 ? 1 : 0;
}
