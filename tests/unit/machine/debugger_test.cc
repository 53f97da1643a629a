// A debugger on a whole machine, the engine of which takes its steps from a script. [GDB] E.2
#include "vmm/machine/debugger.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>

#include "../boot/kernel_images.h"
#include "fake_accelerator.h"
#include "tests/unit/support/temp_dir.h"
#include "vmm/core/host/unique_fd.h"
#include "vmm/machine/machine.h"

namespace vmm::test {
namespace {

constexpr uint64_t kLoad = 0x100000, kEntry = kLoad + 12;

// GDB's side of the wire.
class Client {
 public:
  explicit Client(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    fd_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM, 0));
    for (unsigned tries = 0; tries < 1000; ++tries) {
      connected_ = connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
      if (connected_) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  bool connected() const { return connected_; }
  void Send(const std::string& text) {
    const auto sum = std::accumulate(text.begin(), text.end(), 0u,
                                     [](unsigned all, char c) { return all + uint8_t(c); });
    Raw(fmt::format("${}#{:02x}", text, sum & 0xff));
  }
  void Raw(const std::string& text) {
    [[maybe_unused]] const ssize_t sent = send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }
  // The next packet; "(end)" when the other side has closed, "(nothing)" after ten seconds.
  std::string Hear() {
    for (;;) {
      const size_t start = heard_.find('$'), end = heard_.find('#', start);
      if (start != std::string::npos && end != std::string::npos && heard_.size() >= end + 3) {
        const std::string packet = Expanded(heard_.substr(start + 1, end - start - 1));
        heard_.erase(0, end + 3);
        Raw("+");
        return packet;
      }
      pollfd ready{fd_.get(), POLLIN, 0};
      if (poll(&ready, 1, 10'000) != 1) return "(nothing)";
      char text[4096];
      const ssize_t count = recv(fd_.get(), text, sizeof text, 0);
      if (count <= 0) return "(end)";
      heard_.append(text, static_cast<size_t>(count));
    }
  }
  std::string Ask(const std::string& text) {
    Send(text);
    return Hear();
  }
  // EIP of the current thread: the ninth of the registers of i386.
  uint64_t Eip() {
    const std::string registers = Ask("g");
    UNSCOPED_INFO(registers);
    uint32_t eip = 0;
    for (unsigned i = 0; i < 4 && registers.size() >= 72; ++i)
      eip |= std::stoul(registers.substr(64 + 2 * i, 2), nullptr, 16) << 8 * i;
    return eip;
  }
  // Run-length encoding undone. [GDB] E.1
  static std::string Expanded(const std::string& packet) {
    std::string text;
    for (size_t i = 0; i < packet.size(); ++i) {
      if (packet[i] == '*' && !text.empty() && i + 1 < packet.size())
        text.append(static_cast<size_t>(packet[++i] - 29), text.back());
      else
        text += packet[i];
    }
    return text;
  }
  void Leave() { fd_.Reset(); }

 private:
  UniqueFd fd_;
  bool connected_ = false;
  std::string heard_;
};

// A guest of one-byte instructions that ends with a verdict of 5 at `end_`, once it may.
class Guest {
 public:
  Guest() {
    boot_test::Bytes image = boot_test::MultibootHeader(0);
    image.resize(64, 0x90);
    image = boot_test::Elf32(kEntry, {{kLoad, image}});
    std::ofstream(directory_.path() / "kernel", std::ios::binary)
        .write(reinterpret_cast<const char*>(image.data()), static_cast<long>(image.size()));
    config_.name = "test";
    config_.kernel = directory_.path() / "kernel";
    config_.memory = 4 * kMiB;
    config_.accel = AccelChoice::kInterpreter;
    for (ConsoleSpec& console : config_.serial) console = {};
    config_.gdb = {
        .kind = GdbSpec::Kind::kUnix, .host = {}, .port = 0, .path = directory_.path() / "gdb"};
    config_.gdb_wait = true;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask_);
    EngineSources engines{kvm::Kvm(),
                          [this]() -> Result<std::unique_ptr<Accelerator>> {
                            return std::make_unique<FakeAccelerator>(
                                [this](FakeGuest& guest) { return Step(guest); }, &vm);
                          },
                          {}};
    auto machine = Machine::Create(config_, engines);
    REQUIRE(machine);
    machine_ = std::move(*machine);
    runs_ = std::thread([this] { outcome_ = machine_->Run(); });
  }
  ~Guest() {
    may_end = true;
    if (runs_.joinable()) runs_.join();
    machine_.reset();
    pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }
  Client Connect() { return Client(directory_.path() / "gdb"); }
  RunOutcome Ended() {
    runs_.join();
    return outcome_;
  }

  FakeVm* vm = nullptr;
  std::atomic<bool> may_end{false}, dies{false};

 private:
  std::optional<RunResult> Step(FakeGuest& guest) {
    FakeVcpu& cpu = guest.cpu();
    uint64_t& rip = cpu.cpu_state().rip;
    if (dies) return RunResult{RunExit::kShutdown, ""};
    for (const DebugPoint& point : vm->points) {
      if (point.address.value == rip && passed_ != rip) {
        passed_ = rip;
        return RunResult{RunExit::kDebug, "", {DebugStop::Reason::kPoint, point}};
      }
    }
    passed_ = 0;
    if (rip < kEntry + 20) {
      ++rip;
    } else if (may_end) {
      guest.Out(0xF4, 5);
      return {};
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (cpu.debug_step() == DebugStep::kOff) return {};
    return RunResult{RunExit::kDebug, "", {DebugStop::Reason::kStep, {}}};
  }

  TempDir directory_;
  Config config_;
  sigset_t mask_;
  uint64_t passed_ = 0;  // the point that was met last
  std::unique_ptr<Machine> machine_;
  RunOutcome outcome_;
  std::thread runs_;
};

std::string At(uint64_t address) {
  return fmt::format("{:x}", address);
}

TEST_CASE("A guest that waits for its debugger executes nothing before it", "[gdb][threads]") {
  Guest guest;
  Client client = guest.Connect();
  REQUIRE(client.connected());
  CHECK(client.Ask("?").starts_with("T"));
  CHECK(client.Eip() == kEntry);
  SECTION("and steps by one instruction") {
    CHECK(client.Ask("s").starts_with("T05"));
    CHECK(client.Eip() == kEntry + 1);
    CHECK(client.Ask("s").starts_with("T05"));
    CHECK(client.Eip() == kEntry + 2);
  }
  SECTION("and steps through a range until it is left") {
    CHECK(client.Ask(fmt::format("vCont;r{},{}:1", At(kEntry), At(kEntry + 6))).starts_with("T05"));
    CHECK(client.Eip() == kEntry + 6);
  }
  client.Send("k");
  guest.Ended();
}

TEST_CASE("A breakpoint stops the guest, and is in memory only while it runs", "[gdb][threads]") {
  Guest guest;
  Client client = guest.Connect();
  REQUIRE(client.connected());
  CHECK(client.Ask(fmt::format("Z0,{},1", At(kEntry + 3))) == "OK");
  CHECK(client.Ask("c").starts_with("T05"));
  CHECK(client.Eip() == kEntry + 3);
  CHECK(guest.vm->points.size() == 1);
  CHECK(client.Ask(fmt::format("m{},2", At(kEntry))) == "9090");
  CHECK(guest.vm->points.empty());
  SECTION("it is in again when the guest goes on") {
    CHECK(client.Ask(fmt::format("Z0,{},1", At(kEntry + 7))) == "OK");
    CHECK(client.Ask("c").starts_with("T05"));
    CHECK(client.Eip() == kEntry + 7);
    CHECK(guest.vm->points.size() == 2);
  }
  SECTION("one that was taken away stops nobody") {
    CHECK(client.Ask(fmt::format("z0,{},1", At(kEntry + 3))) == "OK");
    client.Send("c");
    client.Raw("\x03");
    CHECK(client.Hear().starts_with("T02"));
    CHECK(guest.vm->points.empty());
  }
  SECTION("one that the engine refuses leaves the others") {
    guest.vm->most_points = 1;
    CHECK(client.Ask(fmt::format("Z0,{},1", At(kEntry + 9))).starts_with("E"));
    CHECK(client.Ask("s").starts_with("T05"));
    REQUIRE(guest.vm->points.size() == 1);
    CHECK(guest.vm->points[0].address.value == kEntry + 3);
  }
  client.Send("k");
  guest.Ended();
}

TEST_CASE("What a debugger writes to memory the engine hears of", "[gdb][threads]") {
  Guest guest;
  Client client = guest.Connect();
  REQUIRE(client.connected());
  const uint64_t before = guest.vm->host_written;
  CHECK(client.Ask(fmt::format("M{},3:010203", At(kEntry + 30))) == "OK");
  CHECK(client.Ask(fmt::format("m{},4", At(kEntry + 30))) == "01020390");
  CHECK(guest.vm->host_written == before + 3);
  CHECK(client.Ask("mfffff000,4").starts_with("E"));
  client.Send("k");
  guest.Ended();
}

TEST_CASE("A debugger interrupts a guest that runs, and lets it go", "[gdb][threads]") {
  Guest guest;
  Client client = guest.Connect();
  REQUIRE(client.connected());
  CHECK(client.Ask(fmt::format("Z0,{},1", At(kEntry + 25))) == "OK");
  client.Send("c");
  client.Raw("\x03");
  CHECK(client.Hear().starts_with("T02"));
  guest.may_end = true;
  SECTION("by saying so") {
    CHECK(client.Ask("D") == "OK");
  }
  SECTION("by hanging up") {
    client.Leave();
  }
  const RunOutcome outcome = guest.Ended();
  CHECK(static_cast<int>(outcome.code) == 80);
  CHECK(outcome.guest_value == 5);
}

TEST_CASE("A debugger ends the run", "[gdb][threads]") {
  Guest guest;
  Client client = guest.Connect();
  REQUIRE(client.connected());
  client.Send("k");
  CHECK(guest.Ended().guest_value != 5);
}

TEST_CASE("A debugger looks at a triple fault before it ends the run", "[gdb][threads]") {
  Guest guest;
  Client client = guest.Connect();
  REQUIRE(client.connected());
  guest.dies = true;
  CHECK(client.Ask("c").starts_with("T06"));
  CHECK(client.Eip() == kEntry);
  CHECK(client.Ask("c").starts_with("W"));
  CHECK(static_cast<int>(guest.Ended().code) == 82);
}

}  // namespace
}  // namespace vmm::test
