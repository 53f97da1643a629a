#include "bt/interp/interpreter.h"

#include <unistd.h>

#include <algorithm>
#include <thread>

#include "bt/interp/cpu.h"
#include "bt/interp/rescuer.h"
#include "vmm/core/base/check.h"

namespace bt {

vmm::Result<std::unique_ptr<vmm::Vm>> InterpreterAccelerator::CreateVm(const vmm::VmParts& parts) {
  auto vm = std::make_unique<InterpreterVm>(parts);
  vm->AllocateRamAhead();
  return vm;
}

vmm::Result<std::unique_ptr<vmm::InstructionRescuer>> InterpreterAccelerator::CreateRescuer(
    const vmm::VmParts& parts) {
  return std::make_unique<Rescuer>(parts);
}

InterpreterVm::InterpreterVm(const vmm::VmParts& parts, MakeTierFunction make_tier)
    : parts_(parts),
      make_tier_(make_tier),
      features_(parts.cpuid),
      apic_bus_(parts.pic, parts.ioapic),
      cpus_(parts.cpu_count, nullptr),
      code_pages_(new std::atomic<uint8_t>[PageCount(parts.memory) + 1]()),
      writers_(new std::atomic<uint8_t>[PageCount(parts.memory) + 1]()) {}

InterpreterVm::~InterpreterVm() = default;

vmm::Result<std::unique_ptr<vmm::Vcpu>> InterpreterVm::CreateVcpu(unsigned id) {
  CHECK(id < cpus_.size() && !cpus_[id] && id < 8);
  auto cpu = std::make_unique<Cpu>(*this, id);
  cpus_[id] = cpu.get();
  return cpu;
}

void InterpreterVm::AllocateRamAhead() {
  if (!vmm::RamAhead::IsWorthIt()) return;
  const vmm::GuestMemory& memory = parts_.memory;
  ram_ahead_ = std::make_unique<vmm::RamAhead>(memory.All(), memory.fd());
}

void InterpreterVm::Forget(Cpu* cpu) {
  cpus_[cpu->id()] = nullptr;
}

void InterpreterVm::ExtIntChanged() {
  apic_bus_.ExtIntChanged();
}

void InterpreterVm::InjectNmi(unsigned cpu) {
  if (cpu < cpus_.size() && cpus_[cpu]) cpus_[cpu]->apic().PostNmi();
}

// Every vCPU forgets its translations before its next block: an instruction or two later than the
// write of the port, as on the real wire.
void InterpreterVm::SetA20(bool open) {
  constexpr uint64_t kLine20 = 1u << 20;
  address_mask_.store(open ? ~uint64_t{0} : ~kLine20);
  for (Cpu* cpu : cpus_) {
    if (cpu) cpu->SetAttention(Cpu::kAttentionFlush);
  }
}

void InterpreterVm::OnHostWrite(vmm::GuestPhys start, uint64_t length) {
  for (uint64_t at = start.value, end = at + length; at < end;) {
    const uint64_t part = std::min(end - at, vmm::kPageSize - at % vmm::kPageSize);
    CodeWritten(nullptr, at, part);
    at += part;
  }
}

vmm::Result<void> InterpreterVm::SetDebugPoints(std::span<const vmm::DebugPoint> points,
                                                const vmm::CpuState&) {
  debug_points_.Set(points);
  for (Cpu* cpu : cpus_) {
    if (cpu) cpu->OnDebugPointsChanged();
  }
  return {};
}

// A vCPU returns from here only when no TLB lets the page be written, whoever marked it first:
// while another is at it, its bits in writers_ stand.
void InterpreterVm::MarkCode(Cpu& cpu, uint64_t phys) {
  const uint64_t index = PageIndex(phys);
  const uint8_t bit = static_cast<uint8_t>(1u << cpu.id());
  code_pages_[index].fetch_or(bit);
  std::atomic<uint8_t>& writers = writers_[index];
  if (writers.load() == 0) return;
  const auto host = reinterpret_cast<uint64_t>(
      parts_.memory.Host(vmm::GuestPhys(phys & ~(vmm::kPageSize - 1)), vmm::kPageSize));
  if (writers.load() & bit) {
    cpu.DropWriteEntries(host);
    writers.fetch_and(static_cast<uint8_t>(~bit));
  }
  if (writers.load() == 0) return;
  Exclusive(cpu, [&] {
    const uint8_t left = writers.exchange(0);
    for (Cpu* other : cpus_) {
      if (other && (left & 1u << other->id())) other->DropWriteEntries(host);
    }
  });
}

void InterpreterVm::UnmarkCode(const Cpu& cpu, uint64_t phys) {
  code_pages_[PageIndex(phys)].fetch_and(static_cast<uint8_t>(~(1u << cpu.id())));
}

void InterpreterVm::CodeWritten(const Cpu* writer, uint64_t phys, uint64_t size) {
  if (!parts_.memory.Host(vmm::GuestPhys(phys), size)) return;
  const uint8_t mask = CodeMask(phys);
  for (unsigned id = 0; mask >> id; ++id) {
    Cpu* cpu = (mask >> id) & 1 ? cpus_[id] : nullptr;
    if (cpu && cpu != writer) cpu->PostInvalidation(phys, size);
  }
}

// A vCPU sets inside_, then looks for a stopped world; the stopper sets world_stopped_, then looks
// at inside_: with sequential consistency one of the two sees the other.
void InterpreterVm::EnterGuest(Cpu& cpu) {
  for (;;) {
    cpu.inside().store(true);
    if (!world_stopped_.load()) return;
    LeaveGuest(cpu);
    std::unique_lock lock(park_mutex_);
    park_.wait(lock, [this] { return !world_stopped_.load(); });
  }
}

void InterpreterVm::LeaveGuest(Cpu& cpu) {
  cpu.inside().store(false);
  cpu.inside().notify_all();
}

void InterpreterVm::BeginExclusive(Cpu& self) {
  LeaveGuest(self);  // so that another stopper does not wait for us
  exclusive_mutex_.lock();
  self.inside().store(true);
  world_stopped_.store(true);
  for (Cpu* cpu : cpus_) {
    if (!cpu || cpu == &self) continue;
    cpu->SetAttention(Cpu::kAttentionStopWorld);
    cpu->inside().wait(true);
  }
}

void InterpreterVm::EndExclusive(Cpu&) {
  {
    std::lock_guard lock(park_mutex_);
    world_stopped_.store(false);
  }
  park_.notify_all();
  exclusive_mutex_.unlock();
}

}  // namespace bt
