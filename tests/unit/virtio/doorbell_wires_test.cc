// Doorbells that an engine may take: they follow the BAR that they are in. [VIRTIO 1.2] 4.1.4.4
#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "tests/support/virtio_board.h"
#include "virtio/virtio_pci.h"
#include "virtio/virtio_rng.h"

namespace virtio {
namespace {

using vmm::DoorbellWires;

struct NotedWires final : DoorbellWires {
  void Wire(const Doorbell& doorbell) override { wired.push_back(doorbell); }
  void Unwire(const Doorbell& doorbell) override { REQUIRE(std::erase(wired, doorbell) == 1); }
  std::vector<Doorbell> wired;
};

constexpr uint64_t kFirst = vmm::VirtioBoard::kRegisters;
constexpr int kBell = 7;

struct Rig {
  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(2 * vmm::kMiB).value());
  vmm::VirtioBoard board{memory};
  NotedWires wires;
  VirtioRng one{"one", VirtioRng::HostRandom, board.host(), [this] { ++rings; }};
  VirtioRng other{"other", VirtioRng::HostRandom, board.host(), [] {}};
  std::unique_ptr<VirtioPci> first = Make(one), second = Make(other);
  vmm::PciAddressPlan plan;
  unsigned rings = 0;

  std::unique_ptr<VirtioPci> Make(VirtioRng& rng) {
    vmm::PciEndpoint::Socket socket = board.socket();
    socket.doorbells = &wires;
    return std::make_unique<VirtioPci>(rng, 0xFF0000, socket);
  }
  static void SetConfig(VirtioPci& function, uint16_t offset, uint32_t value) {
    std::array<uint8_t, 4> bytes{};
    vmm::StoreLittleEndian(bytes, value);
    function.WriteConfig(offset, bytes);
  }
  static DoorbellWires::Doorbell At(uint64_t base, int fd = kBell) {
    return {vmm::GuestPhys(base + VirtioPci::kNotify), 2, fd};
  }
};

using Wired = std::vector<DoorbellWires::Doorbell>;

}  // namespace

TEST_CASE("A doorbell is wired where its BAR is, and nowhere else", "[virtio]") {
  Rig r;
  r.first->SetBell(kBell);
  REQUIRE(r.first->AssignResources(r.plan, 11));
  CHECK(r.wires.wired == Wired{Rig::At(kFirst)});
  Rig::SetConfig(*r.first, vmm::pci::kBar0, 0xD0000000);
  CHECK(r.wires.wired == Wired{Rig::At(0xD0000000)});
  Rig::SetConfig(*r.first, vmm::pci::kCommand, 0);
  CHECK(r.wires.wired.empty());
  Rig::SetConfig(*r.first, vmm::pci::kCommand, 6);
  CHECK(r.wires.wired == Wired{Rig::At(0xD0000000)});
  // Whatever reaches the device rings as well.
  const unsigned before = r.rings;
  r.board.Write(0xD0000000 + VirtioPci::kNotify, 0, 2);
  CHECK(r.rings == before + 1);
  // What was loaded is where the guest had put it.
  const VirtioPciState state = r.first->SaveState();
  r.first->PowerOnReset();
  CHECK(r.wires.wired == Wired{Rig::At(kFirst)});
  REQUIRE(r.first->LoadState(state));
  CHECK(r.wires.wired == Wired{Rig::At(0xD0000000)});
  r.first.reset();
  CHECK(r.wires.wired.empty());
}

TEST_CASE("Of two BARs in one place the doorbells of the first are wired", "[virtio]") {
  Rig r;
  r.first->SetBell(kBell);
  r.second->SetBell(kBell + 1);
  REQUIRE(r.first->AssignResources(r.plan, 11));
  REQUIRE(r.second->AssignResources(r.plan, 11));
  CHECK(r.wires.wired.size() == 2);
  Rig::SetConfig(*r.second, vmm::pci::kBar0, static_cast<uint32_t>(kFirst));
  CHECK(r.wires.wired == Wired{Rig::At(kFirst)});
  Rig::SetConfig(*r.first, vmm::pci::kCommand, 0);
  CHECK(r.wires.wired == Wired{Rig::At(kFirst, kBell + 1)});
}

TEST_CASE("Without a bell no doorbell is wired", "[virtio]") {
  Rig r;
  REQUIRE(r.first->AssignResources(r.plan, 11));
  CHECK(r.wires.wired.empty());
}

}  // namespace virtio
