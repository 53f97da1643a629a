// A driver that does whatever none may: to registers, configuration space, rings and chains, at any
// time. [VIRTIO 1.2] 2.7, 4.1
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <string_view>
#include <vector>

#include "tests/hostile/victim.h"
#include "tests/support/choices.h"
#include "tests/support/good_driver.h"
#include "tests/support/virtio_board.h"
#include "vmm/core/pci/pci_host_bridge.h"

namespace hostile {

// What all processors share.
struct Scene {
  Scene(vmm::VirtioBoard& on, Victim& whom, GoodDriver& begins, vmm::PciSlot where)
      : board(on), victim(whom), good(begins), place(where) {}

  vmm::VirtioBoard& board;
  Victim& victim;
  GoodDriver& good;  // for beginnings
  vmm::PciSlot place;
  std::shared_mutex running;  // shared: a processor of the guest; alone: the machine itself
  std::mutex host;            // the I/O thread
  std::atomic<uint64_t> starts{0}, broken{0}, chains{0}, returned{0}, rests{0}, loads{0};
};

// One a processor.
class HostileDriver {
 public:
  HostileDriver(Scene& scene, uint64_t seed);

  // One operation of those below. The name of it is good for ever.
  void Act();
  std::string_view last() const { return last_; }

 private:
  struct Operation {
    std::string_view name;
    unsigned weight;
    void (HostileDriver::*act)();
    bool is_the_machines = false;  // no processor runs meanwhile
  };
  static const Operation kOperations[];
  const Operation& Choose();

  // --- Registers. ---
  void CommonRegister();
  void AnyRegister();
  void DeviceRegister();
  void SetUpQueue();
  void RewriteFeatures();
  void WriteStatus();
  void Notify();
  void Messages();
  // --- Configuration space. ---
  void ConfigSpace();
  void SwitchCommand();
  void MoveBar();
  void Window();
  // --- Rings and chains (hostile_rings.cc). ---
  void OfferChain();
  void BreakIndex();
  void PokeRings();
  void ChangeBuffers();
  // --- All of it. ---
  void Begin();
  void HostActs();
  void Rest();
  void PowerOn();

  // A piece of a chain.
  struct Piece {
    uint64_t address;
    uint32_t length;
    bool writable;
  };
  std::vector<Piece> LayOut(const Request& request);
  uint64_t PlaceFor(uint64_t length);
  void Describe(uint64_t table, unsigned index, const Piece& piece, uint16_t flags, uint16_t next);
  void Spoil(uint64_t table, unsigned first, size_t count, unsigned entries);
  void Offer(unsigned queue, uint16_t head);
  void Ring(unsigned queue);
  void LetItWork(unsigned queue);
  uint16_t UsedIndex(unsigned queue) const;

  unsigned SomeQueue() { return static_cast<unsigned>(choices_.Below(queues_.size())); }
  // Where something may be, and mostly may not.
  uint64_t SomeAddress();
  uint64_t SomeValue();
  unsigned SomeSize() { return 1u << choices_.Below(4); }
  uint64_t BaseOf(unsigned bar);
  uint32_t Config(unsigned offset);
  void SetConfig(unsigned offset, uint32_t value, size_t size);
  unsigned FindCapability(unsigned kind, unsigned type);
  void Field(virtio::pci::Common field, uint64_t value, size_t size) {
    scene_.board.Write(BaseOf(0) + static_cast<uint64_t>(field), value, size);
  }

  Scene& scene_;
  virtio::VirtioPci& function_;
  vmm::Choices choices_;
  std::string_view last_;
  std::vector<virtio::SplitQueue::Layout> queues_;  // as they were last set up
  unsigned msix_ = 0, window_ = 0;                  // capabilities
  unsigned total_weight_ = 0;
};

}  // namespace hostile
