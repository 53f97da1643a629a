#include "vmm/machine/machine.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "../boot/kernel_images.h"
#include "fake_accelerator.h"

namespace vmm::test {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kEntry = 0x100000;

// A folder with a Multiboot kernel, a config for it, and the signal mask as it was.
struct Host {
  std::filesystem::path folder;
  Config config;
  sigset_t mask;

  Host() {
    std::string name = std::filesystem::temp_directory_path() / "vmm-machine-XXXXXX";
    folder = mkdtemp(name.data());
    boot_test::Bytes image = boot_test::MultibootHeader(0);
    image.resize(64, 0xF4);
    image = boot_test::Elf32(kEntry + 12, {{kEntry, image}});
    std::ofstream(folder / "kernel", std::ios::binary)
        .write(reinterpret_cast<const char*>(image.data()), static_cast<long>(image.size()));
    config.name = "test";
    config.kernel = folder / "kernel";
    config.memory = 4 * kMiB;
    config.accel = AccelChoice::kInterpreter;
    for (ConsoleSpec& console : config.serial) console = {};
    config.serial[0] = {ConsoleSpec::Kind::kFile, folder / "serial0"};
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  }
  ~Host() {
    pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    std::filesystem::remove_all(folder);
  }

  FakeVm* vm = nullptr;
  std::unique_ptr<Machine> Make(GuestStep step) {
    EngineSources engines{kvm::Kvm(),
                          [this, step]() -> Result<std::unique_ptr<Accelerator>> {
                            return std::make_unique<FakeAccelerator>(step, &vm);
                          },
                          {}};
    auto machine = Machine::Create(config, engines);
    REQUIRE(machine);
    return std::move(*machine);
  }
  RunOutcome Run(GuestStep step) { return Make(std::move(step))->Run(); }
  std::string Printed(unsigned line = 0) const {
    std::ifstream file(folder / ("serial" + std::to_string(line)), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

std::optional<RunResult> Sleep(FakeGuest& guest) {
  guest.cpu().SleepUntilKicked();
  return {};
}

TEST_CASE("A machine loads its kernel, starts CPU 0 at its entry and ends as the guest says",
          "[threads]") {
  Host host;
  host.config.cpus = 2;
  uint64_t rip = 0;
  std::array<uint8_t, 4> code{};
  const RunOutcome outcome = host.Run([&](FakeGuest& guest) -> std::optional<RunResult> {
    if (guest.cpu().id() == 1) return Sleep(guest);
    rip = guest.cpu().cpu_state().rip;
    guest.memory().Read(GuestPhys(rip), code);
    guest.Print("hello\n");
    guest.Out(0xF4, 3);
    return {};
  });
  CHECK(rip == kEntry + 12);
  CHECK(code[0] == 0xF4);
  CHECK(static_cast<int>(outcome.code) == 80);
  CHECK(outcome.guest_value == 3);
  CHECK(outcome.engine == "interpreter");
  CHECK_FALSE(outcome.engine_reason.empty());
  CHECK(outcome.console_tail == std::vector<std::string>{"hello"});
  CHECK(host.Printed() == "hello\n");
}

TEST_CASE("S5, and each of the reset registers, do what they do on a PC", "[threads]") {
  Host host;
  host.config.on_reboot = OnReboot::kExit;
  const auto code_of = [&](std::vector<std::pair<uint16_t, uint32_t>> writes, size_t size = 1) {
    return static_cast<int>(host.Run([&](FakeGuest& guest) -> std::optional<RunResult> {
                                  for (const auto& [port, value] : writes) {
                                    guest.Out(port, value, size);
                                  }
                                  return Sleep(guest);
                                })
                                .code);
  };
  CHECK(code_of({{0x604, 0x2000}}, 2) == 0);  // PM1_CNT: SLP_EN, SLP_TYP of S5
  CHECK(code_of({{0xCF9, 0x02}, {0xCF9, 0x06}}) == 86);
  CHECK(code_of({{0x92, 0x01}}) == 86);
  CHECK(code_of({{0x64, 0xFE}}) == 86);
  CHECK(code_of({{0x505, 0x01}}) == 81);
}

TEST_CASE("A reset brings devices, kernel and processors back to power-on", "[threads]") {
  Host host;
  host.config.cpus = 2;
  std::atomic<unsigned> boots{0};
  bool fresh = true;
  const RunOutcome outcome = host.Run([&](FakeGuest& guest) -> std::optional<RunResult> {
    if (guest.cpu().id() == 1) return Sleep(guest);
    fresh &= guest.In(0x3FF) == 0 && guest.cpu().cpu_state().rip == kEntry + 12;
    uint8_t code = 0;
    guest.memory().Read(GuestPhys(kEntry + 12), {&code, 1});
    fresh &= code == 0xF4;
    if (++boots == 3) {
      guest.Out(0xF4, 0);
      return {};
    }
    guest.Out(0x3FF, 0x5A);  // SCR of the UART
    guest.memory().Write(GuestPhys(kEntry + 12), std::array<uint8_t, 1>{0xCC});
    guest.cpu().cpu_state().rip = 0;
    guest.Out(0xCF9, 2);
    guest.Out(0xCF9, 6);
    return {};
  });
  CHECK(static_cast<int>(outcome.code) == 0);
  CHECK(boots == 3);
  CHECK(fresh);
}

TEST_CASE("After a reset the engine knows that RAM was written, and the other CPUs wait for SIPI",
          "[threads]") {
  Host host;
  host.config.cpus = 2;
  host.config.limits.wall = 10s;
  std::atomic<unsigned> boots{0};
  auto machine = host.Make([&](FakeGuest& guest) -> std::optional<RunResult> {
    if (guest.cpu().id() == 1) return Sleep(guest);
    if (++boots == 2) {
      guest.Out(0xF4, 0);
    } else {
      guest.Out(0x92, 1);
    }
    return {};
  });
  CHECK(static_cast<int>(machine->Run().code) == 0);
  CHECK(host.vm->host_written >= host.config.memory);
  CHECK(host.vm->cpus[1]->cpu_state().activity == Activity::kWaitForSipi);
  CHECK(host.vm->route_changes > 0);
}

TEST_CASE("SIGTERM reaches the guest as the ACPI power button", "[threads]") {
  Host host;
  bool asked = false;
  const RunOutcome outcome = host.Run([&](FakeGuest& guest) -> std::optional<RunResult> {
    if (!std::exchange(asked, true)) {
      guest.Out(0xB2, 0xF1);  // ACPI on
      kill(getpid(), SIGTERM);
    }
    std::this_thread::yield();
    // PM1_STS.PWRBTN_STS [ACPI] 4.8.3.1.1
    if (guest.In(0x600, 2) & 0x100) guest.Out(0x604, 0x2000, 2);
    return {};
  });
  CHECK(static_cast<int>(outcome.code) == 0);
}

TEST_CASE("A machine that never ran is described and taken down", "[threads]") {
  Host host;
  host.config.cpus = 4;
  const auto machine = host.Make(Sleep);
  const MachineDescription description = machine->Describe();
  CHECK(description.name == "test");
  CHECK(description.cpus == 4);
  CHECK(description.tsc_hz > 0);
  uint64_t ram = 0;
  for (const auto& memory : description.memory) {
    if (memory.kind == MachineDescription::Memory::Kind::kRam) ram += memory.size;
  }
  CHECK(ram > 3 * kMiB);
  CHECK(ram <= 4 * kMiB);
  const auto find = [&](std::string_view name) {
    for (const auto& device : description.devices) {
      if (device.name == name) return device;
    }
    return MachineDescription::DeviceEntry{};
  };
  REQUIRE(find("serial0").ports.size() == 1);
  CHECK(find("serial0").ports[0].start == 0x3F8);
  CHECK(find("serial0").irqs == std::vector<Gsi>{Gsi(4)});
  CHECK(find("serial3").ports[0].start == 0x2E8);
  CHECK(find("acpi-pm").irqs == std::vector<Gsi>{Gsi(9)});
  CHECK(find("pic").ports.size() == 3);
  REQUIRE(find("ioapic").mmio.size() == 1);
  CHECK(find("ioapic").mmio[0].start == 0xFEC00000);
  REQUIRE(description.pci.size() == 3);
  CHECK(description.pci[0].vendor_id == 0x8086);
  CHECK(description.pci[0].device_id == 0x1237);
  CHECK(description.pci[0].class_code == 0x060000);
}

TEST_CASE("The guest may move the PM block, and a place that is taken harms nobody", "[threads]") {
  Host host;
  uint32_t moved = 0, old = 0, serial = 0;
  host.Run([&](FakeGuest& guest) -> std::optional<RunResult> {
    const auto pm_base = [&](uint32_t base) {
      guest.Out(0xCF8, 0x80000B40, 4);  // 00:01.3, PMBA
      guest.Out(0xCFC, base | 1, 4);
    };
    pm_base(0x4000);
    guest.Out(0x4002, 0x100, 2);
    moved = guest.In(0x4002, 2);
    old = guest.In(0x602, 2);
    pm_base(0x3C0);  // over serial2 and serial0
    serial = guest.In(0x3FD);
    guest.Out(0xF4, 0);
    return {};
  });
  CHECK(moved == 0x100);
  CHECK(old == 0xFFFF);
  CHECK(serial == 0x60);
}

TEST_CASE("What can't be made is an error with a code, and leaves nothing behind") {
  Host host;
  EngineSources engines{kvm::Kvm(),
                        []() -> Result<std::unique_ptr<Accelerator>> {
                          return Fail(ExitCode::kEngineUnavailable, "not today");
                        },
                        {}};
  const auto no_engine = Machine::Create(host.config, engines);
  REQUIRE_FALSE(no_engine);
  CHECK(no_engine.error().code == ExitCode::kEngineUnavailable);

  FakeVm* vm = nullptr;
  engines.interpreter = [&]() -> Result<std::unique_ptr<Accelerator>> {
    return std::make_unique<FakeAccelerator>(Sleep, &vm);
  };
  host.config.kernel = host.folder / "missing";
  const auto no_kernel = Machine::Create(host.config, engines);
  REQUIRE_FALSE(no_kernel);
  CHECK(no_kernel.error().code == ExitCode::kFileMissing);
  CHECK(no_kernel.error().message.find("missing") != std::string::npos);

  host.config.serial[1] = {ConsoleSpec::Kind::kUnix, host.folder / "socket"};
  host.config.serial[2] = {ConsoleSpec::Kind::kFile, host.folder / "none" / "file"};
  const auto no_console = Machine::Create(host.config, engines);
  REQUIRE_FALSE(no_console);
  CHECK(no_console.error().message.find("serial2") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(host.folder / "socket"));
}

}  // namespace
}  // namespace vmm::test
