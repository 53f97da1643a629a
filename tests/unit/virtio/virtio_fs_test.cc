// The file system device, as a driver uses it and as none may.
#include "virtio/virtio_fs.h"

#include <linux/fuse.h>

#include <array>
#include <thread>

#include "tests/unit/share/share_rig.h"
#include "tests/unit/support/fakes.h"
#include "tests/unit/virtio/blk_rig.h"
#include "tests/unit/virtio/ring_driver.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/base/bytes.h"
#include "vmm/core/host/work_crew.h"

namespace virtio {
namespace {

struct FsRig {
  static constexpr uint64_t kRam = 4 << 20, kRegisters = 0xC0000000;
  static constexpr uint64_t kInAt = 0x100000, kOutAt = 0x200000;
  static constexpr uint16_t kEntries = 64;

  explicit FsRig(unsigned queues = 2, std::string tag = "files")
      : fs("share0", *share.server, {.tag = std::move(tag), .request_queues = queues},
           {memory, writes}, [this] { ++rings; }),
        function(fs, 0x018000, {decoder, pin, messages}) {
    vmm::PciAddressPlan plan;
    REQUIRE(function.AssignResources(plan, 11));
    const std::array<uint8_t, 2> command{6, 0};
    function.WriteConfig(vmm::pci::kCommand, command);
    Start();
  }
  ~FsRig() { fs.Pause(); }

  void Set(pci::Common field, uint64_t value, size_t size) {
    std::array<uint8_t, 8> data{};
    vmm::StoreLittleEndian(data, value);
    mmio.Write(kRegisters + static_cast<uint64_t>(field),
               std::span<const uint8_t>(data).first(size));
  }
  uint64_t Read(uint64_t address, size_t size) {
    std::array<uint8_t, 8> data{};
    mmio.Read(address, std::span(data).first(size));
    return vmm::LoadLittleEndian(std::span(data).first(size));
  }
  unsigned status() { return static_cast<unsigned>(Read(kRegisters + 0x14, 1)); }

  void Start() {  // 3.1.1
    for (const unsigned step : {0u, 1u, 3u}) Set(pci::Common::device_status, step, 1);
    for (const uint32_t half : {0u, 1u}) {
      Set(pci::Common::driver_feature_select, half, 4);
      Set(pci::Common::driver_feature, static_cast<uint32_t>(kAllRingFeatures >> (32 * half)), 4);
    }
    Set(pci::Common::device_status, 0xB, 1);
    drivers.clear();
    for (unsigned i = 0; i < fs.queue_count(); ++i) {
      drivers.emplace_back(memory, 0x10000 + 0x10000 * i, kEntries);
      const SplitQueue::Layout& layout = drivers[i].layout();
      std::memset(memory.Ram(layout.descriptors, 0x10000), 0, 0x10000);
      Set(pci::Common::queue_select, i, 2);
      Set(pci::Common::queue_size, kEntries, 2);
      Set(pci::Common::queue_desc, layout.descriptors.value, 8);
      Set(pci::Common::queue_driver, layout.driver.value, 8);
      Set(pci::Common::queue_device, layout.device.value, 8);
      Set(pci::Common::queue_enable, 1, 2);
    }
    Set(pci::Common::device_status, 0xF, 1);
    REQUIRE(status() == 0xF);
    fs.Work();
  }

  // Offers a request in `slot` of queue `queue`, in several buffers.
  template <class... Arguments>
  void Offer(unsigned queue, unsigned slot, uint32_t opcode, uint64_t node, uint32_t room,
             const Arguments&... arguments) {
    std::vector<uint8_t> body;
    (vmm::FuseClient::Append(body, arguments), ...);
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof header + body.size());
    header.opcode = opcode;
    header.nodeid = node;
    header.unique = 100 + slot;
    const uint64_t in = kInAt + 0x1000 * slot, out = kOutAt + 0x1000 * slot;
    drivers[queue].Set(in, header);
    if (!body.empty()) {
      std::memcpy(memory.Ram(vmm::GuestPhys(in + sizeof header), body.size()), body.data(),
                  body.size());
    }
    std::vector<RingDriver::Buffer> buffers = {{in, sizeof header, false}};
    if (!body.empty()) {
      buffers.push_back({in + sizeof header, static_cast<uint32_t>(body.size()), false});
    }
    if (room != 0) {
      buffers.push_back({out, 10, true});  // cut where no structure ends
      buffers.push_back({out + 10, room - 10, true});
    }
    drivers[queue].Offer(drivers[queue].Chain(static_cast<uint16_t>(slot * 4), buffers));
    Kick(queue);
  }
  void Kick(unsigned queue) {
    const std::array<uint8_t, 2> number{static_cast<uint8_t>(queue), 0};
    mmio.Write(kRegisters + VirtioPci::kNotify + queue * VirtioPci::kNotifyMultiplier, number);
  }
  fuse_out_header Answer(unsigned slot) {
    return drivers[0].Get<fuse_out_header>(kOutAt + 0x1000 * slot);
  }
  void Init() {
    fuse_init_in in{};
    in.major = 7;
    in.minor = 38;
    Offer(1, 0, FUSE_INIT, 0, 200, in);
    fs.Work();
    REQUIRE(Answer(0).error == 0);
  }

  vmm::ShareRig share;
  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(kRam).value());
  NotedWrites writes;
  vmm::Bus ports{0x10000}, mmio{uint64_t{1} << 52};
  vmm::PciDecoder decoder{ports, mmio};
  fakes::FakeIrqLine pin;
  NotedMessages messages;
  std::atomic<unsigned> rings = 0;
  VirtioFs fs;
  VirtioPci function;
  std::vector<RingDriver> drivers;
};

}  // namespace

TEST_CASE("The device tells its tag and its queues", "[virtio][fs]") {  // [VIRTIO 1.2] 5.11.4
  FsRig r(3, std::string(35, 'a') + ".");
  CHECK(r.fs.type() == 26);
  CHECK(r.fs.queue_count() == 4);
  const uint64_t config = FsRig::kRegisters + VirtioPci::kDevice;
  CHECK(r.Read(config, 1) == 'a');
  CHECK(r.Read(config + 35, 1) == '.');
  CHECK(r.Read(config + 36, 4) == 3);
  CHECK(r.Read(config + 40, 4) == 0);
  FsRig shorter;
  CHECK(shorter.Read(config + 5, 8) == 0);
}

TEST_CASE("A request is served, and no vCPU waits for it", "[virtio][fs]") {  // 5.11.6
  FsRig r;
  const unsigned before = r.rings;
  fuse_init_in in{};
  in.major = 7;
  in.minor = 38;
  r.Offer(1, 0, FUSE_INIT, 0, 200, in);
  CHECK(r.rings == before + 1);
  CHECK(r.drivers[1].used_index() == 0);
  r.fs.Work();
  REQUIRE(r.drivers[1].used_index() == 1);
  const auto used = r.drivers[1].Used(0);
  CHECK(used.first == 0);
  CHECK(used.second == sizeof(fuse_out_header) + sizeof(fuse_init_out));
  CHECK(r.Answer(0).unique == 100);
  CHECK(r.Answer(0).len == used.second);
  CHECK(r.writes.Covers(FsRig::kOutAt, 10));
  CHECK(r.writes.Covers(FsRig::kOutAt + 10, 6));
  CHECK(r.writes.Covers(FsRig::kOutAt + 16, sizeof(fuse_init_out)));
  CHECK(r.status() == 0xF);
}

TEST_CASE("File data goes between file and guest memory", "[virtio][fs]") {
  FsRig r;
  r.Init();
  vmm::ShareRig::Put(r.share.root / "a", "hello");
  const uint64_t node = vmm::FuseClient(*r.share.server).Node(1, "a");
  fuse_open_in open{};
  open.flags = O_RDWR;
  r.Offer(1, 1, FUSE_OPEN, node, 100, open);
  r.fs.Work();
  const auto handle =
      r.drivers[1].Get<fuse_open_out>(FsRig::kOutAt + 0x1000 + sizeof(fuse_out_header)).fh;
  fuse_read_in read{};
  read.fh = handle;
  read.size = 100;
  r.Offer(2, 2, FUSE_READ, node, 116, read);
  r.fs.Work();
  CHECK(r.drivers[2].Used(0).second == sizeof(fuse_out_header) + 5);
  CHECK(r.drivers[2].Get<char>(FsRig::kOutAt + 0x2000 + 16) == 'h');
  CHECK(r.writes.Covers(FsRig::kOutAt + 0x2000 + 16, 5));
  fuse_write_in write{};
  write.fh = handle;
  write.offset = 5;
  write.size = 3;
  r.Offer(1, 3, FUSE_WRITE, node, 100, write, std::vector<uint8_t>{'a', 'b', 'c'});
  r.fs.Work();
  CHECK(vmm::ShareRig::Get(r.share.root / "a") == "helloabc");
}

TEST_CASE("FORGET comes by the queue that is urgent, without room for an answer",
          "[virtio][fs]") {  // 5.11.6.2
  FsRig r;
  r.Init();
  vmm::ShareRig::Put(r.share.root / "a", "");
  vmm::FuseClient client(*r.share.server);
  const uint64_t node = client.Node(1, "a");
  r.Offer(0, 1, FUSE_FORGET, node, 0, fuse_forget_in{1});
  r.fs.Work();
  CHECK(r.drivers[0].used_index() == 1);
  CHECK(r.drivers[0].Used(0).second == 0);
  CHECK(client.GetAttr(node).error == ESTALE);
  CHECK(r.status() == 0xF);
}

TEST_CASE("What is no request makes the device need a reset", "[virtio][fs]") {  // 2.1.2
  for (const bool headless : {true, false}) {
    FsRig r;
    r.Init();
    if (headless) {
      r.drivers[1].Offer(
          r.drivers[1].Chain(8, {{FsRig::kInAt, 39, false}, {FsRig::kOutAt, 99, true}}));
      r.Kick(1);
    } else {
      r.Offer(1, 2, FUSE_GETATTR, 1, 15, fuse_getattr_in{});
    }
    r.fs.Work();
    CHECK((r.status() & 0x40) != 0);
    CHECK(r.drivers[1].used_index() == 1);
    r.Start();
    r.Init();
    CHECK(r.status() == 0xF);
  }
}

TEST_CASE("A broken ring makes the device need a reset", "[virtio][fs]") {
  FsRig r;
  r.Init();
  r.drivers[1].SetIndex(4711);
  r.Kick(1);
  r.fs.Work();
  CHECK((r.status() & 0x40) != 0);
}

TEST_CASE("A driver that begins anew finds nothing of the one before", "[virtio][fs]") {
  FsRig r;
  r.Init();
  vmm::ShareRig::Put(r.share.root / "a", "");
  vmm::FuseClient client(*r.share.server);
  const uint64_t node = client.Node(1, "a");
  CHECK(client.GetAttr(node).error == 0);
  r.Start();
  CHECK(client.GetAttr(1).error == EIO);  // no session at all
  r.Init();
  CHECK(client.GetAttr(node).error == ESTALE);
}

TEST_CASE("Paused, the device begins nothing and has nothing under way", "[virtio][fs]") {
  FsRig r;
  r.Init();
  r.fs.Pause();
  r.Offer(1, 1, FUSE_GETATTR, 1, 200, fuse_getattr_in{});
  r.fs.Work();
  CHECK(r.drivers[1].used_index() == 1);
  const VirtioPciState saved = r.function.SaveState();
  CHECK(r.function.LoadState(saved));
  CHECK(r.function.SaveState() == saved);
  r.fs.Resume();
  r.fs.Work();
  CHECK(r.drivers[1].used_index() == 2);
  CHECK(r.Answer(1).error == 0);
}

TEST_CASE("A saved device is one with the same tag and queues", "[virtio][fs]") {
  FsRig r, other(2, "other"), more(3);
  const VirtioFsState state = r.fs.SaveFs();
  CHECK(r.fs.LoadFs(state));
  CHECK_FALSE(other.fs.LoadFs(state));
  CHECK_FALSE(more.fs.LoadFs(state));
}

TEST_CASE("Requests are served side by side, each once, and a pause waits for them",
          "[virtio][fs]") {
  FsRig r;
  r.Init();
  vmm::ShareRig::Put(r.share.root / "a", "hello");
  std::vector<std::thread> threads;
  constexpr unsigned kRequests = 12;
  for (unsigned i = 1; i <= kRequests; ++i) {
    r.Offer(1 + i % 2, i, FUSE_LOOKUP, 1, 300, std::string_view("a"));
  }
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { r.fs.Work(); });
  for (std::thread& thread : threads) thread.join();
  r.fs.Pause();
  CHECK(r.drivers[1].used_index() + r.drivers[2].used_index() == kRequests + 1);
  for (unsigned i = 1; i <= kRequests; ++i) {
    CHECK(r.Answer(i).unique == 100 + i);
    CHECK(r.Answer(i).error == 0);
  }
  r.fs.Resume();
}

TEST_CASE("A crew does what was rung for, and ends", "[host]") {
  std::atomic<unsigned> wanted = 0, done = 0;
  {
    vmm::WorkCrew crew("crew", 3, [&] {
      while (true) {
        unsigned left = wanted.load();
        if (left == 0) return;
        if (wanted.compare_exchange_strong(left, left - 1)) ++done;
      }
    });
    for (int i = 0; i < 10000; ++i) {
      ++wanted;
      crew.Ring();
    }
    while (done != 10000) std::this_thread::yield();
  }
  CHECK(done == 10000);
}

}  // namespace virtio
