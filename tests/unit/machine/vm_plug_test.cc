// What the board tells the engine that is plugged in.
#include "vmm/machine/vm_plug.h"

#include <catch2/catch.hpp>
#include <vector>

namespace vmm {
namespace {

class NotedVm final : public Vm {
 public:
  explicit NotedVm(bool takes_doorbells = true) : takes_doorbells_(takes_doorbells) {}

  Result<std::unique_ptr<Vcpu>> CreateVcpu(unsigned) override { return nullptr; }
  void SendMsi(MsiMessage) override {}
  void ExtIntChanged() override {}
  void InjectNmi(unsigned) override {}
  void IoapicRouteChanged(unsigned, MsiMessage, bool, bool) override {}
  void OnHostWrite(GuestPhys, uint64_t) override {}
  Result<void> AddIoEventFd(bool port, uint64_t address, unsigned size, int fd) override {
    CHECK_FALSE(port);
    if (!takes_doorbells_) return Vm::AddIoEventFd(port, address, size, fd);
    wired.push_back({GuestPhys(address), size, fd});
    return {};
  }
  Result<void> RemoveIoEventFd(bool, uint64_t address, unsigned size, int fd) override {
    std::erase(wired, DoorbellWires::Doorbell{GuestPhys(address), size, fd});
    return {};
  }

  std::vector<DoorbellWires::Doorbell> wired;

 private:
  const bool takes_doorbells_;
};

using Wired = std::vector<DoorbellWires::Doorbell>;
constexpr DoorbellWires::Doorbell kOne{GuestPhys(0xC0003000), 2, 5},
    kTwo{GuestPhys(0xC0013000), 2, 6};

}  // namespace

TEST_CASE("Doorbells go with the machine from one engine to the next", "[machine]") {
  NotedVm kvm, translator(/*takes_doorbells=*/false);
  VmPlug plug;
  plug.Wire(kOne);  // before there is an engine
  plug.Set(&kvm);
  CHECK(kvm.wired == Wired{kOne});
  plug.Wire(kTwo);
  CHECK(kvm.wired == Wired{kOne, kTwo});
  plug.Set(&translator);
  CHECK(kvm.wired.empty());
  CHECK(translator.wired.empty());
  plug.Unwire(kOne);  // its BAR is moved meanwhile
  plug.Set(&kvm);
  CHECK(kvm.wired == Wired{kTwo});
  plug.Unwire(kTwo);
  CHECK(kvm.wired.empty());
  plug.Wire(kTwo);
  plug.Set(nullptr);
  CHECK(kvm.wired.empty());
}

}  // namespace vmm
