// A virtio disk in a PCI slot, with a driver's view of its registers and queues.
#pragma once

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/support/memory_file.h"
#include "tests/unit/support/fakes.h"
#include "tests/unit/virtio/ring_driver.h"
#include "virtio/virtio_blk.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/base/bytes.h"
#include "vmm/core/block/raw_image.h"

namespace virtio {

using pci::Common;

// Requests wait at its gate while it is closed.
class GatedFile final : public vmm::BlockFile {
 public:
  explicit GatedFile(uint64_t bytes) : file_(std::vector<uint8_t>(bytes)) {}

  void Close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    closed_ = false;
    changed_.notify_all();
  }
  void AwaitWaiting(unsigned count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }
  vmm::MemoryFile& file() { return file_; }
  std::atomic<int> error{0};
  std::atomic<int> zeroed{0};
  std::atomic<unsigned> writes{0};

  int Read(uint64_t offset, std::span<const iovec> to) override {
    Pass();
    return error != 0 ? error.load() : file_.Read(offset, to);
  }
  int Write(uint64_t offset, std::span<const iovec> from) override {
    Pass();
    ++writes;
    return error != 0 ? error.load() : file_.Write(offset, from);
  }
  int Sync() override {
    Pass();
    return error != 0 ? error.load() : file_.Sync();
  }
  int Resize(uint64_t bytes) override { return file_.Resize(bytes); }
  int Zero(uint64_t offset, uint64_t length, bool unmap) override {
    Pass();
    ++zeroed;
    return file_.Zero(offset, length, unmap);
  }
  int Reserve(uint64_t offset, uint64_t length) override { return file_.Reserve(offset, length); }
  uint64_t size() const override { return file_.size(); }
  uint64_t allocated() const override { return file_.allocated(); }
  const std::string& name() const override { return file_.name(); }

 private:
  void Pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !closed_; });
    --waiting_;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  unsigned waiting_ = 0;
  vmm::MemoryFile file_;
};

class NotedMessages final : public vmm::MsiSink {
 public:
  void SendMsi(vmm::MsiMessage message) override {
    const std::lock_guard lock(mutex_);
    sent_.push_back(message.data);
  }
  std::vector<uint32_t> Take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(sent_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<uint32_t> sent_;
};

struct BlkRig {
  static constexpr uint64_t kRam = 4 << 20;
  static constexpr uint64_t kDiskBytes = 1 << 20;
  static constexpr uint64_t kRegisters = 0xC0000000, kTables = 0xC0004000;
  static constexpr unsigned kMemory = 2, kMaster = 4;

  explicit BlkRig(VirtioBlk::Options options = {.queues = 2, .serial = "serial-1"})
      : file(new GatedFile(kDiskBytes)),
        disk(std::make_unique<vmm::RawImage>(std::unique_ptr<vmm::BlockFile>(file),
                                             options.read_only, false),
             {.queues = options.queues, .use_uring = false, .limits = {}}),
        blk("disk0", disk, options, {memory, writes}, [this] { ++rings; }),
        function(blk, 0x010000, {decoder, pin, messages}) {
    vmm::PciAddressPlan plan;
    REQUIRE(function.AssignResources(plan, 11));
    SetConfig(vmm::pci::kCommand, kMemory | kMaster, 2);
    for (unsigned i = 0; i < options.queues; ++i) {
      drivers.emplace_back(memory, 0x10000 + 0x10000 * i, uint16_t{16});
    }
  }
  ~BlkRig() {
    file->Open();
    blk.Pause();
  }

  // --- Registers. ---
  uint64_t Get(Common field, size_t size) {
    return Read(kRegisters + static_cast<uint64_t>(field), size);
  }
  void Set(Common field, uint64_t value, size_t size) {
    Write(kRegisters + static_cast<uint64_t>(field), value, size);
  }
  uint64_t Read(uint64_t address, size_t size) {
    std::array<uint8_t, 8> data{};
    mmio.Read(address, std::span(data).first(size));
    return vmm::LoadLittleEndian(std::span(data).first(size));
  }
  void Write(uint64_t address, uint64_t value, size_t size) {
    std::array<uint8_t, 8> data{};
    vmm::StoreLittleEndian(std::span(data).first(size), value);
    mmio.Write(address, std::span<const uint8_t>(data).first(size));
  }
  uint64_t GetConfig(unsigned offset, size_t size) {
    std::array<uint8_t, 4> data{};
    function.ReadConfig(static_cast<uint16_t>(offset), std::span(data).first(size));
    return vmm::LoadLittleEndian(std::span(data).first(size));
  }
  void SetConfig(unsigned offset, uint64_t value, size_t size) {
    std::array<uint8_t, 4> data{};
    vmm::StoreLittleEndian(std::span(data).first(size), value);
    function.WriteConfig(static_cast<uint16_t>(offset), std::span<const uint8_t>(data).first(size));
  }
  uint8_t status() { return static_cast<uint8_t>(Get(Common::device_status, 1)); }
  void SetStatus(unsigned value) { Set(Common::device_status, value, 1); }
  void Accept(uint64_t features) {
    for (const uint32_t half : {0u, 1u}) {
      Set(Common::driver_feature_select, half, 4);
      Set(Common::driver_feature, static_cast<uint32_t>(features >> (32 * half)), 4);
    }
  }
  uint64_t Offered() {
    uint64_t features = 0;
    for (const uint32_t half : {0u, 1u}) {
      Set(Common::device_feature_select, half, 4);
      features |= Get(Common::device_feature, 4) << (32 * half);
    }
    return features;
  }
  void SetUpQueue(unsigned queue, const SplitQueue::Layout& layout) {
    Set(Common::queue_select, queue, 2);
    Set(Common::queue_size, layout.size, 2);
    for (const auto& [field, address] : {std::pair{Common::queue_desc, layout.descriptors},
                                         {Common::queue_driver, layout.driver},
                                         {Common::queue_device, layout.device}}) {
      Set(field, static_cast<uint32_t>(address.value), 4);
      Write(kRegisters + static_cast<uint64_t>(field) + 4, address.value >> 32, 4);
    }
    Set(Common::queue_enable, 1, 2);
  }
  void EnableMessages() {
    for (unsigned vector = 0; vector <= drivers.size(); ++vector) {
      Write(kTables + 16 * vector, 0xFEE00000, 8);
      Write(kTables + 16 * vector + 8, 0x40 + vector, 4);
      Write(kTables + 16 * vector + 12, 0, 4);
    }
    SetConfig(FindMsix() + 2, 0x8000, 2);
    Set(Common::config_msix_vector, 0, 2);
    for (unsigned queue = 0; queue < drivers.size(); ++queue) {
      Set(Common::queue_select, queue, 2);
      Set(Common::queue_msix_vector, queue + 1, 2);
    }
  }
  unsigned FindMsix() {
    unsigned at = static_cast<unsigned>(GetConfig(vmm::pci::kCapabilities, 1));
    while (at != 0 && GetConfig(at, 1) != 0x11) at = static_cast<unsigned>(GetConfig(at + 1, 1));
    return at;
  }
  // As a driver begins. 3.1.1
  void Start(uint64_t features = kAllRingFeatures, bool with_messages = false) {
    SetStatus(0);
    REQUIRE(status() == 0);
    SetStatus(1);
    SetStatus(3);
    Accept(features);
    SetStatus(0xB);
    REQUIRE(status() == 0xB);
    if (with_messages) EnableMessages();
    for (unsigned i = 0; i < drivers.size(); ++i) {
      memory_clear(drivers[i].layout());
      drivers[i] = RingDriver(memory, 0x10000 + 0x10000 * i, uint16_t{16});
      SetUpQueue(i, drivers[i].layout());
    }
    SetStatus(0xF);
    REQUIRE(status() == 0xF);
    blk.Work();
  }
  void memory_clear(const SplitQueue::Layout& layout) {
    std::memset(memory.Ram(layout.descriptors, 0x10000), 0, 0x10000);
  }

  // --- Requests. ---
  static constexpr uint64_t kHeader = 0x100000, kData = 0x110000, kResult = 0x108000;
  void PutHeader(uint32_t type, uint64_t sector, uint64_t at = kHeader) {
    const RingDriver& driver = drivers[0];
    driver.Set<uint32_t>(at, type);
    driver.Set<uint32_t>(at + 4, 0);
    driver.Set<uint64_t>(at + 8, sector);
    driver.Set<uint8_t>(kResult, 0xEE);
  }
  void Kick(unsigned queue = 0) {
    Write(kRegisters + VirtioPci::kNotify + VirtioPci::kNotifyMultiplier * queue, queue, 2);
  }
  // Offers a chain, and waits for its end. What the device said: its result and `written`.
  struct Answer {
    int result;
    uint32_t written;
    friend bool operator==(const Answer&, const Answer&) = default;
  };
  Answer Do(const std::vector<RingDriver::Buffer>& buffers, unsigned queue = 0) {
    RingDriver& driver = drivers[queue];
    const uint16_t before = driver.used_index();
    driver.Offer(driver.Chain(0, buffers));
    Kick(queue);
    blk.Work();
    disk.Drain();
    if (driver.used_index() == before) return {-1, 0};
    CHECK(driver.used_index() == static_cast<uint16_t>(before + 1));
    return {driver.Get<uint8_t>(kResult), driver.Used(before).second};
  }
  Answer Ask(uint32_t type, uint64_t sector, uint32_t bytes, bool to_device, unsigned queue = 0) {
    PutHeader(type, sector);
    return Do({{kHeader, 16, false}, {kData, bytes, !to_device}, {kResult, 1, true}}, queue);
  }

  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(kRam).value());
  NotedWrites writes;
  vmm::Bus ports{0x10000}, mmio{uint64_t{1} << 52};
  vmm::PciDecoder decoder{ports, mmio};
  fakes::FakeIrqLine pin;
  NotedMessages messages;
  std::atomic<unsigned> rings{0};
  GatedFile* file;  // the disk's
  vmm::Disk disk;
  VirtioBlk blk;
  VirtioPci function;
  std::vector<RingDriver> drivers;
};

}  // namespace virtio
