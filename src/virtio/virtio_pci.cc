#include "virtio/virtio_pci.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vmm/core/base/bytes.h"

namespace virtio {

using vmm::LoadLittleEndian;
using vmm::StoreLittleEndian;

namespace {

using pci::CapabilityType;
using pci::Common;

constexpr unsigned kRegistersBar = 0, kTablesBar = 2;

// The fields of the common registers and their sizes. 4.1.4.3
struct Field {
  Common at;
  uint8_t size;
};
constexpr Field kFields[] = {
    {Common::device_feature_select, 4}, {Common::device_feature, 4},
    {Common::driver_feature_select, 4}, {Common::driver_feature, 4},
    {Common::config_msix_vector, 2},    {Common::num_queues, 2},
    {Common::device_status, 1},         {Common::config_generation, 1},
    {Common::queue_select, 2},          {Common::queue_size, 2},
    {Common::queue_msix_vector, 2},     {Common::queue_enable, 2},
    {Common::queue_notify_off, 2},      {Common::queue_desc, 8},
    {Common::queue_driver, 8},          {Common::queue_device, 8},
};

const Field* FindField(uint64_t offset) {
  for (const Field& field : kFields) {
    const auto at = static_cast<uint64_t>(field.at);
    if (offset >= at && offset < at + field.size) return &field;
  }
  return nullptr;
}

constexpr bool IsAddress(const Field& field) {
  return field.at >= Common::queue_desc;
}

uint32_t Half(uint64_t value, uint32_t select) {
  return select < 2 ? static_cast<uint32_t>(value >> (32 * select)) : 0;
}

}  // namespace

VirtioPci::VirtioPci(VirtioDevice& device, uint32_t class_code, const Socket& socket)
    : PciEndpoint(device.name(),
                  {.vendor = pci::kVendor,
                   .device = static_cast<uint16_t>(pci::kFirstDevice + device.type()),
                   .revision = pci::kRevision,
                   .class_code = class_code},
                  {.vendor = pci::kVendor, .device = pci::kSubsystem}, socket,
                  device.queue_count() + 1),
      device_(device),
      doorbells_(socket.doorbells),
      registers_(device.name(), *this, &VirtioPci::ReadRegisters, &VirtioPci::WriteBar),
      tables_(device.name(), *this, &VirtioPci::ReadTables, &VirtioPci::WriteTables) {
  for (auto& vector : queue_vectors_) vector = pci::kNoVector;
  DefineBar(kRegistersBar, BarKind::kMemory64, kBarSize, registers_);
  DefineBar(kTablesBar, BarKind::kMemory32, kTablesBarSize, tables_);
  DefineMsix(kTablesBar, 0, kPendingOffset);
  window_ = DefinePart(CapabilityType::kPci, 0, 0, pci::kLongCapSize);
  // The window is the driver's: which BAR, where and how much. 4.1.4.9
  const auto at = [this](unsigned offset) { return static_cast<uint16_t>(window_ + offset); };
  config().Define8(at(pci::kBar), 0, 0xFF);
  config().Define32(at(pci::kOffset), 0, 0xFFFF'FFFF);
  config().Define32(at(pci::kLength), 0, 0xFFFF'FFFF);
  config().Define32(at(pci::kPciCfgData), 0, 0xFFFF'FFFF);
  // Only of a device that has registers of its own; Linux refuses an empty part. 4.1.4.6.1
  if (device.config_size() != 0) {
    DefinePart(CapabilityType::kDevice, kDevice, static_cast<uint32_t>(device.config_size()),
               pci::kCapSize);
  }
  DefinePart(CapabilityType::kIsr, kIsr, 1, pci::kCapSize);
  const uint16_t notify = DefinePart(CapabilityType::kNotify, kNotify,
                                     kNotifyMultiplier * device.queue_count(), pci::kLongCapSize);
  config().Define32(static_cast<uint16_t>(notify + pci::kNotifyOffMultiplier), kNotifyMultiplier);
  DefinePart(CapabilityType::kCommon, kCommon, pci::kCommonSize, pci::kCapSize);
  device_.SetTransport(*this);
}

VirtioPci::~VirtioPci() {
  OnBarPlaced(kRegistersBar, {});
}

// Drivers write 16 bits, or 32 with NOTIFICATION_DATA, which is not offered. 4.1.5.2
void VirtioPci::OnBarPlaced(unsigned index, std::optional<uint64_t> start) {
  if (index != kRegistersBar || doorbells_ == nullptr || bell_ < 0) return;
  for (const auto& doorbell : wired_) doorbells_->Unwire(doorbell);
  wired_.clear();
  if (!start) return;
  for (unsigned queue = 0; queue < device_.queue_count(); ++queue) {
    const vmm::GuestPhys address(*start + kNotify + uint64_t{kNotifyMultiplier} * queue);
    wired_.push_back({address, 2, bell_});
    doorbells_->Wire(wired_.back());
  }
}

uint16_t VirtioPci::DefinePart(CapabilityType type, uint32_t offset, uint32_t length,
                               uint16_t size) {
  const uint16_t cap = DefineCapability(vmm::pci::Capability::Vendor, size);
  const auto at = [cap](unsigned field) { return static_cast<uint16_t>(cap + field); };
  config().Define8(at(pci::kCapLength), static_cast<uint8_t>(size));
  config().Define8(at(pci::kCfgType), static_cast<uint8_t>(type));
  config().Define8(at(pci::kBar), kRegistersBar);
  config().Define32(at(pci::kOffset), offset);
  config().Define32(at(pci::kLength), length);
  return cap;
}

// --- Interrupts. 4.1.4.5, 4.1.5.1.2 ---

void VirtioPci::RaiseIsr(pci::Isr bit) {
  const std::lock_guard lock(isr_mutex_);
  isr_ |= static_cast<uint8_t>(bit);
  interrupts().SetPin(true);
}

uint8_t VirtioPci::TakeIsr() {
  const std::lock_guard lock(isr_mutex_);
  interrupts().SetPin(false);
  return std::exchange(isr_, uint8_t{0});
}

void VirtioPci::Interrupt(uint16_t vector, pci::Isr bit) {
  if (interrupts().mode() == vmm::PciInterrupts::Mode::kPin) {
    RaiseIsr(bit);
  } else if (vector != pci::kNoVector) {
    interrupts().Send(vector);
  }
}

void VirtioPci::InterruptQueue(unsigned queue) {
  Interrupt(queue_vectors_[queue].load(), pci::Isr::kQueue);
}

void VirtioPci::InterruptConfig() {
  Interrupt(config_vector_.load(), pci::Isr::kConfig);
}

uint16_t VirtioPci::CheckedVector(uint64_t value) const {
  return value <= device_.queue_count() ? static_cast<uint16_t>(value) : pci::kNoVector;
}

// --- The window in configuration space. ---

bool VirtioPci::Window(uint16_t offset, size_t size, uint64_t* start) const {
  const auto at = [this](unsigned field) { return static_cast<uint16_t>(window_ + field); };
  const uint32_t length = config().Get32(at(pci::kLength));
  const uint32_t from = config().Get32(at(pci::kOffset));
  *start = from;
  return offset == at(pci::kPciCfgData) && size == length &&
         (length == 1 || length == 2 || length == 4) && from % length == 0 &&
         config().Get8(at(pci::kBar)) == kRegistersBar && from < kBarSize;
}

void VirtioPci::OnConfigWritten(uint16_t offset, size_t size) {
  PciEndpoint::OnConfigWritten(offset, size);
  const bool now = is_bus_master();
  if (std::exchange(was_bus_master_, now) != now && now) device_.KickAll();
  uint64_t start = 0;
  if (Window(offset, size, &start)) {
    std::array<uint8_t, 4> data{};
    config().Read(offset, std::span(data).first(size));
    WriteRegisters(start, std::span<const uint8_t>(data).first(size));
  }
}

void VirtioPci::OnConfigRead(uint16_t offset, std::span<uint8_t> data) {
  PciEndpoint::OnConfigRead(offset, data);
  uint64_t start = 0;
  if (Window(offset, data.size(), &start)) ReadRegisters(start, data);
}

// --- BARs. ---

void VirtioPci::ReadTables(uint64_t offset, std::span<uint8_t> data) {
  if (offset >= kPendingOffset) {
    interrupts().pending_bits().Read(offset - kPendingOffset, data);
  } else {
    interrupts().table().Read(offset, data);
  }
}

void VirtioPci::WriteTables(uint64_t offset, std::span<const uint8_t> data) {
  if (offset < kPendingOffset) interrupts().table().Write(offset, data);
}

void VirtioPci::ReadRegisters(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0});
  if (offset < kIsr) {
    ReadCommon(offset, data);
  } else if (offset < kDevice) {
    if (offset == kIsr) data[0] = TakeIsr();
  } else if (offset < kNotify) {
    device_.ReadConfig(offset - kDevice, data);
  }
}

void VirtioPci::WriteRegisters(uint64_t offset, std::span<const uint8_t> data) {
  if (offset < kIsr) {
    WriteCommon(offset, data);
  } else if (offset >= kNotify) {
    device_.Kick(static_cast<unsigned>((offset - kNotify) / kNotifyMultiplier));
  } else if (offset >= kDevice) {
    device_.WriteConfig(offset - kDevice, data);
  }
}

// On a vCPU's thread, with no lock held, which WriteRegisters() may be called with.
void VirtioPci::WriteBar(uint64_t offset, std::span<const uint8_t> data) {
  if (offset < kNotify) return WriteRegisters(offset, data);
  device_.RingDoorbell(static_cast<unsigned>((offset - kNotify) / kNotifyMultiplier));
}

// With mutex_ held.
uint32_t VirtioPci::ReadField(uint64_t field) {
  const unsigned queue = queue_select_;
  const bool exists = queue < device_.queue_count();
  switch (static_cast<Common>(field)) {
    case Common::device_feature_select:
      return device_feature_select_;
    case Common::device_feature:
      return Half(device_.offered_features(), device_feature_select_);
    case Common::driver_feature_select:
      return driver_feature_select_;
    case Common::driver_feature:
      return Half(device_.driver_features(), driver_feature_select_);
    case Common::config_msix_vector:
      return config_vector_;
    case Common::num_queues:
      return device_.queue_count();
    case Common::device_status:
      return device_.status().raw();
    case Common::config_generation:
      return device_.config_generation();
    case Common::queue_select:
      return queue_select_;
    case Common::queue_size:
      return device_.layout(queue).size;  // 0: there is no such queue
    case Common::queue_msix_vector:
      return exists ? queue_vectors_[queue].load() : pci::kNoVector;
    case Common::queue_enable:
      return device_.queue_enabled(queue);
    case Common::queue_notify_off:
      return exists ? queue : 0;
    default:
      return 0;
  }
}

// A driver accesses each field as a whole, addresses also by halves (4.1.3.1); whatever else is
// read bytewise.
void VirtioPci::ReadCommon(uint64_t offset, std::span<uint8_t> data) {
  const std::lock_guard lock(mutex_);
  for (uint8_t& byte : data) {
    if (const Field* field = FindField(offset)) {
      const auto at = static_cast<uint64_t>(field->at);
      if (IsAddress(*field)) {
        const SplitQueue::Layout layout = device_.layout(queue_select_);
        const vmm::GuestPhys address = field->at == Common::queue_desc     ? layout.descriptors
                                       : field->at == Common::queue_driver ? layout.driver
                                                                           : layout.device;
        byte = vmm::ByteOf(address.value, offset - at);
      } else {
        byte = vmm::ByteOf(ReadField(at), offset - at);
      }
    }
    ++offset;
  }
}

void VirtioPci::WriteAddress(uint64_t offset, std::span<const uint8_t> data) {
  SplitQueue::Layout layout = device_.layout(queue_select_);
  vmm::GuestPhys* const addresses[] = {&layout.descriptors, &layout.driver, &layout.device};
  constexpr auto kFirst = static_cast<uint64_t>(Common::queue_desc);
  for (const uint8_t byte : data) {
    if (offset >= pci::kCommonSize) break;
    vmm::GuestPhys& address = *addresses[(offset - kFirst) / 8];
    address.value = vmm::WithByte(address.value, offset % 8, byte);
    ++offset;
  }
  device_.SetLayout(queue_select_, layout);
}

void VirtioPci::WriteCommon(uint64_t offset, std::span<const uint8_t> data) {
  const Field* field = FindField(offset);
  if (field == nullptr) return;
  const std::lock_guard lock(mutex_);
  if (IsAddress(*field)) return WriteAddress(offset, data);
  if (offset != static_cast<uint64_t>(field->at) || data.size() != field->size) return;
  const auto value = static_cast<uint32_t>(LoadLittleEndian(data));
  const unsigned queue = queue_select_;
  switch (field->at) {
    case Common::device_feature_select:
      device_feature_select_ = value;
      break;
    case Common::driver_feature_select:
      driver_feature_select_ = value;
      break;
    case Common::driver_feature:
      if (driver_feature_select_ < 2) {
        const uint64_t mask = uint64_t{0xFFFF'FFFF} << (32 * driver_feature_select_);
        device_.SetDriverFeatures((device_.driver_features() & ~mask) |
                                  uint64_t{value} << (32 * driver_feature_select_));
      }
      break;
    case Common::config_msix_vector:
      config_vector_ = CheckedVector(value);
      break;
    case Common::device_status:
      if (value == 0) ForgetSelections();
      device_.SetStatus(static_cast<uint8_t>(value));
      break;
    case Common::queue_select:
      queue_select_ = static_cast<uint16_t>(value);
      break;
    case Common::queue_size: {
      SplitQueue::Layout layout = device_.layout(queue);
      layout.size = static_cast<uint16_t>(value);
      device_.SetLayout(queue, layout);
      break;
    }
    case Common::queue_msix_vector:
      if (queue < device_.queue_count()) queue_vectors_[queue] = CheckedVector(value);
      break;
    case Common::queue_enable:
      if (value == 1) device_.EnableQueue(queue);
      break;
    default:
      break;
  }
}

// A reset takes back the interrupt and what it was about. 2.4
void VirtioPci::ForgetSelections() {
  device_feature_select_ = driver_feature_select_ = 0;
  queue_select_ = 0;
  config_vector_ = pci::kNoVector;
  for (auto& vector : queue_vectors_) vector = pci::kNoVector;
  TakeIsr();
}

void VirtioPci::PowerOnReset() {
  device_.PowerOnReset();
  {
    const std::lock_guard lock(mutex_);
    ForgetSelections();
  }
  ResetEndpoint();
}

VirtioPciState VirtioPci::SaveState() const {
  VirtioPciState state;
  state.endpoint = SaveEndpoint();
  state.device = device_.SaveCommon();
  const std::scoped_lock lock(mutex_, isr_mutex_);
  state.isr = isr_;
  state.device_feature_select = device_feature_select_;
  state.driver_feature_select = driver_feature_select_;
  state.queue_select = queue_select_;
  state.config_vector = config_vector_;
  for (unsigned i = 0; i < VirtioDevice::kMaxQueues; ++i)
    state.queue_vectors[i] = queue_vectors_[i];
  return state;
}

vmm::Result<void> VirtioPci::LoadState(const VirtioPciState& state) {
  const auto possible = [&](uint16_t vector) {
    return vector == pci::kNoVector || CheckedVector(vector) == vector;
  };
  bool good = state.version == VirtioPciState::kVersion && possible(state.config_vector) &&
              (state.isr & ~3) == 0;
  for (const uint16_t vector : state.queue_vectors) good = good && possible(vector);
  if (!good) {
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     fmt::format("{}: its saved registers are damaged", name()));
  }
  {
    const std::scoped_lock lock(mutex_, isr_mutex_);
    isr_ = state.isr;
    device_feature_select_ = state.device_feature_select;
    driver_feature_select_ = state.driver_feature_select;
    queue_select_ = state.queue_select;
    config_vector_ = state.config_vector;
    for (unsigned i = 0; i < VirtioDevice::kMaxQueues; ++i) {
      queue_vectors_[i] = state.queue_vectors[i];
    }
  }
  return device_.LoadCommon(state.device).and_then([&] { return LoadEndpoint(state.endpoint); });
}

}  // namespace virtio
