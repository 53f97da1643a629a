#include "virtio/virtio_device.h"

#include <fmt/format.h>

#include <bit>
#include <utility>

#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"

namespace virtio {

using vmm::BitRegister;
using vmm::ExitCode;
using vmm::Fail;
using vmm::GuestPhys;
using vmm::Result;

namespace {

constexpr uint64_t kCommonFeatures = static_cast<uint64_t>(Feature::INDIRECT_DESC) |
                                     static_cast<uint64_t>(Feature::EVENT_IDX) |
                                     static_cast<uint64_t>(Feature::VERSION_1);
constexpr auto kDriverStatus = BitRegister<Status>::Mask(
    Status::ACKNOWLEDGE, Status::DRIVER, Status::DRIVER_OK, Status::FEATURES_OK, Status::FAILED);
constexpr auto kAllStatus =
    static_cast<uint8_t>(kDriverStatus | BitRegister<Status>::Mask(Status::DEVICE_NEEDS_RESET));

}  // namespace

VirtioDevice::VirtioDevice(std::string name, uint64_t features,
                           const std::vector<uint16_t>& queue_sizes, const Host& host)
    : name_(std::move(name)), offered_(features | kCommonFeatures), host_(host) {
  CHECK(!queue_sizes.empty() && queue_sizes.size() <= kMaxQueues);
  for (const uint16_t size : queue_sizes) {
    CHECK(std::has_single_bit(size) && size <= ring::kMaxSize);
    queues_.push_back(std::make_unique<Queue>(host_, size));
    queues_.back()->layout.size = size;
  }
}

uint64_t VirtioDevice::driver_features() const {
  const std::lock_guard lock(mutex_);
  return driver_features_;
}

void VirtioDevice::SetDriverFeatures(uint64_t features) {
  const std::lock_guard lock(mutex_);
  if (status_.Has(Status::FEATURES_OK) || is_resetting_) return;
  driver_features_ = features;
}

BitRegister<Status> VirtioDevice::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

bool VirtioDevice::IsRunning() const {
  return status_.Has(Status::DRIVER_OK) && !status_.Has(Status::DEVICE_NEEDS_RESET) &&
         !is_resetting_;
}

void VirtioDevice::SetStatus(uint8_t value) {
  bool starts = false;
  {
    const std::lock_guard lock(mutex_);
    if (is_resetting_) return;
    if (value == 0) {
      is_resetting_ = true;
      StopQueues();
      if (under_way_.load() == 0) FinishReset();
      return;
    }
    BitRegister<Status> wanted(static_cast<uint8_t>(value & kDriverStatus));
    if (!status_.Has(Status::FEATURES_OK) && wanted.Has(Status::FEATURES_OK)) {
      const bool suits = (driver_features_ & ~offered_) == 0 &&
                         (driver_features_ & static_cast<uint64_t>(Feature::VERSION_1)) != 0;
      if (!suits) wanted.Clear(Status::FEATURES_OK);  // 2.2.2
    }
    const BitRegister<Status> both(static_cast<uint8_t>(status_.raw() | wanted.raw()));
    if (!both.Has(Status::FEATURES_OK)) wanted.Clear(Status::DRIVER_OK);
    const bool was_running = IsRunning();
    status_ = BitRegister<Status>(static_cast<uint8_t>(status_.raw() | wanted.raw()));
    starts = IsRunning() && !was_running;
    if (starts) {
      for (const auto& queue : queues_) {
        if (queue->enabled) StartQueue(*queue);
      }
    }
  }
  if (starts) KickAll();
}

void VirtioDevice::StopQueues() {
  for (const auto& queue : queues_) {
    const std::lock_guard lock(queue->mutex);
    queue->ring.Disable();
  }
}

// With mutex_ held and no request under way. 2.4.1
void VirtioDevice::FinishReset() {
  status_ = {};
  driver_features_ = 0;
  is_resetting_ = false;
  for (const auto& queue : queues_) {
    queue->enabled = false;
    queue->layout = {queue->max_size, GuestPhys(0), GuestPhys(0), GuestPhys(0)};
  }
  OnReset();
}

void VirtioDevice::PowerOnReset() {
  const std::lock_guard lock(mutex_);
  CHECK(under_way_.load() == 0);
  StopQueues();
  FinishReset();
}

SplitQueue::Layout VirtioDevice::layout(unsigned queue) const {
  const std::lock_guard lock(mutex_);
  return queue < queues_.size() ? queues_[queue]->layout : SplitQueue::Layout{};
}

void VirtioDevice::SetLayout(unsigned queue, const SplitQueue::Layout& layout) {
  const std::lock_guard lock(mutex_);
  if (queue >= queues_.size() || queues_[queue]->enabled || is_resetting_) return;
  queues_[queue]->layout = layout;
}

bool VirtioDevice::queue_enabled(unsigned queue) const {
  const std::lock_guard lock(mutex_);
  return queue < queues_.size() && queues_[queue]->enabled;
}

// The driver may set it up only between FEATURES_OK and DRIVER_OK, but one that comes later does no
// harm. 3.1.1, 4.1.4.3.2
void VirtioDevice::EnableQueue(unsigned queue) {
  {
    const std::lock_guard lock(mutex_);
    if (queue >= queues_.size() || queues_[queue]->enabled || is_resetting_ ||
        !status_.Has(Status::FEATURES_OK)) {
      return;
    }
    Queue& q = *queues_[queue];
    SplitQueue trial(host_.memory, host_.writes);
    if (q.layout.size <= q.max_size && trial.Enable(q.layout, driver_features_, {})) {
      q.enabled = true;
      if (IsRunning()) StartQueue(q);
      return;
    }
  }
  Break(fmt::format("queue {} is set up where no rings can be", queue));
}

void VirtioDevice::StartQueue(Queue& queue) {
  const std::lock_guard lock(queue.mutex);
  CHECK(queue.ring.Enable(queue.layout, driver_features_, {}));
}

void VirtioDevice::Kick(unsigned queue) {
  if (queue < queues_.size()) OnKick(queue);
}

void VirtioDevice::RingDoorbell(unsigned queue) {
  if (queue < queues_.size()) OnDoorbell(queue);
}

void VirtioDevice::KickAll() {
  for (unsigned queue = 0; queue < queues_.size(); ++queue) OnKick(queue);
}

bool VirtioDevice::Take(unsigned queue, DescriptorChain& chain) {
  Queue& q = *queues_[queue];
  bool is_broken = false;
  {
    const std::lock_guard lock(q.mutex);
    if (!q.ring.enabled() || transport_ == nullptr || !transport_->MayAccessMemory()) return false;
    SplitQueue::Taken taken = q.ring.Take(chain);
    bool more = false;
    if (taken == SplitQueue::Taken::kNothing && (more = q.ring.AskForNotifications())) {
      taken = q.ring.Take(chain);
    }
    if (taken == SplitQueue::Taken::kChain) {
      q.ring.StopNotifications();
      under_way_.fetch_add(1);
      return true;
    }
    if (taken == SplitQueue::Taken::kNothing) {
      if (!more) return false;
    } else {
      q.ring.Disable();
    }
    is_broken = taken == SplitQueue::Taken::kBroken;
  }
  if (!is_broken) {  // the driver took a chain back, which it may not: look again, but not for ever
    OnKick(queue);
    return false;
  }
  Break(fmt::format("queue {} has a malformed ring or chain", queue));
  return false;
}

void VirtioDevice::Return(unsigned queue, std::span<const SplitQueue::Used> chains) {
  Queue& q = *queues_[queue];
  bool wants_interrupt = false;
  {
    const std::lock_guard lock(q.mutex);
    if (q.ring.enabled()) {
      q.ring.Return(chains);
      wants_interrupt = q.ring.WantsInterrupt();
    }
  }
  if (wants_interrupt) transport_->InterruptQueue(queue);
  EndRequests(static_cast<unsigned>(chains.size()));
}

void VirtioDevice::PutBack(unsigned queue, unsigned count) {
  if (count == 0) return;
  {
    Queue& q = *queues_[queue];
    const std::lock_guard lock(q.mutex);
    if (q.ring.enabled()) q.ring.PutBack(count);
  }
  EndRequests(count);
}

void VirtioDevice::Reject(unsigned queue, std::string_view why) {
  {
    const std::lock_guard lock(queues_[queue]->mutex);
    queues_[queue]->ring.Disable();
  }
  Break(why);
  EndRequests(1);
}

void VirtioDevice::EndRequests(unsigned count) {
  if (under_way_.fetch_sub(count) != count) return;
  const std::lock_guard lock(mutex_);
  if (is_resetting_ && under_way_.load() == 0) FinishReset();
}

// 2.1.2
void VirtioDevice::Break(std::string_view why) {
  bool tell = false;
  {
    const std::lock_guard lock(mutex_);
    if (is_resetting_ || status_.Has(Status::DEVICE_NEEDS_RESET)) return;
    status_.Set(Status::DEVICE_NEEDS_RESET);
    StopQueues();
    tell = status_.Has(Status::DRIVER_OK);
  }
  vmm::LogGuest(vmm::LogLevel::kWarning,
                fmt::format("{}: the guest's driver broke it: {}; it needs a reset", name_, why));
  if (tell && transport_ != nullptr) transport_->InterruptConfig();
}

void VirtioDevice::ConfigChanged() {
  ++config_generation_;
  if (status().Has(Status::DRIVER_OK)) transport_->InterruptConfig();
}

VirtioDeviceState VirtioDevice::SaveCommon() const {
  const std::lock_guard lock(mutex_);
  CHECK(under_way_.load() == 0 && !is_resetting_);
  VirtioDeviceState state;
  state.status = status_;
  state.driver_features = driver_features_;
  for (unsigned i = 0; i < queues_.size(); ++i) {
    Queue& q = *queues_[i];
    const std::lock_guard queue_lock(q.mutex);
    const SplitQueue::Position& position = q.ring.position();
    state.queues[i] = {
        q.layout.size,         q.enabled,      q.layout.descriptors.value, q.layout.driver.value,
        q.layout.device.value, position.taken, position.returned,          position.signalled};
  }
  return state;
}

Result<void> VirtioDevice::LoadCommon(const VirtioDeviceState& state) {
  const auto refuse = [&](std::string_view what) {
    return Fail(ExitCode::kConfigInvalid, fmt::format("{}: its saved {}", name_, what));
  };
  if (state.version != VirtioDeviceState::kVersion || !state.status.IsWithin(kAllStatus)) {
    return refuse("status is not one of a virtio device");
  }
  const bool ready = state.status.Has(Status::FEATURES_OK);
  const bool runs =
      state.status.Has(Status::DRIVER_OK) && !state.status.Has(Status::DEVICE_NEEDS_RESET);
  if ((state.status.Has(Status::DRIVER_OK) && !ready) ||
      (ready && ((state.driver_features & ~offered_) != 0 ||
                 (state.driver_features & static_cast<uint64_t>(Feature::VERSION_1)) == 0))) {
    return refuse("features are not this device's");
  }
  const std::lock_guard lock(mutex_);
  CHECK(under_way_.load() == 0);
  for (unsigned i = 0; i < kMaxQueues; ++i) {
    const VirtioQueueState& saved = state.queues[i];
    if (!saved.enabled) continue;
    SplitQueue trial(host_.memory, host_.writes);
    const SplitQueue::Layout layout{saved.size, GuestPhys(saved.descriptors),
                                    GuestPhys(saved.driver), GuestPhys(saved.device)};
    if (i >= queues_.size() || !ready || saved.size > queues_[i]->max_size ||
        !trial.Enable(layout, state.driver_features, {})) {
      return refuse(fmt::format("queue {} can't be", i));
    }
  }
  is_resetting_ = false;
  status_ = state.status;
  driver_features_ = state.driver_features;
  for (unsigned i = 0; i < queues_.size(); ++i) {
    const VirtioQueueState& saved = state.queues[i];
    Queue& q = *queues_[i];
    const std::lock_guard queue_lock(q.mutex);
    q.layout = {saved.size, GuestPhys(saved.descriptors), GuestPhys(saved.driver),
                GuestPhys(saved.device)};
    q.enabled = saved.enabled;
    q.ring.Disable();
    if (runs && q.enabled) {
      CHECK(q.ring.Enable(q.layout, driver_features_,
                          {saved.taken, saved.returned, saved.signalled}));
    }
  }
  return {};
}

}  // namespace virtio
