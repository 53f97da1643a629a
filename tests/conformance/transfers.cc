// A guest whose disk and network card are at work for as long as it runs, so that whatever is done
// to the machine around it (suspended, resumed) must go unseen. The disk interrupts by a message,
// the card by its pin; nobody looks into a ring unless an interrupt said so.
//
// Disk: each round writes eight blocks at once, flushes, reads them back, and says
// "wrote ROUND" on COM1. Every 8 bytes of the disk are the number of their sector and above it that
// of their round.
//
// Card: frames with a running number, to which the peer answers with the same frame and a running
// number of its own. A few are under way at once; an answer that never comes is given up, but each
// round sees at least one.
//
// A 'q' from COM1 ends it with "sent FRAMES, answered COUNT" and the verdict. Numbers are
// hexadecimal.
#include "lib/apic.h"
#include "lib/guest.h"
#include "virtio/virtio_blk_regs.h"
#include "virtio/virtio_net_regs.h"
#include "virtio_driver.h"

using namespace guest;

namespace {

constexpr uint16_t kCom1 = 0x3f8;
constexpr uint8_t kTickVector = 0x60, kDiskVector = 0x61, kPicVectors = 0x20;
constexpr uint32_t kTick = 500'000;  // of the local APIC's timer: 8 ms
constexpr unsigned kPatience = 125;  // ticks that an answer may take

volatile unsigned ticks = 0;
volatile bool disk_called = false, card_called = false;

bool TakeCall(volatile bool& called) {
  const bool was = called;
  called = false;
  return was;
}

void Fill(volatile void* words, uint64_t value, uint64_t count) {
  asm volatile("rep stosq" : "+D"(words), "+c"(count) : "a"(value) : "memory");
}
bool IsFilled(const volatile void* words, uint64_t value, uint64_t count) {
  bool equal;
  asm volatile("repe scasq" : "=@cce"(equal), "+D"(words), "+c"(count) : "a"(value) : "memory");
  return equal;
}

class Disk {
 public:
  static constexpr unsigned kAtOnce = 8, kSectors = 8;  // requests; of each

  Disk() : function_(virtio::blk::kType, static_cast<uint64_t>(virtio::blk::Feature::FLUSH)) {
    SetHandler(kDiskVector, [](Frame&) {
      disk_called = true;
      EndOfInterrupt();
    });
    function_.SetUpQueue(0, queue_);
    function_.UseMessage(static_cast<uint32_t>(kApicPage), kDiskVector);
    function_.Start();
    groups_ = ReadMemory<uint64_t>(function_.config()) / (kAtOnce * kSectors);
  }

  // One step of a round is asked for.
  void Write(uint64_t round) {
    for (unsigned i = 0; i < kAtOnce; ++i) {
      for (unsigned s = 0; s < kSectors; ++s) Fill(Sector(i, s), Word(round, i, s), kWords);
      Ask(virtio::blk::Type::OUT, round, i, kSectors);
    }
  }
  void Flush() { Ask(virtio::blk::Type::FLUSH, 0, 0, 0); }
  void Read(uint64_t round) {
    for (unsigned i = 0; i < kAtOnce; ++i) {
      Fill(Sector(i, 0), ~uint64_t{0}, kWords * kSectors);
      Ask(virtio::blk::Type::IN, round, i, kSectors);
    }
  }
  // Looks at what has ended. True: all of it.
  bool Serve() {
    uint16_t first;
    uint32_t written;
    while (TakeCall(disk_called)) {
      while (queue_.Take(&first, &written)) {
        const Request& request = requests_[first / kChain];
        EXPECT_EQ(request.result, static_cast<uint8_t>(virtio::blk::Result::OK));
        EXPECT_EQ(written, request.wanted);
      }
    }
    return queue_.offered() == 0;
  }
  void Check(uint64_t round) {
    for (unsigned i = 0; i < kAtOnce; ++i) {
      for (unsigned s = 0; s < kSectors; ++s)
        EXPECT(IsFilled(Sector(i, s), Word(round, i, s), kWords));
    }
  }

 private:
  static constexpr unsigned kWords = virtio::blk::kSector / 8, kChain = 3;
  static_assert(kAtOnce * kChain <= VirtioQueue::kSize);

  struct Request {
    uint32_t type, reserved;
    uint64_t sector;
    uint8_t result;
    uint32_t wanted;  // bytes that the device is to write
  };

  uint64_t FirstSector(uint64_t round, unsigned i) const {
    return (round % groups_ * kAtOnce + i) * kSectors;
  }
  uint64_t Word(uint64_t round, unsigned i, unsigned s) const {
    return round << 32 | (FirstSector(round, i) + s);
  }
  volatile uint8_t* Sector(unsigned i, unsigned s) {
    return data_ + (i * kSectors + s) * virtio::blk::kSector;
  }

  void Ask(virtio::blk::Type type, uint64_t round, unsigned i, unsigned sectors) {
    const bool is_read = type == virtio::blk::Type::IN;
    const auto bytes = static_cast<uint32_t>(sectors * virtio::blk::kSector);
    Request& request = requests_[i];
    request = {static_cast<uint32_t>(type), 0, sectors == 0 ? 0 : FirstSector(round, i), 0xff,
               (is_read ? bytes : 0) + 1};
    const VirtioQueue::Buffer header = {&request, virtio::blk::kHeaderSize, false};
    const VirtioQueue::Buffer data = {Sector(i, 0), bytes, is_read};
    const VirtioQueue::Buffer result = {&request.result, 1, true};
    const auto first = static_cast<uint16_t>(i * kChain);
    if (sectors == 0) {
      queue_.Offer(first, {header, result});
    } else {
      queue_.Offer(first, {header, data, result});
    }
  }

  VirtioQueue queue_;
  Request requests_[kAtOnce] = {};
  alignas(4096) volatile uint8_t data_[kAtOnce * kSectors * virtio::blk::kSector];
  VirtioFunction function_;
  uint64_t groups_ = 0;  // of kAtOnce blocks each
};

class Card {
 public:
  Card() : function_(virtio::net::kType, 0) {
    static const VirtioFunction& function = function_;
    const uint8_t irq = function_.pci().Read8(vmm::pci::kInterruptLine);
    SetHandler(static_cast<uint8_t>(kPicVectors + irq), [](Frame&) {
      if (function.TakeIsr() & static_cast<uint8_t>(virtio::pci::Isr::kQueue)) card_called = true;
      Out8(0xa0, 0x20);  // OCW2: non-specific EOI
      Out8(0x20, 0x20);
    });
    function_.SetUpQueue(virtio::net::kReceive, in_queue_);
    function_.SetUpQueue(virtio::net::kTransmit, out_queue_);
    function_.Start();
    for (unsigned i = 0; i < kIn; ++i) OfferBuffer(i);
    UnmaskPic(irq);
  }

  // Looks at what came and went, and sends what may be sent. True: no answer is awaited.
  bool Serve(bool may_send) {
    if (TakeCall(card_called)) {
      TakeSent();
      TakeAnswers();
    }
    if (ticks - progress_ > kPatience) settled_ = sent_;
    while (may_send && sent_ - settled_ < kOut && out_queue_.offered() < kOut) Send();
    return sent_ == settled_;
  }
  uint64_t sent() const { return sent_; }
  uint64_t answered() const { return answered_; }

 private:
  static constexpr unsigned kIn = 8, kOut = 4, kWords = 120;

  struct [[gnu::packed]] Message {
    uint8_t header[12];  // [VIRTIO 1.2] 5.1.6
    uint8_t to[6], from[6], type[2];
    uint64_t frame, answer;  // their numbers, from 1 on; no answer: 0
    uint64_t filler[kWords];
  };

  void OfferBuffer(unsigned i) {
    in_queue_.Offer(static_cast<uint16_t>(i), {{&in_[i], sizeof in_[i], true}});
  }

  void Send() {
    unsigned i = 0;
    while (is_sending_[i]) ++i;
    is_sending_[i] = true;
    if (sent_ == settled_) progress_ = ticks;
    Message& message = out_[i];
    for (uint8_t& byte : message.to) byte = 0xff;
    message.type[0] = 0x88;  // for experiments
    message.type[1] = 0xb5;
    message.frame = ++sent_;
    Fill(message.filler, sent_, kWords);
    out_queue_.Offer(static_cast<uint16_t>(i), {{&message, sizeof message, false}});
  }

  void TakeSent() {
    uint16_t first;
    uint32_t written;
    while (out_queue_.Take(&first, &written)) is_sending_[first % kOut] = false;
  }

  void TakeAnswers() {
    uint16_t first;
    uint32_t written;
    while (in_queue_.Take(&first, &written)) {
      const Message& message = in_[first % kIn];
      EXPECT_EQ(written, sizeof message);
      // None comes twice, and none before an earlier one.
      EXPECT(message.answer > last_answer_);
      EXPECT(message.frame > last_frame_ && message.frame <= sent_);
      EXPECT(IsFilled(message.filler, message.frame, kWords));
      last_answer_ = message.answer;
      last_frame_ = message.frame;
      if (settled_ < last_frame_) settled_ = last_frame_;
      ++answered_;
      progress_ = ticks;
      OfferBuffer(first % kIn);
    }
  }

  VirtioQueue in_queue_, out_queue_;
  Message in_[kIn] = {}, out_[kOut] = {};
  bool is_sending_[kOut] = {};
  VirtioFunction function_;
  uint64_t sent_ = 0, answered_ = 0;
  uint64_t settled_ = 0;  // the newest frame that was answered or given up
  uint64_t last_answer_ = 0, last_frame_ = 0;
  unsigned progress_ = 0;  // when there was some, in ticks
};

bool Asked() {
  return (In8(kCom1 + 5) & 1) && In8(kCom1) == 'q';
}

void PrintNumber(const char* name, uint64_t value) {
  Print(name);
  PrintHex(value);
}

void StartTicks() {
  SetHandler(kTickVector, [](Frame&) {
    ticks = ticks + 1;
    EndOfInterrupt();
  });
  WriteApic(Apic::TIMER_DIVIDE, 3);
  WriteApic(Apic::LVT_TIMER, 0x20000 | kTickVector);  // periodic
  WriteApic(Apic::TIMER_INITIAL, kTick);
}

}  // namespace

void GuestMain() {
  Section("transfers");
  EnableApic();
  InitPics();
  WriteApic(Apic::LVT_LINT0, 0x700);  // ExtINT
  StartTicks();
  Out8(kCom1 + 1, 1);  // IER: who asks for no input gets none; masked, as OUT2 is off
  static Disk disk;
  static Card card;
  for (uint64_t round = 1; !Asked(); ++round) {
    const uint64_t answered = card.answered();
    const auto serve = [] {
      while (card.Serve(true), !disk.Serve()) WaitForInterrupt();
    };
    disk.Write(round);
    serve();
    disk.Flush();
    serve();
    disk.Read(round);
    serve();
    disk.Check(round);
    while (card.Serve(true), card.answered() == answered) WaitForInterrupt();
    PrintNumber("wrote ", round);
    Print("\n");
  }
  while (!card.Serve(false)) WaitForInterrupt();
  PrintNumber("sent ", card.sent());
  PrintNumber(", answered ", card.answered());
  Print("\n");
}
