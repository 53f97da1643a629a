// The devices that the hostile driver is let loose on: one row a kind.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "tests/support/choices.h"
#include "tests/support/good_driver.h"
#include "tests/support/virtio_board.h"
#include "vmm/machine/board_slot.h"

namespace hostile {

using vmm::Await;
using vmm::GoodDriver;

// What a driver asks: bytes that the device reads, and room for what it writes.
struct Request {
  std::vector<uint8_t> out;
  uint32_t in = 0;
};

// A device with its threads, and what is behind it on the host.
class Victim {
 public:
  virtual ~Victim() = default;
  virtual vmm::BoardSlot& slot() = 0;
  // Something that looks like a request for this queue.
  virtual Request Compose(unsigned queue, vmm::Choices& choices) = 0;
  // Something happens on the host: on one thread at a time.
  virtual void Stir(vmm::Choices&) {}
  // As the last act: does the device answer one good request on each queue? Empty: it does.
  virtual std::string IsAlive(GoodDriver& driver) = 0;
};

struct VictimKind {
  std::string_view name;
  std::unique_ptr<Victim> (*make)(vmm::VirtioBoard& board);
};
std::span<const VictimKind> VictimKinds();

std::unique_ptr<Victim> MakeRawDisk(vmm::VirtioBoard& board);
std::unique_ptr<Victim> MakeQcow2Disk(vmm::VirtioBoard& board);
std::unique_ptr<Victim> MakeSlowDisk(vmm::VirtioBoard& board);
std::unique_ptr<Victim> MakeCard(vmm::VirtioBoard& board);
std::unique_ptr<Victim> MakeConsole(vmm::VirtioBoard& board);
std::unique_ptr<Victim> MakeEntropy(vmm::VirtioBoard& board);
std::unique_ptr<Victim> MakeShare(vmm::VirtioBoard& board);

}  // namespace hostile
