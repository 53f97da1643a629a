// Disks: on a file of the host, in qcow2 format, and one whose requests take long, with more
// queues.
#include <chrono>
#include <filesystem>
#include <thread>

#include "tests/hostile/victim.h"
#include "tests/support/memory_file.h"
#include "virtio/virtio_blk_regs.h"
#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"
#include "vmm/core/block/host_file.h"
#include "vmm/core/block/qcow2_create.h"
#include "vmm/core/block/qcow2_image.h"
#include "vmm/core/block/raw_image.h"
#include "vmm/machine/board_disks.h"

namespace hostile {
namespace {

using virtio::blk::Type;
using vmm::Choices;

constexpr uint64_t kBytes = vmm::kMiB, kSectors = kBytes / virtio::blk::kSector;
constexpr uint32_t kBlock = 4096;
constexpr uint64_t kMostFile = 64 * vmm::kMiB;

// Now and then a transfer takes its time, so that the driver does something else meanwhile.
class SlowFile final : public vmm::BlockFile {
 public:
  int Read(uint64_t offset, std::span<const iovec> to) override {
    Dawdle();
    return file_.Read(offset, to);
  }
  int Write(uint64_t offset, std::span<const iovec> from) override {
    Dawdle();
    return file_.Write(offset, from);
  }
  int Sync() override {
    Dawdle();
    return 0;
  }
  int Resize(uint64_t bytes) override { return file_.Resize(bytes); }
  int Zero(uint64_t offset, uint64_t length, bool unmap) override {
    return file_.Zero(offset, length, unmap);
  }
  int Reserve(uint64_t offset, uint64_t length) override { return file_.Reserve(offset, length); }
  uint64_t size() const override { return file_.size(); }
  uint64_t allocated() const override { return file_.allocated(); }
  const std::string& name() const override { return file_.name(); }

 private:
  void Dawdle() {
    if (calls_.fetch_add(1) % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
  }

  std::atomic<uint64_t> calls_{0};
  vmm::MemoryFile file_{std::vector<uint8_t>(kBytes), kBytes};
};

class DiskVictim final : public Victim {
 public:
  DiskVictim(vmm::VirtioBoard& board, std::unique_ptr<vmm::BlockImage> image, unsigned queues)
      : disk_(std::move(image), {.queues = queues, .limits = {}}),
        slot_(vmm::BoardSlot::kFirstDisk, 0,
              {.disk = &disk_, .queues = queues, .serial = "hostile", .read_only = false},
              board.host(), board.socket()) {}

  vmm::BoardSlot& slot() override { return slot_; }

  Request Compose(unsigned, Choices& choices) override {
    static constexpr std::array kTypes{Type::IN,      Type::OUT,          Type::IN,
                                       Type::OUT,     Type::FLUSH,        Type::GET_ID,
                                       Type::DISCARD, Type::WRITE_ZEROES, static_cast<Type>(77)};
    const Type type = choices.OneOf(kTypes);
    const uint64_t sector = choices.OneIn(16) ? choices.Take(8) : choices.Below(kSectors);
    const auto bytes = static_cast<uint32_t>(512 * choices.Below(choices.OneIn(8) ? 300 : 9));
    Request request{Header(type, sector), 1};
    if (type == Type::OUT) request.out.resize(request.out.size() + bytes, 0xA5);
    if (type == Type::IN) request.in += bytes;
    if (type == Type::GET_ID) request.in += 20;
    if (type == Type::DISCARD || type == Type::WRITE_ZEROES) {
      const size_t at = request.out.size();
      request.out.resize(at + virtio::blk::kSegmentSize);
      const std::span segment = std::span(request.out).subspan(at);
      vmm::StoreLittleEndian(segment.first(8), sector);
      vmm::StoreLittleEndian(segment.subspan(8, 4), choices.OneIn(16) ? choices.Take(4) : bytes);
      vmm::StoreLittleEndian(segment.subspan(12, 4), choices.Below(3));
    }
    return request;
  }

  // What is written is read again.
  std::string IsAlive(GoodDriver& driver) override {
    constexpr uint64_t kHeader = GoodDriver::kBuffers, kResult = kHeader + 0x100,
                       kData = kHeader + 0x1000;
    if (!driver.Begin(virtio::kAllRingFeatures)) return "it does not begin";
    const auto ask = [&](unsigned queue, Type type, uint64_t sector) {
      const bool reads = type == Type::IN, writes = type == Type::OUT;
      driver.Put(kHeader, Header(type, sector));
      driver.Put(kResult, std::array<uint8_t, 1>{0xEE});
      std::vector<GoodDriver::Buffer> buffers{{kHeader, virtio::blk::kHeaderSize, false}};
      if (reads || writes) buffers.push_back({kData, kBlock, reads});
      buffers.push_back({kResult, 1, true});
      const auto written = driver.Ask(queue, buffers);
      return written == (reads ? kBlock + 1 : 1) && driver.Take(kResult, 1)[0] == 0;
    };
    for (unsigned queue = 0; queue < slot_.function().device().queue_count(); ++queue) {
      const std::vector<uint8_t> data(kBlock, static_cast<uint8_t>(0x51 + queue));
      if (!ask(queue, Type::FLUSH, 0)) return "it does not flush";
      driver.Put(kData, data);
      if (!ask(queue, Type::OUT, 8 * queue)) return "it does not write";
      driver.Put(kData, std::vector<uint8_t>(kBlock));
      if (!ask(queue, Type::IN, 8 * queue)) return "it does not read";
      if (driver.Take(kData, kBlock) != data) return "it reads what was not written";
    }
    return {};
  }

 private:
  static std::vector<uint8_t> Header(Type type, uint64_t sector) {
    std::vector<uint8_t> header(virtio::blk::kHeaderSize);
    vmm::StoreLittleEndian(std::span(header).first(4), static_cast<uint64_t>(type));
    vmm::StoreLittleEndian(std::span(header).subspan(8, 8), sector);
    return header;
  }

  vmm::Disk disk_;
  vmm::DiskSlot slot_;
};

}  // namespace

std::unique_ptr<Victim> MakeRawDisk(vmm::VirtioBoard& board) {
  auto file = vmm::HostFile::Temporary(std::filesystem::temp_directory_path());
  CHECK(file && (*file)->Resize(kBytes) == 0);
  auto image = std::make_unique<vmm::RawImage>(std::move(*file), false, false);
  return std::make_unique<DiskVictim>(board, std::move(image), 1);
}

std::unique_ptr<Victim> MakeQcow2Disk(vmm::VirtioBoard& board) {
  auto file = std::make_unique<vmm::MemoryFile>(std::vector<uint8_t>(), kMostFile);
  vmm::Qcow2Header empty;
  empty.size = kBytes;
  empty.cluster_bits = 12;
  CHECK(vmm::CreateQcow2(*file, empty) == 0);
  const auto header = vmm::Qcow2Image::ReadHeader(*file);
  CHECK(header);
  auto image = vmm::Qcow2Image::Open(std::move(file), *header, nullptr, true);
  CHECK(image);
  return std::make_unique<DiskVictim>(board, std::move(*image), 1);
}

std::unique_ptr<Victim> MakeSlowDisk(vmm::VirtioBoard& board) {
  auto image = std::make_unique<vmm::RawImage>(std::make_unique<SlowFile>(), false, false);
  return std::make_unique<DiskVictim>(board, std::move(image), 4);
}

}  // namespace hostile
