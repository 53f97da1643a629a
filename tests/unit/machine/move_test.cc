// A running guest that changes its engine: tests/conformance/survivor.cc checks itself meanwhile.
#include <signal.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <thread>

#include "../support/temp_dir.h"
#include "bt/interp/interpreter.h"
#include "tests/support/fake_kvm.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/rescue_watch.h"

namespace vmm::test {
namespace {

using namespace std::chrono_literals;

Result<std::unique_ptr<Accelerator>> Interpreter() {
  return std::make_unique<bt::InterpreterAccelerator>();
}

std::string Read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Next to this program: build/unit_tests. `ninja conformance-survivor` builds it.
std::filesystem::path Survivor() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() /
         "tests/conformance/survivor";
}

TEST_CASE("A hundred moves between two engines at random points go unseen", "[threads]") {
  if (!std::filesystem::exists(Survivor())) {
    WARN("skipped: no " << Survivor() << "; run ninja");
    return;
  }
  const TempDir folder;
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  FakeKvm kvm;
  kvm.open_error = ENOENT;  // so that the other engine is the second one here
  EngineSources engines{kvm, Interpreter, Interpreter};
  Config config;
  config.name = "test";
  config.kernel = Survivor();
  config.memory = 32 * kMiB;
  config.cpus = 2;
  config.accel = AccelChoice::kInterpreter;
  for (ConsoleSpec& console : config.serial) console = {};
  config.serial[0] = {ConsoleSpec::Kind::kFile, folder.path() / "serial0"};
  auto machine = Machine::Create(config, engines);
  REQUIRE(machine);

  const auto printed = [&] { return Read(folder.path() / "serial0"); };
  const auto dots = [&] {
    const std::string text = printed();
    return std::count(text.begin(), text.end(), '.');
  };
  const auto await = [&](auto done) {
    for (unsigned i = 0; i < 3000 && !done(); ++i) std::this_thread::sleep_for(10ms);
    return done();
  };
  bool started = false, went_on = false;
  std::thread admin([&] {
    started = await([&] { return dots() > 0; });
    uint32_t random = 1;
    for (unsigned move = 0; move < 100 && started; ++move) {
      (*machine)->supervisor().Move("the test");
      random = random * 1664525 + 1013904223;
      std::this_thread::sleep_for(std::chrono::microseconds(random >> 18));  // up to 16 ms
    }
    const auto before = dots();
    went_on = await([&] { return dots() > before + 2; });
    (*machine)->supervisor().StopNow("the test");
  });
  const RunOutcome outcome = (*machine)->Run();
  admin.join();
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  CHECK(started);
  CHECK(went_on);
  CHECK(outcome.code == ExitCode::kStopped);
  CHECK_THAT(printed(), !Catch::Matchers::Contains("FAIL"));
}

struct CountedRescuer final : InstructionRescuer {
  Result<Rescue> Finish(unsigned, CpuState&) override { return Rescue::kDone; }
};

TEST_CASE("Too many rescues within a second are told once, few a second never") {
  static std::chrono::steady_clock::time_point now;
  unsigned told = 0;
  RescueWatch watch(std::make_unique<CountedRescuer>(), [&] { ++told; }, [] { return now; });
  CpuState state;
  const auto rescue = [&](unsigned times) {
    for (unsigned i = 0; i < times; ++i) REQUIRE(watch.Finish(0, state));
  };
  for (unsigned second = 0; second < 10; ++second) {
    rescue(RescueWatch::kTooMany - 1);
    now += 1001ms;
  }
  CHECK(told == 0);
  rescue(RescueWatch::kTooMany);
  CHECK(told == 1);
  rescue(500);
  CHECK(told == 1);
  now += 1001ms;
  rescue(RescueWatch::kTooMany);
  CHECK(told == 2);
}

}  // namespace
}  // namespace vmm::test
