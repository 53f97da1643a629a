// Every virtio device is saved with requests under way, waiting in its rings and held up by the
// host, and goes on in another machine on the same RAM: each request ends exactly once.
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/socket.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "tests/support/good_driver.h"
#include "tests/support/terminal.h"
#include "tests/support/virtio_board.h"
#include "tests/unit/virtio/blk_rig.h"
#include "virtio/virtio_fs_regs.h"
#include "virtio/virtio_net_regs.h"
#include "virtio/virtio_rng.h"
#include "vmm/core/net/stream_backend.h"
#include "vmm/core/share/share_server.h"
#include "vmm/machine/board_console.h"
#include "vmm/machine/board_disks.h"
#include "vmm/machine/board_nets.h"
#include "vmm/machine/board_rng.h"
#include "vmm/machine/board_shares.h"
#include "vmm/snapshot/sections.h"

namespace vmm {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t BufferAt(unsigned number) {
  return GoodDriver::kBuffers + 2 * kPage * number;
}

// A row of the table: a device, what is behind it, and requests for it.
class InFlight {
 public:
  virtual ~InFlight() = default;
  // A device on this board; the second time, in the machine that goes on.
  virtual std::unique_ptr<BoardSlot> Make(VirtioBoard& board) = 0;
  // The host side stops, and requests are offered. Returns once one of them is held up.
  virtual void Begin(GoodDriver& driver) = 0;
  // Does a pause wait until the host side goes on?
  virtual bool pause_waits() const = 0;
  virtual void Release() {}
  // One more request, which the paused device does not take.
  virtual void OfferMore(GoodDriver& driver) = 0;
  // In the second machine: everything ends, once.
  virtual void Finish(GoodDriver& driver) = 0;
};

// The next `count` chains that come back, each of `heads` once.
std::vector<std::pair<uint32_t, uint32_t>> AllReturned(GoodDriver& driver, unsigned queue,
                                                       std::set<uint32_t> heads) {
  std::vector<std::pair<uint32_t, uint32_t>> all;
  while (!heads.empty()) {
    const auto returned = driver.Returned(queue);
    REQUIRE(returned);
    REQUIRE(heads.erase(returned->first) == 1);
    all.push_back(*returned);
  }
  CHECK_FALSE(driver.HasReturned(queue));
  return all;
}

class DiskInFlight final : public InFlight {
 public:
  std::unique_ptr<BoardSlot> Make(VirtioBoard& board) override {
    return std::make_unique<DiskSlot>(
        BoardSlot::kFirstDisk, 0,
        BoardDisk{.disk = &disk_, .queues = 1, .serial = "held", .read_only = false}, board.host(),
        board.socket());
  }
  void Begin(GoodDriver& driver) override {
    file_->Close();
    for (unsigned i = 0; i < kFirst; ++i) OfferWrite(driver, i);
    file_->AwaitWaiting(1);
  }
  bool pause_waits() const override { return true; }
  void Release() override { file_->Open(); }
  void OfferMore(GoodDriver& driver) override { OfferWrite(driver, kFirst); }
  void Finish(GoodDriver& driver) override {
    AllReturned(driver, 0, {0, 3, 6, 9, 12});
    for (unsigned i = 0; i <= kFirst; ++i) {
      CHECK(driver.Take(BufferAt(i) + 64, 1)[0] == 0);
      CHECK(file_->file().bytes()[i * 512] == 0x11 + i);
    }
    CHECK(file_->writes == kFirst + 1);
  }

 private:
  static constexpr unsigned kFirst = 4;
  static void OfferWrite(GoodDriver& driver, unsigned number) {
    std::array<uint8_t, 16> header{1};  // VIRTIO_BLK_T_OUT, and the sector. [VIRTIO 1.2] 5.2.6
    header[8] = static_cast<uint8_t>(number);
    const uint64_t at = BufferAt(number);
    driver.Put(at, header);
    driver.Put(at + 64, std::array<uint8_t, 1>{0xEE});
    driver.Put(at + kPage, std::vector<uint8_t>(512, static_cast<uint8_t>(0x11 + number)));
    driver.Offer(0, static_cast<uint16_t>(3 * number),
                 {{at, 16, false}, {at + kPage, 512, false}, {at + 64, 1, true}});
  }

  virtio::GatedFile* const file_ = new virtio::GatedFile(1 << 20);  // the disk's
  Disk disk_{std::make_unique<RawImage>(std::unique_ptr<BlockFile>(file_), false, false),
             {.use_uring = false, .limits = {}}};
};

// Two machines have two wires. What a card has taken and its wire has not is lost, as on any wire;
// nothing is sent or received twice.
class CardInFlight final : public InFlight {
 public:
  std::unique_ptr<BoardSlot> Make(VirtioBoard& board) override {
    std::array<int, 2> ends{};
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    far_ends_.emplace_back(ends[1]);
    fars_.push_back(std::make_unique<FrameStream>(ends[1], 256 * 1024));
    backends_.push_back(std::make_unique<StreamBackend>(UniqueFd(ends[0]), NetOffloads{}, true));
    return std::make_unique<NetSlot>(BoardSlot::kFirstNic, 0,
                                     BoardNet{.backend = backends_.back().get(), .mac = {2}},
                                     board.host(), board.socket());
  }
  void Begin(GoodDriver& driver) override {
    for (uint16_t i = 0; i < kReceived; ++i) OfferBuffer(driver, i);
    // More than the wire and the card hold.
    for (uint16_t i = 0; i < kSent; ++i) OfferFrame(driver, i);
    REQUIRE(Await([&] { return driver.HasReturned(virtio::net::kTransmit); }));
  }
  bool pause_waits() const override { return false; }
  void OfferMore(GoodDriver& driver) override { OfferFrame(driver, kSent); }
  void Finish(GoodDriver& driver) override {
    std::set<uint32_t> heads;
    for (uint32_t i = 0; i <= kSent; ++i) heads.insert(i);
    std::vector<uint8_t> first = Drain(0), second;
    REQUIRE(Await([&] {
      for (const uint8_t number : Drain(1)) second.push_back(number);
      return !second.empty() && second.back() == kSent;
    }));
    AllReturned(driver, virtio::net::kTransmit, heads);
    std::vector<uint8_t> both = first;
    both.insert(both.end(), second.begin(), second.end());
    for (size_t i = 1; i < both.size(); ++i) CHECK(both[i - 1] < both[i]);
    for (uint8_t i = 0; i < kReceived; ++i) {
      fars_[1]->Add(std::vector<uint8_t>(100, static_cast<uint8_t>(0x40 + i)));
    }
    fars_[1]->Flush();
    AllReturned(driver, virtio::net::kReceive, {0, 1, 2});
    for (unsigned i = 0; i < kReceived; ++i) {
      CHECK(driver.Take(kReceiveAt + kPage * i + 12, 1)[0] == 0x40 + i);
    }
  }

 private:
  static constexpr uint16_t kReceived = 3, kSent = 14;
  static constexpr uint32_t kFrame = 60'000;
  static constexpr uint64_t kReceiveAt = GoodDriver::kBuffers,
                            kSendAt = kReceiveAt + kReceived * kPage;

  static void OfferBuffer(GoodDriver& driver, uint16_t number) {
    driver.Offer(virtio::net::kReceive, number, {{kReceiveAt + kPage * number, 2048, true}});
  }
  static void OfferFrame(GoodDriver& driver, uint16_t number) {
    std::vector<uint8_t> frame(12 + kFrame, static_cast<uint8_t>(number));
    std::fill_n(frame.begin(), 12, uint8_t{0});
    const uint64_t at = kSendAt + 0x10000 * uint64_t{number};
    driver.Put(at, frame);
    driver.Offer(virtio::net::kTransmit, number,
                 {{at, static_cast<uint32_t>(frame.size()), false}});
  }
  // Numbers of the frames that came.
  std::vector<uint8_t> Drain(size_t wire) {
    std::vector<uint8_t> numbers;
    while (fars_[wire]->Fill()) {
      for (std::span<const uint8_t> frame; fars_[wire]->Next(frame);) {
        CHECK(frame.size() == kFrame);
        numbers.push_back(frame[0]);
      }
    }
    return numbers;
  }

  std::vector<UniqueFd> far_ends_;
  std::vector<std::unique_ptr<FrameStream>> fars_;
  std::vector<std::unique_ptr<StreamBackend>> backends_;
};

class ConsoleInFlight final : public InFlight {
 public:
  std::unique_ptr<BoardSlot> Make(VirtioBoard& board) override {
    return std::make_unique<ConsoleSlot>(
        std::vector<BoardPort>{{.name = "stream", .is_console = false, .backend = &terminal_}},
        board.host(), board.socket());
  }
  void Begin(GoodDriver& driver) override {
    terminal_.Change(1, 7, 80);
    OfferText(driver, 0, "first piece, ");
    OfferText(driver, 1, "second piece, ");
    REQUIRE(Await([&] { return terminal_.got() == "first p"; }));
    CHECK(terminal_.Type("input") == 0);  // there are no buffers
  }
  bool pause_waits() const override { return false; }
  void OfferMore(GoodDriver& driver) override {
    OfferText(driver, 2, "last piece");
    driver.Offer(0, 0, {{BufferAt(8), 64, true}});
    CHECK(terminal_.Type("input") == 0);  // it is paused
  }
  void Finish(GoodDriver& driver) override {
    terminal_.Change(1, SIZE_MAX, 80);
    AllReturned(driver, 1, {0, 1, 2});
    CHECK(terminal_.got() == "first piece, second piece, last piece");
    CHECK(terminal_.Type("input") == 5);
    const auto input = AllReturned(driver, 0, {0});
    CHECK(input[0].second == 5);
    CHECK(driver.Take(BufferAt(8), 5) == std::vector<uint8_t>{'i', 'n', 'p', 'u', 't'});
  }

 private:
  static void OfferText(GoodDriver& driver, uint16_t number, std::string_view text) {
    driver.Put(BufferAt(number), {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    driver.Offer(1, number, {{BufferAt(number), static_cast<uint32_t>(text.size()), false}});
  }
  Terminal terminal_;
};

// As RngSlot is, but with a host that takes its time.
class SlowRngSlot final : public BoardSlot {
 public:
  SlowRngSlot(const virtio::VirtioRng::Source& source, VirtioBoard& board)
      : BoardSlot(kRng),
        rng_("rng", source, board.host(), [this] { thread_.Ring(); }),
        pci_(rng_, 0xFF0000, board.socket()),
        thread_("rng", [this] { rng_.Work(); }) {}
  ~SlowRngSlot() override { Pause(); }

  virtio::VirtioPci& function() override { return pci_; }
  void Save(Sections& out) override { out.Put(name(), RngSlotState{.pci = pci_.SaveState()}); }
  Result<void> Load(Sections& in) override {
    return pci_.LoadState(in.Take<RngSlotState>(name()).value().pci);
  }

 private:
  virtio::VirtioRng rng_;
  virtio::VirtioPci pci_;
  WorkThread thread_;
};

class EntropyInFlight final : public InFlight {
 public:
  std::unique_ptr<BoardSlot> Make(VirtioBoard& board) override {
    return std::make_unique<SlowRngSlot>([this](std::span<uint8_t> out) { return Give(out); },
                                         board);
  }
  void Begin(GoodDriver& driver) override {
    is_open_ = false;
    for (uint16_t i = 0; i < 3; ++i) OfferBuffer(driver, i);
    REQUIRE(Await([&] { return waiting_ != 0; }));
  }
  bool pause_waits() const override { return true; }
  void Release() override { is_open_ = true; }
  void OfferMore(GoodDriver& driver) override { OfferBuffer(driver, 3); }
  void Finish(GoodDriver& driver) override {
    for (const auto& [head, written] : AllReturned(driver, 0, {0, 1, 2, 3})) {
      CHECK(written == 32);
      CHECK(driver.Take(BufferAt(head), 32) == std::vector<uint8_t>(32, 0x77));
    }
    CHECK(given_ == 4 * 32);
  }

 private:
  static void OfferBuffer(GoodDriver& driver, uint16_t number) {
    driver.Offer(0, number, {{BufferAt(number), 32, true}});
  }
  bool Give(std::span<uint8_t> out) {
    ++waiting_;
    while (!is_open_) std::this_thread::sleep_for(std::chrono::microseconds(50));
    std::ranges::fill(out, uint8_t{0x77});
    given_ += out.size();
    return true;
  }
  std::atomic<bool> is_open_{true};
  std::atomic<unsigned> waiting_{0};
  std::atomic<size_t> given_{0};
};

// An open() that waits for somebody else's lease on the file, fcntl(2).
class ShareInFlight final : public InFlight {
 public:
  ShareInFlight() {
    std::signal(SIGIO, SIG_IGN);  // by which the holder of a lease is asked to give it up
    const std::filesystem::path place =
        std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string name = (place / "vmm-test-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
    std::ofstream(path_ / "a") << "hello";
    holder_ = UniqueFd(open((path_ / "a").c_str(), O_RDWR | O_CLOEXEC));
    can_lease_ = fcntl(holder_.get(), F_SETLEASE, F_WRLCK) == 0;
  }
  ~ShareInFlight() override {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
    std::signal(SIGIO, SIG_DFL);
  }
  std::unique_ptr<BoardSlot> Make(VirtioBoard& board) override {
    servers_.push_back(std::move(ShareServer::Open({.path = path_.string()}).value()));
    return std::make_unique<ShareSlot>(
        0, BoardShare{.server = servers_.back().get(), .tag = "held", .queues = 1}, board.host(),
        board.socket());
  }
  void Begin(GoodDriver& driver) override {
    fuse_init_in begin{};
    begin.major = 7;
    begin.minor = 38;
    Offer(driver, 0, FUSE_INIT, 0, begin);
    Returned(driver, 0);
    const std::array<char, 2> name{'a', 0};
    Offer(driver, 0, FUSE_LOOKUP, FUSE_ROOT_ID, name);
    node_ = Answer<fuse_entry_out>(driver, Returned(driver, 0)).nodeid;
    fuse_open_in how{};
    how.flags = O_RDONLY;
    Offer(driver, 0, FUSE_OPEN, node_, how);
    Offer(driver, 2, FUSE_GETATTR, FUSE_ROOT_ID, fuse_getattr_in{});
    // The second is served beside the first, which waits for the lease.
    if (can_lease_) {
      Returned(driver, 2);
      CHECK_FALSE(driver.HasReturned(kQueue));
    }
  }
  bool pause_waits() const override { return can_lease_; }
  void Release() override { holder_.Reset(); }
  void OfferMore(GoodDriver& driver) override {
    Offer(driver, 4, FUSE_GETATTR, node_, fuse_getattr_in{});
  }
  void Finish(GoodDriver& driver) override {
    std::set<uint32_t> heads{0, 4};
    if (!can_lease_) heads.insert(2);
    AllReturned(driver, kQueue, heads);
    CHECK(Answer<fuse_attr_out>(driver, 4).attr.size == 5);
    fuse_read_in read{};
    read.fh = Answer<fuse_open_out>(driver, 0).fh;
    read.size = 100;
    Offer(driver, 6, FUSE_READ, node_, read);
    Returned(driver, 6);
    const auto text = driver.Take(AnswerAt(6) + sizeof(fuse_out_header), 5);
    CHECK(std::string(text.begin(), text.end()) == "hello");
  }

 private:
  static constexpr unsigned kQueue = virtio::fs::kFirstRequest;
  static uint64_t AnswerAt(uint32_t head) { return BufferAt(head) + kPage; }

  template <class T>
  static void Offer(GoodDriver& driver, uint16_t head, uint32_t opcode, uint64_t node,
                    const T& argument) {
    fuse_in_header header{};
    header.len = sizeof header + sizeof argument;
    header.opcode = opcode;
    header.unique = uint64_t{head} + 1;
    header.nodeid = node;
    std::vector<uint8_t> bytes(header.len);
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, &argument, sizeof argument);
    driver.Put(BufferAt(head), bytes);
    driver.Offer(kQueue, head,
                 {{BufferAt(head), header.len, false}, {AnswerAt(head), kPage, true}});
  }
  static uint32_t Returned(GoodDriver& driver, uint32_t head) {
    const auto returned = driver.Returned(kQueue);
    REQUIRE(returned);
    REQUIRE(returned->first == head);
    return head;
  }
  template <class T>
  static T Answer(GoodDriver& driver, uint32_t head) {
    const auto bytes = driver.Take(AnswerAt(head), sizeof(fuse_out_header) + sizeof(T));
    fuse_out_header header;
    std::memcpy(&header, bytes.data(), sizeof header);
    CHECK(header.error == 0);
    T value;
    std::memcpy(&value, bytes.data() + sizeof header, sizeof value);
    return value;
  }

  std::filesystem::path path_;
  UniqueFd holder_;
  bool can_lease_ = false;
  uint64_t node_ = 0;
  std::vector<std::unique_ptr<ShareServer>> servers_;
};

// A slot with its function in the first place that a board gives.
std::unique_ptr<BoardSlot> Place(InFlight& row, VirtioBoard& board) {
  auto slot = row.Make(board);
  PciAddressPlan plan;
  REQUIRE(slot->function().AssignResources(plan, 11));
  return slot;
}

void SaveAndGoOn(InFlight& row) {
  const auto memory = std::move(GuestMemory::Create(4 * kMiB).value());
  Sections saved;
  VirtioBoard board(memory);
  auto slot = Place(row, board);
  GoodDriver driver(board, slot->function());
  REQUIRE(driver.Begin(virtio::kAllRingFeatures));
  row.Begin(driver);

  std::atomic<bool> is_paused{false};
  std::thread pause([&] {
    slot->Pause();
    is_paused = true;
  });
  if (row.pause_waits()) CHECK_FALSE(is_paused);
  row.Release();
  pause.join();
  row.OfferMore(driver);
  slot->Save(saved);
  slot.reset();

  VirtioBoard other(memory);
  auto resumed = Place(row, other);
  resumed->Pause();
  REQUIRE(resumed->Load(saved));
  CHECK(saved.CheckAllTaken());
  GoodDriver goes_on(driver, other, resumed->function());
  resumed->Resume();
  row.Finish(goes_on);
  resumed->Pause();
}

}  // namespace

TEST_CASE("A disk is saved with requests under way", "[virtio][in-flight][threads]") {
  DiskInFlight row;
  SaveAndGoOn(row);
}
TEST_CASE("A network card is saved with frames under way", "[virtio][in-flight][threads]") {
  CardInFlight row;
  SaveAndGoOn(row);
}
TEST_CASE("A console is saved with output that nobody takes", "[virtio][in-flight][threads]") {
  ConsoleInFlight row;
  SaveAndGoOn(row);
}
TEST_CASE("An entropy device is saved while it waits", "[virtio][in-flight][threads]") {
  EntropyInFlight row;
  SaveAndGoOn(row);
}
TEST_CASE("A share is saved while a file is being opened", "[virtio][in-flight][threads]") {
  ShareInFlight row;
  SaveAndGoOn(row);
}

}  // namespace vmm
