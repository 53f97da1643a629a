// Any bytes as what a guest does to a virtio console of three ports, and as what its readers do:
// control messages, output, input, windows, in any order, with resets and saved states in between.
#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "tests/fuzz/virtio_guest.h"
#include "tests/support/fake_char_backend.h"
#include "virtio/virtio_console.h"

namespace {

using namespace vmm;

class Guest final : public VirtioGuest {
 public:
  Guest()
      : VirtioGuest(8),
        console_("console0",
                 {{.name = "", .is_console = true, .backend = &backends_[0]},
                  {.name = "second", .is_console = true, .backend = &backends_[1]},
                  {.name = "stream", .is_console = false, .backend = &backends_[2]}},
                 board_.host(), [] {}),
        pci_(console_, 0x078000, board_.socket()) {
    PciAddressPlan plan;
    CHECK(pci_.AssignResources(plan, 11));
    Begin(pci_);
  }
  ~Guest() { console_.Pause(); }

  void Step(Choices& in) {
    switch (in.Take(1) % 12) {
      case 0: {
        const uint64_t offset = in.Take(1) % 0x38, value = in.Take(8);
        return Write(offset, value, SizeOf(in));
      }
      case 1: {
        const uint64_t offset = in.Take(2) % 0x5000;
        return Read(offset, SizeOf(in));
      }
      case 2:
        return PokeRings(in);
      case 3:
      case 4:
        return Describe(in, 0xF0);
      case 5:
        return Offer(in);
      case 6:
        return Message(in);
      case 7:
        return Kick(in.Take(1) % 9);
      case 8:
        return HostActs(in);
      case 9:
        return console_.Work();
      case 10:
        return Rest(in.Take(1));
      default:
        SetStatus(0);
        return Begin(pci_);
    }
  }

 private:
  // A control message, at a page. [VIRTIO 1.2] 5.3.6.2
  void Message(Choices& in) {
    const uint64_t at = PageAt(in.Take(1));
    board_.Poke(at, in.Take(1), 4);
    board_.Poke(at + 4, in.Take(1), 2);
    board_.Poke(at + 6, in.Take(1), 2);
  }
  void HostActs(Choices& in) {
    FakeCharBackend& backend = backends_[in.Take(1) % backends_.size()];
    const uint64_t how = in.Take(1);
    backend.got.clear();
    backend.room = (how & 1) != 0 ? SIZE_MAX : how;
    backend.shown_on.columns = static_cast<uint16_t>(how);
    if ((how & 2) != 0) backend.Leave();
    if ((how & 4) != 0) backend.NextReader();
    static_cast<void>(backend.Send(std::string(how, 'x')));
  }
  void Rest(uint64_t how) {
    console_.Pause();
    const virtio::VirtioConsoleState state = console_.SaveConsole();
    SaveAndLoad(pci_, how);
    static_cast<void>(console_.LoadConsole(state));
    console_.Resume();
  }

  std::array<FakeCharBackend, 3> backends_;
  virtio::VirtioConsole console_;
  virtio::VirtioPci pci_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Guest guest;
  Choices in(std::span(data, size));
  return RunSteps(guest, in);
}
