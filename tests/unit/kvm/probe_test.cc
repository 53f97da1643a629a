// The probe, and what "auto" and "kvm" make of it.
#include "vmm/probe/probe.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "kvm/background_close.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_kvm.h"
#include "tests/unit/core/irq_fakes.h"
#include "vmm/probe/engine_choice.h"

namespace vmm::test {
namespace {

using Catch::Matchers::Contains;
using probe::Stage;

struct ProbeFixture {
  ~ProbeFixture() { kvm::WaitForBackground(); }
  FakeKvm host;
};

TEST_CASE_METHOD(ProbeFixture, "a good KVM is taken", "[probe]") {
  const ProbeResult result = RunProbe(host);
  CHECK(result.verdict == KvmVerdict::kGood);
  CHECK(result.engine == "kvm");
  CHECK(result.kvm.present);
  CHECK(result.kvm.nested_paging);
  CHECK(result.kvm.speed_ratio > 0.3);
  CHECK(result.kvm.missing.empty());
  CHECK_THAT(result.reason, Contains("% of native speed"));
  CHECK(result.remedy.empty());
}

TEST_CASE_METHOD(ProbeFixture, "the probe leaves no memory and no state behind", "[probe]") {
  const ProbedKvm probed = ProbeKvm(host, {.cpu_count = 1});
  CHECK(host.slots.empty());
  CHECK(host.vcpu(0).regs.rip == 0);
  CHECK(host.vcpu(0).sregs.cr0 == 0);
  CHECK(host.vcpu(0).immediate_exits > 0);  // the last port access was completed first
}

TEST_CASE_METHOD(ProbeFixture, "nothing stays open after vmm probe", "[probe]") {
  RunProbe(host);
  kvm::WaitForBackground();
  CHECK(host.open_fds == 0);
}

TEST_CASE_METHOD(ProbeFixture, "KVM without nested paging is used and the switch is named",
                 "[probe]") {
  host.facts.nested_paging = false;
  const ProbeResult result = RunProbe(host);
  CHECK(result.engine == "kvm");
  CHECK_THAT(result.reason, Contains("without nested paging"));
  CHECK_THAT(result.remedy, Contains("ept=1"));
}

TEST_CASE_METHOD(ProbeFixture, "a slow KVM is measured and left alone", "[probe]") {
  host.guest_slowness = 40;
  host.facts.backend = "kvm_pvm";
  const ProbeResult result = RunProbe(host);
  CHECK(result.verdict == KvmVerdict::kSlow);
  CHECK(result.engine == "bt");
  CHECK(result.kvm.speed_ratio > 0);
  CHECK(result.kvm.speed_ratio < 0.1);
  CHECK_THAT(result.reason, Contains("slow") && Contains("kvm_pvm") && Contains("1/"));
  CHECK_THAT(result.remedy, Contains("--accel kvm"));
}

TEST_CASE_METHOD(ProbeFixture, "instructions that fail are named", "[probe]") {
  host.failing_stages = {Stage::kCmpxchg16b, Stage::kInt3};
  const ProbeResult result = RunProbe(host);
  CHECK(result.verdict == KvmVerdict::kLacks);
  CHECK(result.engine == "bt");
  CHECK(result.kvm.missing == std::vector<std::string>{"cmpxchg16b", "int3"});
  CHECK_THAT(result.reason, Contains("cmpxchg16b, int3"));
}

TEST_CASE_METHOD(ProbeFixture, "a KVM that never comes back is given up in time", "[probe]") {
  host.hanging_stages = {Stage::kLoop, Stage::kHalt, Stage::kInt3};
  const ProbeResult result = RunProbe(host);
  CHECK(result.engine == "bt");
  CHECK(result.kvm.present);
  CHECK(!result.kvm.missing.empty());
  CHECK(result.wall_ms < 1000);  // a KVM that sleeps for ever: 200 ms and what a busy host adds
}

TEST_CASE_METHOD(ProbeFixture, "a KVM that does not take its state back is not used", "[probe]") {
  host.Refuse(KVM_SET_LAPIC, EINVAL);
  const ProbeResult result = RunProbe(host);
  CHECK(result.verdict == KvmVerdict::kUnusable);
  CHECK_THAT(result.reason, Contains("KVM_SET_LAPIC"));
}

struct RefusalCase {
  const char* name;
  int open_error, create_error;
  int lacks;
  KvmVerdict verdict;
};

TEST_CASE_METHOD(ProbeFixture, "each refusal of the host has its verdict", "[probe]") {
  const auto refusal = GENERATE(values<RefusalCase>({
      {"missing", ENOENT, 0, 0, KvmVerdict::kMissing},
      {"dead", ENODEV, 0, 0, KvmVerdict::kMissing},
      {"unreadable", EACCES, 0, 0, KvmVerdict::kNoAccess},
      {"busy", 0, EBUSY, 0, KvmVerdict::kBusy},
      {"no memory", 0, ENOMEM, 0, KvmVerdict::kUnusable},
      {"too old", 0, 0, KVM_CAP_SPLIT_IRQCHIP, KvmVerdict::kUnusable},
  }));
  CAPTURE(refusal.name);
  host.open_error = refusal.open_error;
  if (refusal.create_error != 0) host.Refuse(KVM_CREATE_VM, refusal.create_error);
  if (refusal.lacks != 0) host.SetCapability(refusal.lacks, 0);
  const ProbeResult result = RunProbe(host);
  CHECK(result.verdict == refusal.verdict);
  CHECK(result.engine == "bt");
  CHECK(!result.kvm.present);
  CHECK(!result.reason.empty());
  kvm::WaitForBackground();
  CHECK(host.open_fds == 0);
}

TEST_CASE_METHOD(ProbeFixture, "the JSON form has every field of the design", "[probe]") {
  host.guest_slowness = 40;
  host.failing_stages = {Stage::kInt3};
  const auto json = nlohmann::json::parse(ToJson(RunProbe(host)));
  CHECK(json.at("engine") == "bt");
  CHECK(json.at("reason").get<std::string>().find("slow") != std::string::npos);
  CHECK(json.at("cpu_ms").get<double>() > 0);
  CHECK(json.at("kvm").at("present") == true);
  CHECK(json.at("kvm").at("nested_paging") == true);
  CHECK(json.at("kvm").at("speed_ratio").get<double>() < 0.1);
  CHECK(json.at("kvm").at("missing") == nlohmann::json::array({"int3"}));
}

TEST_CASE_METHOD(ProbeFixture, "the text form says engine, reason and remedy", "[probe]") {
  host.open_error = EACCES;
  host.facts.user_in_group = host.facts.group_active = false;
  const std::string text = ToText(RunProbe(host));
  CHECK_THAT(text, Contains("engine:        bt\n"));
  CHECK_THAT(text, Contains("alice is not in group kvm"));
  CHECK_THAT(text, Contains("usermod"));
  CHECK_THAT(text, Contains("not usable"));
}

// --- The choice. ---

class NamedAccelerator final : public Accelerator {
 public:
  explicit NamedAccelerator(std::string name) : name_(std::move(name)) {}
  std::string_view name() const override { return name_; }
  Result<std::unique_ptr<Vm>> CreateVm(const VmParts&) override {
    return Fail(ExitCode::kInternal, "no VM in this test");
  }

 private:
  std::string name_;
};

auto Factory(const char* name) {
  return [name]() -> Result<std::unique_ptr<Accelerator>> {
    return std::make_unique<NamedAccelerator>(name);
  };
}

struct ChoiceFixture : ProbeFixture {
  EngineSources sources{host, Factory("interpreter"), {}};
  CpuidOptions options{.cpu_count = 2, .tsc_hz = 2'000'000'000};
  Result<EngineChoice> Choose(AccelChoice choice) { return ChooseEngine(choice, options, sources); }
};

TEST_CASE_METHOD(ChoiceFixture, "auto takes a good KVM, and its measured VM", "[probe]") {
  auto choice = Choose(AccelChoice::kAuto);
  REQUIRE(choice);
  CHECK(choice->accelerator->name() == "kvm");
  CHECK_THAT(choice->reason, Contains("engine: kvm: KVM runs guest code at"));
  const int fds = host.open_fds;
  GuestMemory memory = *GuestMemory::Create(2 * kMiB);
  Bus ports{0x10000}, mmio{uint64_t{1} << 40};
  FakeClock clock;
  FakeTimers timers{clock};
  FakePic pic;
  FakeEoiListener ioapic;
  const auto vm = choice->accelerator->CreateVm(
      {memory, ports, mmio, clock, timers, pic, ioapic, choice->cpuid, 2});
  REQUIRE(vm);
  CHECK(host.open_fds == fds);  // no second VM
}

TEST_CASE_METHOD(ChoiceFixture, "auto falls back, says why and what would change it", "[probe]") {
  host.Refuse(KVM_CREATE_VM, EBUSY);
  host.facts.vmx_holders = {"vboxdrv"};
  const auto choice = Choose(AccelChoice::kAuto);
  REQUIRE(choice);
  CHECK(choice->accelerator->name() == "interpreter");
  CHECK_THAT(choice->reason, Contains("engine: interpreter: KVM is busy: VirtualBox"));
  CHECK_THAT(choice->reason, Contains("to change that: "));
  CHECK(choice->probe->verdict == KvmVerdict::kBusy);
}

TEST_CASE_METHOD(ChoiceFixture, "auto prefers the translator where there is one", "[probe]") {
  sources.bt = Factory("bt");
  host.open_error = ENOENT;
  CHECK(Choose(AccelChoice::kAuto)->accelerator->name() == "bt");
}

TEST_CASE_METHOD(ChoiceFixture, "auto never starts on a slow KVM", "[probe]") {
  host.guest_slowness = 40;
  CHECK(Choose(AccelChoice::kAuto)->accelerator->name() == "interpreter");
}

TEST_CASE_METHOD(ChoiceFixture, "kvm is required: without a VM the start fails with the reason",
                 "[probe]") {
  host.open_error = EACCES;
  host.facts.user_in_group = host.facts.group_active = false;
  const auto choice = Choose(AccelChoice::kKvm);
  REQUIRE(!choice);
  CHECK(choice.error().code == ExitCode::kEngineUnavailable);
  CHECK_THAT(choice.error().message, Contains("not in group kvm"));
}

TEST_CASE_METHOD(ChoiceFixture, "kvm on a slow host is used, with a warning", "[probe]") {
  host.guest_slowness = 40;
  const auto choice = Choose(AccelChoice::kKvm);
  REQUIRE(choice);
  CHECK(choice->accelerator->name() == "kvm");
  CHECK_THAT(choice->warning, Contains("slow"));
}

TEST_CASE_METHOD(ChoiceFixture, "kvm on a good host gives no warning", "[probe]") {
  CHECK(Choose(AccelChoice::kKvm)->warning.empty());
}

TEST_CASE_METHOD(ChoiceFixture, "the interpreter is chosen without a look at KVM", "[probe]") {
  const auto choice = Choose(AccelChoice::kInterpreter);
  REQUIRE(choice);
  CHECK(choice->accelerator->name() == "interpreter");
  CHECK(!choice->probe);
}

TEST_CASE_METHOD(ChoiceFixture, "an engine that is not in the build is unavailable", "[probe]") {
  const auto choice = Choose(AccelChoice::kBt);
  REQUIRE(!choice);
  CHECK(choice.error().code == ExitCode::kEngineUnavailable);
}

}  // namespace
}  // namespace vmm::test
