// The run loop: find the next block, run its ops, look for events between blocks.
#include <sys/mman.h>

#include <new>
#include <span>
#include <thread>
#include <utility>

#include "bt/interp/cpu.h"
#include "bt/interp/interpreter.h"

namespace bt {

Cpu::Cpu(InterpreterVm& vm, unsigned id)
    : debugger_(vm.debug_points()),
      vm_(vm),
      memory_(vm.parts().memory),
      id_(id),
      blocks_((vm.has_tier() ? kTieredBlockBudget : kBlockBudget) / vm.parts().cpu_count,
              // In lock-step the translator wants them all.
              vm.has_tier() && !vm.parts().lockstep ? kTieredOpBudget / vm.parts().cpu_count : 0),
      jump_cache_(new JumpCacheEntry[kJumpCacheSize]) {
  vmm::LocalApic::Host& host = *this;
  apic_ = std::make_unique<vmm::LocalApic>(id, vm.parts().clock, vm.parts().timers, vm.apic_bus(),
                                           host);
  pvclock_ = std::make_unique<vmm::PvClock>(vm.parts().clock, vm.parts().memory);
  const unsigned physical_bits = vm.parts().cpuid.physical_address_bits();
  apic_->SetPhysicalAddressBits(physical_bits);
  reserved_address_bits_ = ~((1ull << physical_bits) - 1);
  vmm::CpuState reset;
  vmm::ResetCpuState(reset, id, vm.parts().cpuid.signature());
  LoadRegisters(reset);
  if (vm.parts().schedule) vm.parts().schedule->SetVcpu(id, this);
  tier_ = vm_.MakeTier(*this);
  blocks_.SetTier(tier_.get());
}

namespace {

size_t WholePages(size_t bytes) {
  return (bytes + vmm::kPageSize - 1) & ~(vmm::kPageSize - 1);
}

}  // namespace

void* Cpu::operator new(size_t size) {
  void* memory = mmap(nullptr, WholePages(size) + kWindowBytes, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, WholePages(size), PROT_READ | PROT_WRITE) != 0)
    throw std::bad_alloc();
  return memory;
}

void Cpu::operator delete(void* memory) {
  munmap(memory, WholePages(sizeof(Cpu)) + kWindowBytes);
}

void* Cpu::Window() {
  return reinterpret_cast<char*>(this) + WholePages(sizeof(Cpu));
}

Cpu::~Cpu() {
  if (vm_.parts().schedule) vm_.parts().schedule->SetVcpu(id_, nullptr);
  vm_.Forget(this);
}

void Cpu::Kick() {
  SetAttention(kAttentionKick);
  if (vm_.parts().schedule) vm_.parts().schedule->Interrupt(id_);
}

void Cpu::SetAttention(uint32_t bits) {
  if ((attention_.fetch_or(bits) & bits) == bits) return;
  attention_.notify_one();
  if (tier_) tier_->OnAttention();
}

vmm::RunResult Cpu::Run() {
  vmm::RunResult result;
  if (vm_.parts().schedule) {
    RunInTurns(*vm_.parts().schedule, result);
  } else {
    RunLoop(result);
  }
  return result;
}

Cpu::Next Cpu::RunLoop(vmm::RunResult& result) {
  vm_.EnterGuest(*this);
  // What blocks do not look at; a tier sees to RF.
  const uint64_t closely = tier_ ? eflags::TF : eflags::TF | eflags::RF;
  Next next = Next::kReturn;
  for (;;) {
    if (__builtin_expect(attention_.load(std::memory_order_relaxed) | recheck_, 0)) {
      next = HandleAttention(result);
      if (next != Next::kGoOn) break;
    }
    if (__builtin_expect(!fault_.active, 1)) {  // delivering an interrupt may have raised one
      if (__builtin_expect((rflags_ & closely) | careful_, 0)) {
        RunCarefully();
      } else if (Block* block = NextBlock()) {
        if (tier_)
          tier_->Run(block);
        else
          Execute(block);
      }
    }
    if (__builtin_expect(fault_.active, 0)) {
      last_block_ = nullptr;
      if (!DeliverFault()) {
        result.exit = vmm::RunExit::kShutdown;
        next = Next::kReturn;
        break;
      }
    }
  }
  vm_.LeaveGuest(*this);
  return next;
}

// Under a schedule every event is looked at between two instructions (kCounted), so that it comes
// at the same one in every run.
void Cpu::RunInTurns(vmm::InstructionSchedule& schedule, vmm::RunResult& result) {
  for (Next next = Next::kGoOn; next != Next::kReturn;) {
    const uint64_t budget = schedule.BeginTurn(id_);
    if (budget == 0) {
      if (!(attention_.fetch_and(~kAttentionKick) & kAttentionKick)) continue;
      result.exit = vmm::RunExit::kInterrupted;
      return;
    }
    turn_end_ = instructions_ + budget;
    recheck_ = true;
    next = RunLoop(result);
    schedule.EndTurn(id_, next == Next::kSleep);
  }
}

void Cpu::Step() {
  last_block_ = nullptr;
  careful_ |= kNearLimit;
  Block* block = NextBlock();
  while (block && !EnsureOps(*block)) block = NextBlock();
  careful_ &= ~kNearLimit;
  if (!block) return;
  const Op& op = block->ops[0];
  rflags_ &= ~eflags::RF;
  r[kRip] += op.length;
  op.fn(*this, op);
  if (fault_.active) Rewind(op);
  ++instructions_;
}

bool Cpu::FinishOne() {
  if (!fault_.active && acknowledged_vector_ >= 0) {
    DeliverEvent(static_cast<uint8_t>(std::exchange(acknowledged_vector_, -1)),
                 EventKind::kExternal, false, 0);
  } else if (!fault_.active) {
    careful_ |= kOneInstruction;
    RunCarefully();
    if (!fault_.active && pending_debug_ && !mov_ss_shadow_) DeliverDebugTrap();
  }
  return !fault_.active || DeliverFault();
}

Block* Cpu::NextBlock() {
  const uint64_t rip = r[kRip];
  uint64_t linear = rip;
  if (!In64()) {
    if (rip > seg_[1].limit) {
      Raise(kGP, 0);
      return nullptr;
    }
    if (__builtin_expect(seg_[1].limit - rip < BlockCache::kMaxBytes, 0) &&
        !(careful_ & kNearLimit)) {
      careful_ |= kNearLimit;  // a block may run over the end of the segment
      return nullptr;
    }
    linear = (seg_base_[1] + rip) & 0xffffffff;
  }
  Block::Link* const links = last_block_ ? last_block_->links : nullptr;
  if (links) {
    for (Block::Link& link : std::span(links, 2)) {
      if (link.linear == linear && link.key == key_ && !link.target->dead) return link.target;
    }
  }
  JumpCacheEntry& entry = jump_cache_[(linear ^ (linear >> 12)) & (kJumpCacheSize - 1)];
  if (entry.linear != linear || entry.key != key_ || entry.block->dead) {
    Block* block = LookupBlock(linear);
    if (!block) return nullptr;
    entry = {linear, key_, block};  // key_ may have changed in the look-up
  }
  if (last_block_ && last_block_->links) {  // it may have gone in the look-up
    links[1] = links[0];
    links[0] = {linear, key_, entry.block};
  }
  return entry.block;
}

// Several calls rather than one in a loop: the host predicts each by itself.
void Cpu::Execute(Block* block) {
  const Op* op = block->ops;
  const auto goes_on = [&]() __attribute__((always_inline)) {
    r[kRip] += op->length;
    if (!op->fn(*this, *op)) return false;
    ++op;
    return true;
  };
  while (goes_on() && goes_on() && goes_on() && goes_on()) {
  }
  instructions_ += static_cast<uint64_t>(op - block->ops) + 1;
  if (__builtin_expect(fault_.active, 0)) Rewind(*op);
  last_block_ = block;
}

Cpu::Next Cpu::HandleAttention(vmm::RunResult& result) {
  for (;;) {
    const uint32_t bits = attention_.exchange(0);
    recheck_ = false;
    if (bits & kAttentionInvalidate) RunPostedInvalidations();
    if (bits & kAttentionFlush) FlushTlb();
    if (bits & kAttentionStopWorld) {
      vm_.LeaveGuest(*this);
      vm_.EnterGuest(*this);
    }
    if (bits & kAttentionNmi) nmi_pending_ = true;
    if (pending_debug_ && !mov_ss_shadow_) DeliverDebugTrap();
    // Debug traps that MOV SS holds back are in no CpuState: one instruction more.
    if (debugger_.stop_due() && !fault_.active && !pending_debug_) {
      SetAttention(bits & (kAttentionKick | kAttentionApic));
      recheck_ = true;
      result.exit = vmm::RunExit::kDebug;
      result.debug = debugger_.TakeStop();
      return Next::kReturn;
    }
    if ((bits & kAttentionKick) && pending_debug_) SetAttention(kAttentionKick);
    if ((bits & kAttentionKick) && !pending_debug_) {
      if (bits & ~kAttentionKick) SetAttention(bits & kAttentionApic);
      recheck_ = true;
      result.exit = vmm::RunExit::kInterrupted;
      return Next::kReturn;
    }
    if (fault_.active) {  // comes before anything else; look again in its handler
      recheck_ = true;
      return instructions_ < turn_end_ ? Next::kGoOn : Next::kTurnOver;
    }
    if (TakeEvents()) {
      if (debugger_.stop_due()) continue;
      // Falling asleep comes before the end of a turn: turns must not show.
      if (instructions_ < turn_end_) return Next::kGoOn;
      recheck_ = true;
      return Next::kTurnOver;
    }
    // Asleep: halted, or waiting for SIPI. Wake-ups set an attention bit.
    if (halted_ && !wait_for_sipi_ && !(rflags_ & eflags::IF) && !dead_halt_told_) {
      dead_halt_told_ = true;
      recheck_ = true;
      result.exit = vmm::RunExit::kHalted;
      return Next::kReturn;
    }
    if (vm_.parts().schedule) return Next::kSleep;
    vm_.LeaveGuest(*this);
    halt_poll_.Wait(attention_);
    vm_.EnterGuest(*this);
  }
}

// Takes what waits, in the order of [SDM 3A] 6.9. True: the processor has something to run.
bool Cpu::TakeEvents() {
  TakeInitAndSipi();
  if (wait_for_sipi_) return false;
  if (acknowledged_vector_ >= 0) {
    halted_ = dead_halt_told_ = false;
    last_block_ = nullptr;
    DeliverEvent(static_cast<uint8_t>(std::exchange(acknowledged_vector_, -1)),
                 EventKind::kExternal, false, 0);
    return true;
  }
  if (apic_->TakeNmi()) nmi_pending_ = true;
  if (sti_shadow_ || mov_ss_shadow_) {
    // Exactly one instruction before interrupts are looked at again. [SDM 3A] 6.8.3
    recheck_ = true;
    if (!halted_) {
      careful_ |= kOneInstruction;
      return true;
    }
    sti_shadow_ = mov_ss_shadow_ = false;
  }
  if (debugger_.holds_interrupts() && !halted_) return true;
  if (nmi_pending_ && !nmi_masked_) {
    nmi_pending_ = false;
    nmi_masked_ = true;
    last_block_ = nullptr;
    halted_ = dead_halt_told_ = false;
    if (DeliverEvent(kNmi, EventKind::kExternal, false, 0)) OnEventDelivered();
    return true;
  }
  if ((rflags_ & eflags::IF) && apic_->HasDeliverable()) {
    const int vector = apic_->Acknowledge();
    if (vector >= 0) {
      halted_ = dead_halt_told_ = false;
      last_block_ = nullptr;
      if (DeliverEvent(static_cast<uint8_t>(vector), EventKind::kExternal, false, 0)) {
        OnEventDelivered();
      }
      return true;
    }
  }
  return !halted_;
}

void Cpu::TakeInitAndSipi() {
  if (apic_->TakeInit()) HandleInit();
  const int sipi = apic_->TakeSipi();
  if (!wait_for_sipi_ || sipi < 0) return;
  wait_for_sipi_ = false;
  LoadRealSegment(vmm::Seg::CS, static_cast<uint16_t>(sipi << 8));
  r[kRip] = 0;
}

// A debugger that steps stops before the handler.
void Cpu::OnEventDelivered() {
  if (!debugger_.steps()) return;
  debugger_.OnStepEnd();
  recheck_ = true;
}

// INIT: the state of table 9-1, caches and most MSRs kept. [SDM 3A] 9.1
void Cpu::HandleInit() {
  vmm::CpuState state;
  vmm::ResetCpuState(state, id_, vm_.parts().cpuid.signature());
  const vmm::CpuState::Msrs kept = msr_;
  const vmm::XsaveArea kept_fpu = fpu_;
  const uint64_t kept_cr0 = cr0_ & (cr0::CD | cr0::NW);
  const uint64_t kept_tsc = tsc_offset_, kept_xcr0 = xcr0_;
  LoadRegisters(state);
  cr0_ = (cr0_ & ~(cr0::CD | cr0::NW)) | kept_cr0;
  msr_ = kept;
  fpu_ = kept_fpu;
  SetTscOffset(kept_tsc);
  xcr0_ = kept_xcr0;
  apic_->InitReset();
  halted_ = dead_halt_told_ = false;
  wait_for_sipi_ = id_ != 0;
  last_block_ = nullptr;
}

void Cpu::Spin() {
  constexpr uint8_t kSpinsPerTurn = 64;
  if (vm_.parts().cpu_count == 1 || ++spins_ % kSpinsPerTurn != 0) return;
  if (vm_.parts().schedule)
    ShortenTurn();
  else
    std::this_thread::yield();
}

void Cpu::PostInvalidation(uint64_t phys, uint64_t size) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.emplace_back(phys, size);
  }
  SetAttention(kAttentionInvalidate);
}

void Cpu::RunPostedInvalidations() {
  std::vector<std::pair<uint64_t, uint64_t>> posted;
  {
    std::lock_guard lock(posted_mutex_);
    posted.swap(posted_);
  }
  for (const auto& [phys, size] : posted) {
    blocks_.Invalidate(phys, size);
    if (!blocks_.HasCode(phys & ~(vmm::kPageSize - 1))) vm_.UnmarkCode(*this, phys);
  }
}

}  // namespace bt
