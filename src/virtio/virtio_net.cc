#include "virtio/virtio_net.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"

namespace virtio {

using NetFeature = net::Feature;
using vmm::NetBackend;
using vmm::NetHeader;
using vmm::NetOffloads;

namespace {

constexpr uint64_t Bits(std::initializer_list<NetFeature> features) {
  uint64_t bits = 0;
  for (const NetFeature feature : features) bits |= static_cast<uint64_t>(feature);
  return bits;
}

uint64_t FeaturesOf(const VirtioNet::Options& options) {
  using enum NetFeature;
  return Bits({CSUM, GUEST_CSUM, MAC, GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6, MRG_RXBUF,
               STATUS, CTRL_VQ, CTRL_RX, GUEST_ANNOUNCE, CTRL_MAC_ADDR}) |
         (options.mtu != 0 ? Bits({MTU}) : 0);
}

bool Has(uint64_t features, NetFeature feature) {
  return (features & static_cast<uint64_t>(feature)) != 0;
}

// What a guest takes in the place of finished frames. 5.1.6.4.1
NetOffloads GuestTakes(uint64_t features) {
  const bool checksum = Has(features, NetFeature::GUEST_CSUM);
  return {.checksum = checksum,
          .tcp4 = checksum && Has(features, NetFeature::GUEST_TSO4),
          .tcp6 = checksum && Has(features, NetFeature::GUEST_TSO6),
          .any_size = false};
}

constexpr unsigned kBatch = 64;  // frames of one direction before the other has its turn
constexpr uint64_t kHeaderSize = sizeof(NetHeader);

}  // namespace

VirtioNet::VirtioNet(std::string name, NetBackend& backend, const Options& options,
                     const Host& host, std::function<void()> ring)
    : VirtioDevice(std::move(name), FeaturesOf(options),
                   {kQueueSize, kQueueSize, kControlQueueSize}, host),
      backend_(backend),
      options_(options),
      takes_(backend.takes()),
      ring_(std::move(ring)),
      is_plugged_(options.link_up),
      mac_(options.mac),
      tx_buffer_(NetBackend::kMaxFrame),
      rx_buffer_(NetBackend::kMaxFrame) {
  CHECK(options.mtu == 0 || (options.mtu >= kMinMtu && options.mtu <= kMaxMtu));
}

void VirtioNet::ReadConfig(uint64_t offset, std::span<uint8_t> data) const {
  std::array<uint8_t, net::kConfigSize> config{};
  const auto put = [&config](net::Config field, uint64_t value) {
    vmm::StoreLittleEndian(std::span(config).subspan(static_cast<size_t>(field), 2), value);
  };
  unsigned status = is_plugged_ && backend_is_up_ ? unsigned(net::LinkStatus::LINK_UP) : 0;
  {
    const std::lock_guard lock(config_mutex_);
    std::ranges::copy(mac_, config.begin());
    if (announce_) status |= unsigned(net::LinkStatus::ANNOUNCE);
  }
  put(net::Config::status, status);
  put(net::Config::max_virtqueue_pairs, 1);
  put(net::Config::mtu, options_.mtu);
  for (uint8_t& byte : data) {
    byte = offset < config.size() ? config[offset] : 0;
    ++offset;
  }
}

void VirtioNet::OnKick(unsigned) {
  ring_();
}

void VirtioNet::OnReset() {
  const std::lock_guard lock(config_mutex_);
  mac_ = options_.mac;
  announce_ = false;
}

void VirtioNet::SetLink(bool up) {
  if (is_plugged_.exchange(up) == up) return;
  ConfigChanged();
  ring_();
}

void VirtioNet::NoticeLink() {
  const bool is_up = backend_.is_up();
  if (backend_is_up_.exchange(is_up) == is_up) return;
  vmm::Log(vmm::LogLevel::kWarning, fmt::format("{}: what its wire led to is gone", name()));
  ConfigChanged();
}

vmm::PollThread::Wait VirtioNet::Work() {
  const std::lock_guard lock(work_mutex_);
  if (is_paused_) return {};
  FollowFeatures(driver_features());
  Control();
  bool more = Transmit();
  more = Receive() || more;
  backend_.Flush();
  NoticeLink();
  if (!backend_.is_up()) return {.not_at_all = more};
  const bool has_frames = rx_next_ != rx_frames_.size();
  const bool waits_to_send = tx_next_ != tx_frames_.size() || backend_.WantsToWrite();
  return {.fd = backend_.fd(),
          .events = static_cast<short>((has_frames ? 0 : POLLIN) | (waits_to_send ? POLLOUT : 0)),
          .not_at_all = more};
}

void VirtioNet::FollowFeatures(uint64_t features) {
  if (features == followed_features_) return;
  followed_features_ = features;
  backend_.SetReceiveOffloads(GuestTakes(features));
}

// --- From the guest. 5.1.6.2 ---

// False: the back end has no room for what waits.
bool VirtioNet::SendWaiting() {
  for (; tx_next_ != tx_frames_.size(); ++tx_next_) {
    const vmm::FrameList::Frame frame = tx_frames_[tx_next_];
    if (!backend_.Send(frame.header, frame.bytes)) return false;
  }
  tx_frames_.Clear();
  tx_next_ = 0;
  return true;
}

// True: there may be more.
bool VirtioNet::Transmit() {
  for (unsigned count = 0; count < kBatch; ++count) {
    if (pauses_ || !SendWaiting() || !Take(net::kTransmit, chain_)) return false;
    const ChainBuffers& in = chain_.readable;
    if (in.length() < kHeaderSize || chain_.writable.length() != 0) {
      Reject(net::kTransmit, "a frame to send has no header, or buffers to write");
      return false;
    }
    NetHeader header;
    in.Read(0, {reinterpret_cast<uint8_t*>(&header), sizeof header});
    header.flags &= NetHeader::kNeedsChecksum;
    header.num_buffers = 0;
    const uint64_t length = in.length() - kHeaderSize;
    const bool is_frame = length >= NetBackend::kMinFrame && length <= NetBackend::kMaxFrame;
    const std::span<uint8_t> frame = std::span(tx_buffer_).first(is_frame ? length : 0);
    in.Read(kHeaderSize, frame);
    Return(net::kTransmit, chain_.head, 0);
    if (!is_frame || !is_plugged_) continue;
    if (vmm::TakesAsIs(header, takes_) && backend_.Send(header, frame)) continue;
    vmm::Unload(header, frame, takes_, tx_frames_);
  }
  return true;
}

// --- To the guest. 5.1.6.4 ---

// True: there may be more.
bool VirtioNet::Receive() {
  for (unsigned count = 0; count < kBatch; ++count) {
    if (pauses_ || !NextFrames()) return false;
    if (Deliver(rx_frames_[rx_next_]) == Delivery::kNoBuffers) return false;
    ++rx_next_;
  }
  return true;
}

// Sees to it that a frame waits for the guest; false: there is none.
bool VirtioNet::NextFrames() {
  while (rx_next_ >= rx_frames_.size()) {
    rx_frames_.Clear();
    rx_next_ = 0;
    NetHeader header;
    const size_t length = backend_.Receive(header, rx_buffer_);
    if (length == 0) return false;
    if (!is_plugged_) continue;
    rx_features_ = driver_features();
    vmm::Unload(header, std::span(rx_buffer_).first(length), GuestTakes(rx_features_), rx_frames_);
  }
  return true;
}

// Takes chains until they have room for `wanted` bytes. False: there are none, or the frame is lost
// (`is_over`); no chain is held then.
bool VirtioNet::CollectBuffers(uint64_t wanted, bool& is_over) {
  rx_count_ = 0;
  is_over = true;
  const bool is_mergeable = Has(rx_features_, NetFeature::MRG_RXBUF);
  const auto put_back = [this] {
    PutBack(net::kReceive, static_cast<unsigned>(rx_count_));
    return false;
  };
  for (uint64_t room = 0; room < wanted;) {
    // What no buffers of the driver can hold is lost.
    if (rx_count_ != 0 && (!is_mergeable || rx_count_ >= layout(net::kReceive).size)) {
      return put_back();
    }
    if (rx_chains_.size() == rx_count_) rx_chains_.emplace_back();
    DescriptorChain& chain = rx_chains_[rx_count_];
    if (!Take(net::kReceive, chain)) {
      is_over = false;
      return put_back();
    }
    const uint64_t length = chain.writable.length();
    if (chain.readable.length() != 0 || length < (rx_count_ == 0 ? kHeaderSize : 1)) {
      put_back();
      Reject(net::kReceive, "a buffer to receive has no room for a header, or is to be read");
      return false;
    }
    ++rx_count_;
    room += length;
    // With a chain in our hands no reset ends, so from here on they stand.
    if (rx_count_ == 1 && driver_features() != rx_features_) {
      rx_next_ = rx_frames_.size() - 1;  // made for another driver: lost, all of them
      return put_back();
    }
  }
  return true;
}

VirtioNet::Delivery VirtioNet::Deliver(const vmm::FrameList::Frame& frame) {
  bool is_over = false;
  if (!CollectBuffers(kHeaderSize + frame.bytes.size(), is_over)) {
    return is_over ? Delivery::kOver : Delivery::kNoBuffers;
  }
  NetHeader header = frame.header;
  if (!Has(rx_features_, NetFeature::GUEST_CSUM)) header.flags = 0;
  header.num_buffers = static_cast<uint16_t>(rx_count_);
  rx_used_.clear();
  size_t done = 0;
  for (size_t i = 0; i < rx_count_; ++i) {
    const ChainBuffers& out = rx_chains_[i].writable;
    const uint64_t before = i == 0 ? kHeaderSize : 0;
    if (i == 0) {
      out.Write(0, {reinterpret_cast<const uint8_t*>(&header), sizeof header}, writes());
    }
    const size_t part = std::min<uint64_t>(frame.bytes.size() - done, out.length() - before);
    out.Write(before, frame.bytes.subspan(done, part), writes());
    done += part;
    rx_used_.push_back({rx_chains_[i].head, static_cast<uint32_t>(before + part)});
  }
  VirtioDevice::Return(net::kReceive, rx_used_);
  return Delivery::kOver;
}

// --- The machine's. ---

void VirtioNet::Pause() {
  pauses_ = true;
  const std::lock_guard lock(work_mutex_);
  is_paused_ = true;
}

void VirtioNet::Resume() {
  {
    const std::lock_guard lock(work_mutex_);
    is_paused_ = false;
    pauses_ = false;
  }
  KickAll();
}

VirtioNetState VirtioNet::SaveNet() const {
  const std::lock_guard lock(config_mutex_);
  return {.mac = mac_, .mtu = options_.mtu, .announce = announce_, .is_plugged = is_plugged_};
}

vmm::Result<void> VirtioNet::LoadNet(const VirtioNetState& state) {
  if (state.version != VirtioNetState::kVersion || state.mtu != options_.mtu) {
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     fmt::format("{}: the guest was told an MTU of {}, now it is {} (0: none)",
                                 name(), state.mtu, options_.mtu));
  }
  const bool runs = status().Has(Status::DRIVER_OK);
  const bool announces = runs && Has(driver_features(), NetFeature::GUEST_ANNOUNCE);
  {
    const std::lock_guard lock(config_mutex_);
    mac_ = state.mac;
    announce_ = state.announce || announces;
  }
  is_plugged_ = state.is_plugged;
  if (runs) ConfigChanged();
  return {};
}

}  // namespace virtio
