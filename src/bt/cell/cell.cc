#include "bt/cell/cell.h"

#include <algorithm>

#include "bt/interp/fpu.h"
#include "bt/interp/interpreter.h"
#include "vmm/core/base/log.h"

namespace bt {
namespace {

constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);
constexpr uint64_t kPageFault = 14;  // of the host: [SDM 3A] 6.3.1
constexpr uint64_t kErrorWrite = 2;
constexpr uint64_t kLeft = ~0ull;  // instead of where to go on
// What FXSAVE writes of its image. [SDM 1] 10.5.1
// What a program that goes through its memory step by step does not leap over.
constexpr uint64_t kClearance = 1 * vmm::kGiB;
constexpr size_t kFxsaveBytes = 416, kYmmHighBytes = 256;

void CopyVectors(const vmm::XsaveArea& from, vmm::XsaveArea& to) {
  std::copy_n(from.bytes.begin(), kFxsaveBytes, to.bytes.begin());
  std::copy_n(from.bytes.begin() + FpuState::kYmmHigh0, kYmmHighBytes,
              to.bytes.begin() + FpuState::kYmmHigh0);
}

}  // namespace

std::unique_ptr<Cell> Cell::Create(Cpu& cpu, Bell& bell) {
  std::unique_ptr<CellProcess> process = CellProcess::Create(cpu.memory_.fd(), bell);
  if (!process) return nullptr;
  std::unique_ptr<Cell> cell(new Cell(cpu, bell, std::move(process)));
  if (!cell->process_->Start(cell->space_, cell->cell_stubs_)) return nullptr;
  constexpr unsigned kSamples = 16;
  const uint64_t before = cell->process_->CpuTime();
  for (unsigned i = 0; i < kSamples; ++i) cell->process_->MakeCalls();
  cell->payment_ = (cell->process_->CpuTime() - before) / kSamples;
  return cell;
}

CodeContext Cell::Context(CellProcess& process, Cpu& cpu) {
  CellState& state = process.state();
  // What a user's code never touches is the processor's own.
  return {state.r,
          state.flags,
          cpu.tlb_,
          state.seg_base,
          cpu.key_,
          process.wanted(),
          state.code,
          process.control().jumps,
          cpu.cr0_,
          cpu.cr4_,
          cpu.xcr0_,
          state.rflags,
          cpu.cpl_,
          state.fpu.bytes.data(),
          cpu.msr_,
          cpu.efer_,
          cpu.seg_.data(),
          cpu.view_,
          cpu.views_.data(),
          cpu.keys_.data(),
          state.instructions,
          cpu.turn_end_,
          true,
          &process.bell()};
}

Cell::Cell(Cpu& cpu, Bell& bell, std::unique_ptr<CellProcess> process)
    : Translator(cpu, left_, Context(*process, cpu), process->code(),
                 process->code() + process->shift(), CellLayout::kCodeBytes, process->tables(),
                 process->shift()),
      bell_(bell),
      process_(std::move(process)),
      pages_(cpu, *process_) {
  Clear();
}

Cell::~Cell() {
  process_->Stop();
  cpu_.blocks_.ForEach([](Block& block) {
    block.direct = nullptr;
    block.direct_parts = Numbered<Part>::kNone;
  });
  cpu_.banks_.SetMirror(nullptr);
}

Stubs Cell::EmitStubs() {
  cell_stubs_ =
      EmitCellStubs(space_, context_, process_->state(), process_->address(), CellLayout::kBytes);
  return cell_stubs_.stubs;
}

bool Cell::Suits(const Cpu& cpu) {
  if (cpu.cpl_ != 3 || !cpu.In64() || cpu.view_ != View::kUser) return false;
  if ((cpu.cr0_ & (cr0::EM | cr0::TS)) || !(cpu.cr4_ & cr4::OSFXSR)) return false;
  constexpr uint64_t kSseAndAvx = 6;
  if (cpu.vm_.features().Has(Feature::kAvx) &&
      (!(cpu.cr4_ & cr4::OSXSAVE) || (cpu.xcr0_ & kSseAndAvx) != kSseAndAvx))
    return false;
  if (cpu.rflags_ & (eflags::DF | eflags::TF)) return false;
  if (cpu.debug_.data() || cpu.debugger_.looks_closely()) return false;
  constexpr uint16_t kX87Masked = 0x3f, kX87Pending = 0x80;
  const auto get = [&cpu](unsigned offset, auto value) {
    std::memcpy(&value, cpu.fpu_.bytes.data() + offset, sizeof(value));
    return value;
  };
  return (get(FpuState::kMxcsr, uint32_t{}) & (kMxcsrMasks | kMxcsrMisaligned)) == kMxcsrMasks &&
         (get(FpuState::kFcw, uint16_t{}) & kX87Masked) == kX87Masked &&
         (get(FpuState::kFsw, uint16_t{}) & kX87Pending) == 0;
}

void Cell::Adopt() {
  cpu_.banks_.SetMirror(&pages_);
  cpu_.UpdateKey();
}

void Cell::Release() {
  LetGo();
  cpu_.banks_.SetMirror(nullptr);
  cpu_.UpdateKey();
}

bool Cell::Adopted() const {
  return cpu_.banks_.mirrored();
}

bool Cell::Collides() const {
  return near_ || cpu_.MayBeMapped(process_->address(), CellLayout::kBytes);
}

Translation* Cell::Find(const Block& block, bool) const {
  return block.direct;
}

void Cell::Keep(Block& block, bool, Translation* translation) const {
  block.direct = translation;
}

void Cell::SelectJumps() {
  context_.jumps =
      reinterpret_cast<uint64_t>(jumps_.Select(cpu_.key_)) + static_cast<uint64_t>(tables_run_);
}

void Cell::GiveState() {
  CellState& state = process_->state();
  std::copy_n(cpu_.r, 16, state.r);
  state.r[kZero] = 0;
  state.code.page = left_.page;
  state.flags = cpu_.flags_;
  std::copy(std::begin(cpu_.seg_base_), std::end(cpu_.seg_base_), state.seg_base);
  state.rflags = cpu_.rflags_;
  state.instructions = cpu_.instructions_;
  CopyVectors(cpu_.fpu_, state.fpu);
}

// False: it is none that code can have left.
bool Cell::TakeState() {
  const CellState& state = process_->state();
  // The guest's user may have written there: an address must be one, and so on.
  left_.page = static_cast<uint64_t>(static_cast<int64_t>(state.code.page << 16) >> 16) & kPageMask;
  left_.exit = state.code.exit;
  left_.site = state.code.site;
  const bool direct = exits_.Has(left_.exit);
  const bool at_site = left_.exit == CodeState::kIndirect || left_.exit == CodeState::kSite;
  if (!direct && left_.exit != CodeState::kLeft && !(at_site && sites_.Has(left_.site)))
    return false;
  done_.instructions -= cpu_.instructions_;
  std::copy_n(state.r, 16, cpu_.r);
  if (!direct) cpu_.r[kRip] = state.r[kRip];
  cpu_.flags_ = state.flags;
  cpu_.instructions_ = state.instructions;
  CopyVectors(state.fpu, cpu_.fpu_);
  done_.instructions += cpu_.instructions_;
  ++done_.exits;
  return true;
}

void Cell::Run(Block* block) {
  const Bell::Listener listener(bell_);
  if (cpu_.attention_.load() != 0) return;  // whoever sets it rings later
  const Translation* translation = Prepare(block);
  if (!translation) return;
  CellState& state = process_->state();
  GiveState();
  uint64_t entry = reinterpret_cast<uint64_t>(space_.run(translation->from(FlagHome::kMemory)));
  do {
    state.entry = entry;
    if (entry == 0 || !HandOver()) return Lose();
    healthy_ &= pages_.GoodSoFar();
    entry = state.event == static_cast<uint32_t>(CellState::Event::kFault) ? OnFault() : kLeft;
  } while (entry != kLeft);
  if (!TakeState()) return Lose();
  if (left_.exit != CodeState::kSite) return Leave();
  RunSiteHere();
}

bool Cell::HandOver() {
  ++hand_overs_;
  payments_ += 1 + process_->queued();
  const bool back = process_->HandOver();
  payments_ += process_->state().event == static_cast<uint32_t>(CellState::Event::kFault);
  return back;
}

// Null: no access is there.
const DirectAccess* Cell::FindAccess(CodeSpace::Offset offset) const {
  for (const Numbered<DirectAccess>* accesses : {&accesses_, &thunk_accesses_}) {
    const uint32_t behind =
        accesses->FirstNot([offset](const DirectAccess& access) { return access.begin <= offset; });
    if (behind != 0 && offset < (*accesses)[behind - 1].end) return &(*accesses)[behind - 1];
  }
  return nullptr;
}

// Where to go on; 0: nowhere, the fault is none of the code's.
uint64_t Cell::OnFault() {
  const CellState& state = process_->state();
  const uint64_t rip = state.fault_rip, address = state.fault_address;
  const auto offset =
      static_cast<CodeSpace::Offset>(rip - reinterpret_cast<uint64_t>(space_.run(0)));
  const DirectAccess* access = FindAccess(offset);
  if (!access) return 0;
  wanted_ = 0;
  if ((address & kPageMask) == process_->address() + CellLayout::kBell + vmm::kPageSize) {
    bell_.FoundGone();
    return reinterpret_cast<uint64_t>(space_.run(access->stub));
  }
  if (state.fault_vector == kPageFault && healthy_) {
    wanted_write_ = state.fault_error & kErrorWrite;
    if (pages_.Map(address, wanted_write_)) return reinterpret_cast<uint64_t>(space_.run(offset));
    wanted_ = address;
    near_ |= address - (process_->address() - kClearance) < CellLayout::kBytes + 2 * kClearance;
  }
  return reinterpret_cast<uint64_t>(space_.run(access->stub));
}

// Somebody has killed the process, or the guest's user has written over what is no page of its own.
// The state is that of before it ran: its program gets a fault, and the cell is not used again.
void Cell::Lose() {
  vmm::Log(
      vmm::LogLevel::kError,
      "the process that ran user code of the guest is lost: the guest's program gets a general "
      "protection fault, and users run in this process from now on");
  process_->Stop();
  healthy_ = false;
  way_ = {};
  cpu_.Raise(kGP, 0);
}

// One instruction, by the interpreter.
void Cell::RunSiteHere() {
  const Site& site = sites_[left_.site];
  way_ = {};
  cpu_.r[kRip] = left_.page + site.next;
  ++done_.sites;
  const bool counts = counting_ != Counting::kNone;
  if (counts) {
    cpu_.instructions_ -= site.behind + 1u;
    done_.instructions -= site.behind + 1u;
  }
  cpu_.incomplete_ = false;
  site.op.fn(cpu_, site.op);
  if (cpu_.fault_.active) return cpu_.Rewind(site.op);
  system_calls_ += cpu_.cpl_ != 3;
  if (counts && !std::exchange(cpu_.incomplete_, false)) ++cpu_.instructions_;
  if (const uint64_t wanted = std::exchange(wanted_, 0); wanted != 0 && Adopted())
    pages_.Map(wanted, wanted_write_);
}

}  // namespace bt
