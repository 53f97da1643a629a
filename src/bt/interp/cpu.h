// One virtual CPU: registers, soft TLB, decoded blocks. All on its own thread but what says other.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "bt/interp/block_cache.h"
#include "bt/interp/debug_registers.h"
#include "bt/interp/debugger.h"
#include "bt/interp/event_kind.h"
#include "bt/interp/flags.h"
#include "bt/interp/halt_poll.h"
#include "bt/interp/op.h"
#include "bt/interp/op_cache.h"
#include "bt/interp/registers.h"
#include "bt/interp/tier.h"
#include "bt/interp/tlb.h"
#include "vmm/core/accel/accelerator.h"
#include "vmm/core/accel/instruction_schedule.h"
#include "vmm/core/irq/local_apic.h"
#include "vmm/core/state/cpu_state.h"
#include "vmm/core/time/pvclock.h"

namespace bt {

class InterpreterVm;
struct PeekedPage;

class Cpu final : public vmm::Vcpu, private vmm::CountedVcpu, private vmm::LocalApic::Host {
 public:
  Cpu(InterpreterVm& vm, unsigned id);
  ~Cpu() override;
  // A processor stands in front of a reserved range of addresses, where a translator has its code:
  // so the code reaches the registers relative to RIP.
  static void* operator new(size_t size);
  static void operator delete(void* memory);
  static constexpr size_t kWindowBytes = 64 * vmm::kMiB;
  void* Window();

  // vmm::Vcpu
  vmm::RunResult Run() override;
  void Kick() override;
  // Executes one instruction, or the first of its parts when it is a long repeat, without looking
  // at interrupts. A fault is left pending, undelivered, in the saved state.
  void Step();
  // For a state that another engine can't go on from: delivers what is pending in it, or else
  // executes one instruction and delivers its exception. No other interrupt is looked at. False:
  // triple fault. Between EnterGuest() and LeaveGuest().
  bool FinishOne();
  // Sets what one instruction in user code depends on, leaving system state and TLB alone: quick
  // enough to be called for each of many million cases.
  void ResetForTest(const std::array<uint64_t, 16>& gpr, uint64_t rip, uint64_t rflags,
                    const std::array<uint8_t, 512>& fx);
  // Runs from RIP on as the tier above does once the block there is hot. False: it has no code.
  bool RunHotForTest();
  const TlbBank& BankForTest(View view) { return banks_.bank(view); }
  vmm::Result<void> Save(vmm::CpuState& state) override;
  vmm::Result<void> Load(const vmm::CpuState& state) override;
  void SetDebugStep(vmm::DebugStep step) override;
  vmm::Statistics Statistics() const override;

  // ---- Registers. A register operand is a byte offset into r, so that AH is one byte past AL.
  template <class T>
  T Reg(uint8_t offset) const {
    T value;
    std::memcpy(&value, reinterpret_cast<const char*>(r) + offset, sizeof(T));
    return value;
  }
  template <class T>
  void SetReg(uint8_t offset, T value) {
    if constexpr (sizeof(T) == 4) {  // 32-bit results clear bits 63:32. [SDM 1] 3.4.1.1
      const uint64_t wide = static_cast<uint32_t>(value);
      std::memcpy(reinterpret_cast<char*>(r) + offset, &wide, 8);
    } else {
      std::memcpy(reinterpret_cast<char*>(r) + offset, &value, sizeof(T));
    }
  }
  uint64_t& gpr(vmm::Gpr reg) { return r[static_cast<unsigned>(reg)]; }

  // ---- Exceptions: all return false, so that a handler can `return cpu.Raise(...)`.
  bool Raise(uint8_t vector) { return RaiseEvent(vector, false, 0); }
  bool Raise(uint8_t vector, uint32_t error) { return RaiseEvent(vector, true, error); }
  bool RaisePageFault(uint64_t linear, uint32_t error) {
    cr2_ = linear;
    return RaiseEvent(kPF, true, error);
  }

  // ---- Memory. False: an exception was raised. `stack` chooses #SS for a non-canonical address.
  template <class T>
  bool Load(uint64_t linear, T& value, bool stack = false) {
    const TlbEntry& entry = tlb_->read.At(linear);
    if (__builtin_expect((linear ^ entry.tag) <= vmm::kPageSize - sizeof(T), 1)) {
      value = LoadHost<T>(reinterpret_cast<const void*>(entry.page + (linear ^ entry.tag)));
      return true;
    }
    return LoadSlow(linear, &value, sizeof(T), stack, view_);
  }
  template <class T>
  bool Store(uint64_t linear, T value, bool stack = false) {
    if (void* host = WritePointer(linear, sizeof(T))) {
      StoreHost<T>(host, value);
      return true;
    }
    return StoreSlow(linear, &value, sizeof(T), stack, view_);
  }
  // Host address for a read-modify-write that the TLB allows at once, else null.
  void* WritePointer(uint64_t linear, unsigned size) {
    const TlbEntry& entry = tlb_->write.At(linear);
    if (__builtin_expect((linear ^ entry.tag) <= vmm::kPageSize - size, 1)) {
      return reinterpret_cast<void*>(entry.page + (linear ^ entry.tag));
    }
    return nullptr;
  }
  // Reads, applies `change(T old) -> T`, writes; atomically with kLock.
  template <class T, class F>
  bool Modify(uint64_t linear, bool lock, bool stack, F&& change);

  // Descriptor tables, TSS and frames are looked at with supervisor rights whatever the CPL.
  bool LoadSystem(uint64_t linear, void* out, unsigned size);
  bool StoreSystem(uint64_t linear, const void* in, unsigned size);
  template <class T>
  bool LoadSystem(uint64_t linear, T& value) {
    return LoadSystem(linear, &value, sizeof(T));
  }
  template <class T>
  bool StoreSystem(uint64_t linear, T value) {
    return StoreSystem(linear, &value, sizeof(T));
  }

  // Linear address of the memory operand; false: a limit or type violation was raised.
  bool Address(const Op& op, unsigned size, Access access, uint64_t& linear) {
    const uint64_t ea = Effective(op);
    if (__builtin_expect(op.mode & Op::kPlain64, 1)) {
      linear = ea + seg_base_[op.seg];
      return true;
    }
    return AddressSlow(op, ea, size, access, linear);
  }
  // The same for an effective address that the caller worked out.
  bool AddressAt(const Op& op, uint64_t ea, unsigned size, Access access, uint64_t& linear) {
    if (op.mode & Op::kPlain64) {
      linear = ea + seg_base_[op.seg];
      return true;
    }
    return AddressSlow(op, ea, size, access, linear);
  }
  uint64_t Effective(const Op& op) const {
    return r[op.base] + (r[op.index] << op.shift) + static_cast<int64_t>(op.disp);
  }
  template <class T>
  bool LoadOperand(const Op& op, T& value) {
    uint64_t linear;
    return Address(op, sizeof(T), Access::kRead, linear) &&
           Load(linear, value, op.mode & Op::kStack);
  }
  template <class T>
  bool StoreOperand(const Op& op, T value) {
    uint64_t linear;
    return Address(op, sizeof(T), Access::kWrite, linear) &&
           Store(linear, value, op.mode & Op::kStack);
  }
  // segment:offset with limit and type checks (outside 64-bit mode).
  bool SegmentAddress(vmm::Seg segment, uint64_t offset, unsigned size, Access access,
                      uint64_t& linear);

  // Translation with all checks; sets A and D. On success *phys is the guest-physical address.
  bool Translate(uint64_t linear, Access access, View view, uint64_t* phys, bool* global_page);
  // What a TLB may hold of a page, in long mode, by the page tables alone: nothing is changed, and
  // false if anything stands in the way. [SDM 3A] 4.10.2
  bool PeekPage(uint64_t linear, PeekedPage* page) const;
  // Whether the page tables have anything in 2 MiB pieces of `size` bytes from `first`.
  bool MayBeMapped(uint64_t first, uint64_t size) const;
  bool LoadSlow(uint64_t linear, void* out, unsigned size, bool stack, View view);
  bool StoreSlow(uint64_t linear, const void* in, unsigned size, bool stack, View view);
  void FlushTlb();
  void FlushTlbPage(uint64_t linear);
  void SelectAddressSpace(bool keep);
  bool InvalidatePcid(uint64_t type, uint64_t descriptor, uint64_t linear);

  // ---- Flags
  uint64_t Rflags() const { return (rflags_ & ~kArithmeticFlags) | FlagsToEflags(flags_) | 2; }
  // Sets all flags; the caller has masked what may not change.
  void SetRflags(uint64_t value);
  bool In64() const { return code_size_ == CodeSize::k64; }
  bool RealMode() const { return !(cr0_ & cr0::PE); }
  bool V86() const { return rflags_ & eflags::VM; }
  bool ProtectedMode() const { return (cr0_ & cr0::PE) && !(rflags_ & eflags::VM); }
  bool LongMode() const { return efer_ & efer::LMA; }
  bool PaePaging() const { return (cr0_ & cr0::PG) && (cr4_ & cr4::PAE) && !LongMode(); }
  unsigned Iopl() const { return (rflags_ >> 12) & 3; }

  // ---- Stack: one push or pop of `bytes` with the stack's address size.
  bool Push(uint64_t value, unsigned bytes);
  bool Pop(uint64_t& value, unsigned bytes);
  // Address of offset `delta` from the stack pointer, and the pointer moved.
  uint64_t StackOffset(int64_t delta) const {
    return (r[4] & ~sp_mask_) | ((r[4] + delta) & sp_mask_);
  }
  bool StackAddress(uint64_t offset, unsigned size, Access access, uint64_t& linear);
  // Sets the part of RSP that the stack size covers.
  void SetStackPointer(uint64_t value) {
    if (sp_mask_ == 0xffff)
      r[4] = (r[4] & ~0xffffull) | (value & 0xffff);
    else
      r[4] = value & sp_mask_;
  }

  // ---- Segments (segment.cc)
  // Loads a data segment register in the current mode with all checks.
  bool LoadSegment(vmm::Seg segment, uint16_t selector);
  void SetSegment(vmm::Seg segment, const vmm::SegmentState& state);
  void LoadRealSegment(vmm::Seg segment, uint16_t selector);
  bool FetchDescriptor(uint16_t selector, uint64_t& low, uint64_t* high, uint8_t vector);
  static vmm::SegmentState ParseDescriptor(uint16_t selector, uint64_t low);
  bool SetAccessed(uint16_t selector, uint64_t low);
  void SetCpl(uint8_t cpl);
  void UpdateMode();  // after CR0, CR4, EFER, CS, SS or AC changed

  // ---- Control transfer (far.cc, event.cc)
  bool FarJump(uint16_t selector, uint64_t offset, unsigned operand_bits);
  bool FarCall(uint16_t selector, uint64_t offset, unsigned operand_bits);
  bool FarReturn(unsigned operand_bits, unsigned release);
  bool InterruptReturn(unsigned operand_bits);
  // The stack for privilege level `cpl` (or interrupt stack `ist`) from the TSS.
  bool InnerStack(unsigned cpl, unsigned ist, vmm::SegmentState& ss, uint64_t& sp);
  // Pushes onto a stack that is not yet the current one.
  struct StackFrame {
    Cpu& cpu;
    const vmm::SegmentState& ss;
    uint64_t sp, mask;
    unsigned bytes;
    uint16_t error;  // of #SS: the selector of a new stack, 0 for the current one
    View view = View::kSupervisor;
    bool HasRoom(unsigned count);  // for so many pushes; else #SS
    bool Push(uint64_t value);
    uint64_t Next() const { return (sp & ~mask) | ((sp - bytes) & mask); }
    bool InLimit(uint64_t offset) const;
  };
  // To the task of `selector`; false: a fault was raised, in the old task or in the new one.
  bool SwitchTask(uint16_t selector, TaskSwitch reason, bool has_error, uint32_t error);
  // Delivers through the IVT or IDT; false: a fault came up on the way (it stands in fault_).
  bool DeliverEvent(uint8_t vector, EventKind kind, bool has_error, uint32_t error);
  // Delivers fault_, escalating to #DF and shutdown. False: triple fault.
  bool DeliverFault();
  // The same where it meets no other fault; false: it does, and fault_ is as it was.
  bool TryDeliverFault();

  // ---- V86 mode and the virtual interrupt flag (v86.cc)
  bool VirtualIf() const;
  bool ClearIf();
  bool SetIf();
  bool VirtualFlagsAllowed(unsigned bytes);
  uint64_t VirtualFlags() const;
  bool SetVirtualFlags(uint64_t value);

  // ---- System state
  bool ReadMsr(uint32_t index, uint64_t& value);
  bool WriteMsr(uint32_t index, uint64_t value);
  uint64_t* StoredMsr(uint32_t index, bool* canonical);
  bool WriteCr0(uint64_t value);
  bool WriteCr3(uint64_t value);
  bool WriteCr4(uint64_t value);
  bool LoadPdptes(uint64_t cr3);
  uint64_t ReadTsc() const;
  void SetTscOffset(uint64_t offset);
  bool IoAllowed(uint16_t port, unsigned size);  // IOPL and the TSS bitmap; raises #GP(0)
  bool ReadDebugRegister(unsigned index, uint64_t& value);
  bool WriteDebugRegister(unsigned index, uint64_t value);
  void UpdateBreakpoints(bool watched_before);
  // Notes a #DB trap for the end of the instruction. `dr6_bits` say why; 0: there is none.
  void PostDebugTrap(uint64_t dr6_bits);
  void MergeDebugTraps();  // those that MOV SS holds back, into the #DB that comes now
  // The instruction ends in a single-step trap, whatever EFLAGS.TF was when it began.
  void SetStepTrap(bool on) {
    step_trap_ = false;
    if (on) PostDebugTrap(dr6::BS);
  }
  // A repeated instruction must look up after each iteration, or after this one.
  bool stepping() const { return step_trap_ || debugger_.looks_closely(); }
  bool debug_trap_pending() const { return pending_debug_ != 0 || debugger_.stop_due(); }
  void PortRead(uint16_t port, void* data, unsigned size);
  void PortWrite(uint16_t port, const void* data, unsigned size);

  // The guest may take interrupts again, or CR8 changed: look before the next block.
  void RecheckInterrupts() { recheck_ = true; }
  // The instruction after this one runs before any interrupt; after MOV SS or POP SS, before debug
  // traps as well. The second of two such in a row casts no shadow. [SDM 3A] 6.8.3
  void InhibitInterrupts(bool mov_ss) {
    (mov_ss ? mov_ss_shadow_ : sti_shadow_) = !mov_ss || !after_mov_ss_;
    recheck_ = true;
  }
  void Spin();  // PAUSE: every so often another vCPU gets the host's processor
  void EnterHalt() {
    halted_ = true;
    recheck_ = true;
  }

  // ---- Called by InterpreterVm from other threads, the world stopped
  void DropWriteEntries(uint64_t host_page);
  void OnDebugPointsChanged();
  // Any thread: blocks that overlap [phys, phys+size) are stale, and go before the next block runs.
  void PostInvalidation(uint64_t phys, uint64_t size);
  void SetAttention(uint32_t bits);
  vmm::LocalApic& apic() { return *apic_; }
  unsigned id() const { return id_; }
  std::atomic<bool>& inside() { return inside_; }

  static constexpr uint32_t kAttentionKick = 1, kAttentionApic = 2, kAttentionInvalidate = 4,
                            kAttentionStopWorld = 8, kAttentionNmi = 16, kAttentionFlush = 32;

  // ---- State that handlers touch directly: the hot part first.
  alignas(64) uint64_t r[kSlots] = {};
  Flags flags_ = 0;
  uint8_t cpl_ = 0;
  CodeSize code_size_ = CodeSize::k16;
  View view_ = View::kSupervisor;
  TlbBank* tlb_ = nullptr;
  std::array<TlbBank*, kViews> views_{};  // by view_
  uint64_t seg_base_[7] = {};
  uint64_t sp_mask_ = 0xffff;
  uint64_t rflags_ = 2;  // without the arithmetic flags, which are in flags_
  Fault fault_;
  uint64_t key_ = 0;                // what a block lookup depends on besides the linear address
  std::array<uint64_t, 2> keys_{};  // what key_ is for CPL 0-2 and for CPL 3
  uint64_t cr0_ = 0x60000010, cr2_ = 0, cr3_ = 0, cr4_ = 0, xcr0_ = 1;
  uint64_t efer_ = 0;
  std::array<uint64_t, 4> pdpte_{};
  std::array<vmm::SegmentState, 6> seg_{};
  vmm::SegmentState ldtr_, tr_;
  vmm::DescriptorTable gdtr_, idtr_;
  DebugRegisters debug_;
  Debugger debugger_;
  vmm::CpuState::Msrs msr_;
  uint64_t tsc_offset_ = 0;  // guest TSC = clock TSC + offset
  alignas(64) vmm::XsaveArea fpu_;
  InterpreterVm& vm_;
  uint64_t instructions_ = 0, blocks_built_ = 0, tlb_misses_ = 0;
  bool nmi_masked_ = false;  // until IRET
  bool incomplete_ = false;  // the op that just ran did not complete its instruction

 private:
  friend class BlockBuilder;
  friend class Translator;
  friend class Cell;
  friend class CellPages;
  friend class CellTier;
  struct JumpCacheEntry {
    uint64_t linear = 0, key = ~0ull;
    Block* block = nullptr;
  };
  static constexpr unsigned kJumpCacheSize = 4096;
  // Of all vCPUs together; a translator loses more with its blocks than the interpreter does.
  static constexpr size_t kBlockBudget = 8 * vmm::kMiB, kTieredBlockBudget = 16 * vmm::kMiB,
                          kTieredOpBudget = 5 * vmm::kMiB;

  template <class T>
  static T LoadHost(const void* host);
  template <class T>
  static void StoreHost(void* host, T value);

  bool RaiseEvent(uint8_t vector, bool has_error, uint32_t error) {
    fault_ = {true, vector, has_error, error, false};
    return false;
  }
  bool AddressSlow(const Op& op, uint64_t ea, unsigned size, Access access, uint64_t& linear);
  // Brings the page of a write that stays in one page into the TLB; false: a fault was raised.
  bool PrepareModify(uint64_t linear, unsigned size, bool stack);
  bool ModifySlow(uint64_t linear, unsigned size, void* value,
                  void (*change)(void* context, void* value), void* context, bool lock);
  // One page's worth of an access outside the fast path. `data` is read or written.
  bool AccessPage(uint64_t linear, void* data, unsigned size, Access access, View view);
  bool TranslateCanonical(uint64_t linear, Access access, bool stack, View view, uint64_t* phys);
  void PhysicalRead(uint64_t phys, void* data, unsigned size);
  void PhysicalWrite(uint64_t phys, const void* data, unsigned size);
  void NoteRamWrite(uint64_t phys, unsigned size);
  static void StoreBytes(uint8_t* host, const void* data, unsigned size);
  bool Walk(uint64_t linear, Access access, View view, uint64_t* phys, bool* global_page);
  // Looks for the LinearRange around a global page that supervisors read.
  void LearnRange(uint64_t linear);
  // Where the page is in the host; null: it may not be in the TLB.
  uint8_t* InstallTlb(uint64_t linear, uint64_t phys, Access access, View view, bool global);

  Block* NextBlock();
  Block* LookupBlock(uint64_t linear);
  void MakeRoomForBlock();
  bool EnsureOps(Block& block);
  bool TranslateSecondPage(uint64_t linear, uint64_t* phys);
  void Execute(Block* block);
  // After a fault: RIP back on the instruction.
  void Rewind(const Op& op) {
    if (!fault_.in_new_task) r[kRip] -= op.length;
  }
  void RunCarefully();
  void EndDebuggerStep();
  void DeliverDebugTrap();
  bool DebugRegisterUsable(unsigned index);
  bool RaiseDebugFault(uint64_t dr6_bits);
  // The access has been made: does a watchpoint match?
  void NoteAccess(uint64_t linear, unsigned size, bool write) {
    if (__builtin_expect(debug_.data(), 0)) PostDebugTrap(debug_.DataHits(linear, size, write));
    if (__builtin_expect(debugger_.points().has_data(), 0)) {
      debugger_.OnAccess(linear, size, write);
      recheck_ |= debugger_.stop_due();
    }
  }
  bool Aligned(uint64_t linear, unsigned size, Access access);
  void LoadRegisters(const vmm::CpuState& state);
  enum class Next : uint8_t { kGoOn, kReturn, kSleep, kTurnOver };  // the last two: in turns
  Next HandleAttention(vmm::RunResult& result);
  Next RunLoop(vmm::RunResult& result);
  // Something to look at, or the turn is over: RunCarefully() leaves its block.
  bool CountedStop() const {
    return instructions_ >= turn_end_ || (attention_.load(std::memory_order_relaxed) | recheck_);
  }
  void RunInTurns(vmm::InstructionSchedule& schedule, vmm::RunResult& result);
  uint64_t Retired() const override { return instructions_; }
  bool HasEvents() const override { return attention_.load() != 0 || recheck_; }
  void ShortenTurn() override { turn_end_ = 0; }
  void OnEventDelivered();
  bool TakeEvents();  // NMI, interrupts; true when the processor is awake
  void ForgetCode();  // all decoded blocks: memory may have changed unseen
  void TakeInitAndSipi();
  void HandleInit();
  void RunPostedInvalidations();
  void ForgetBlocks();
  void UpdateKey() {
    for (const bool user : {false, true})
      keys_[user] = (banks_.epoch(user) << 4) | (static_cast<uint64_t>(code_size_) << 1) | user;
    key_ = keys_[cpl_ == 3];
  }
  void OnApicAttention() override { SetAttention(kAttentionApic); }
  bool CallInward(vmm::SegmentState cs, uint64_t cs_low, uint64_t offset, unsigned frame,
                  unsigned parameters);
  bool CheckReturnCode(uint16_t selector, vmm::SegmentState& cs, uint64_t& low);
  bool CheckReturnStack(uint16_t selector, unsigned rpl, bool to_64, vmm::SegmentState& ss);
  void DropInnerSegments();
  bool PeekStack(unsigned delta, unsigned bytes, uint64_t& value);
  bool ReturnToV86(uint64_t offset, uint16_t cs, uint64_t flags);
  bool ReturnInV86(unsigned bytes, uint64_t offset, uint16_t cs, uint64_t flags);
  bool RedirectInterrupt(uint8_t vector, bool* redirected);
  bool FindTask(uint16_t selector, bool busy, vmm::SegmentState& task);
  bool EnterTask(const uint16_t (&selectors)[6], uint16_t ldt, const uint32_t* cr3);
  bool LoadTaskSegment(vmm::Seg segment, uint16_t selector);
  // Whether system data may be written; raises the page fault if not.
  bool ProbeSystem(uint64_t linear, unsigned size);
  uint64_t LinearMask() const { return LongMode() ? ~0ull : 0xffffffff; }
  struct InterruptGate {
    vmm::SegmentState cs;
    uint64_t cs_low = 0, offset = 0;
    unsigned bytes = 0, ist = 0;
    uint8_t cpl = 0;
    bool interrupt = false, task = false;  // task: `cs.selector` is that of a TSS
  };
  bool ResolveInterruptGate(uint8_t vector, EventKind kind, InterruptGate& gate);
  void EnterHandler(const InterruptGate& gate);
  bool DeliverReal(uint8_t vector);
  bool DeliverProtected(uint8_t vector, EventKind kind, bool has_error, uint32_t error);
  bool DeliverLong(uint8_t vector, EventKind kind, bool has_error, uint32_t error);

  vmm::GuestMemory& memory_;
  uint64_t reserved_address_bits_ = 0;  // of page-table entries, by the physical address width
  unsigned id_;
  std::unique_ptr<vmm::LocalApic> apic_;
  std::unique_ptr<vmm::PvClock> pvclock_;
  BlockCache blocks_;
  OpCache op_cache_;
  Tlb banks_;
  std::unique_ptr<Tier> tier_;  // null: blocks run in the interpreter
  std::unique_ptr<JumpCacheEntry[]> jump_cache_;
  Block* last_block_ = nullptr;
  uint64_t turn_end_ = ~0ull;  // of instructions_
  bool recheck_ = true, sti_shadow_ = false, mov_ss_shadow_ = false;
  bool halted_ = false, wait_for_sipi_ = false, nmi_pending_ = false;
  static constexpr uint8_t kOneInstruction = 1, kBreakpoints = 2, kCounted = 4, kNearLimit = 8,
                           kDebugger = 16;
  uint8_t careful_ = 0;         // why Run() may not simply run whole blocks
  uint64_t pending_debug_ = 0;  // #DB traps as bits of DR6; only MOV SS keeps them for one more
  bool step_trap_ = false;      // the instruction under way ends in a single-step trap
  bool after_mov_ss_ = false;   // the instruction under way follows MOV SS or POP SS
  uint8_t spins_ = 0;
  bool dead_halt_told_ = false;   // RunExit::kHalted was given for this halt
  int acknowledged_vector_ = -1;  // taken from the controller by another engine, not delivered yet

  std::atomic<uint32_t> attention_{0};
  HaltPoll halt_poll_;
  std::atomic<bool> inside_{false};
  std::mutex posted_mutex_;
  std::vector<std::pair<uint64_t, uint64_t>> posted_;
};

}  // namespace bt

#include "bt/interp/cpu_memory.h"
