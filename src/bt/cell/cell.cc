#include "bt/cell/cell.h"

#include <fmt/format.h>

#include <algorithm>

#include "bt/interp/fpu.h"
#include "bt/interp/interpreter.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"

namespace bt {
namespace {

constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);
constexpr uint64_t kPageFault = 14;  // of the host: [SDM 3A] 6.3.1
constexpr uint64_t kErrorWrite = 2;
// What FXSAVE writes of its image. [SDM 1] 10.5.1
constexpr size_t kFxsaveBytes = 416, kYmmHighBytes = 256;

void CopyVectors(const vmm::XsaveArea& from, vmm::XsaveArea& to) {
  std::copy_n(from.bytes.begin(), kFxsaveBytes, to.bytes.begin());
  std::copy_n(from.bytes.begin() + FpuState::kYmmHigh0, kYmmHighBytes,
              to.bytes.begin() + FpuState::kYmmHigh0);
}

}  // namespace

std::unique_ptr<Cell> Cell::Create(Cpu& cpu) {
  std::unique_ptr<CellProcess> process = CellProcess::Create(cpu.memory_.fd());
  if (!process) return nullptr;
  std::unique_ptr<Cell> cell(new Cell(cpu, std::move(process)));
  if (!cell->process_->Start(cell->space_, cell->cell_stubs_)) return nullptr;
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
          process.control().attention,
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
          true};
}

Cell::Cell(Cpu& cpu, std::unique_ptr<CellProcess> process)
    : Translator(cpu, left_, Context(*process, cpu), process->code(),
                 process->code() + process->shift(), CellLayout::kCodeBytes, process->tables(),
                 process->shift()),
      process_(std::move(process)),
      pages_(cpu, *process_) {
  Clear();
  cpu_.attention_mirror_ = &process_->control().attention;
}

Cell::~Cell() {
  process_->Stop();
  cpu_.attention_mirror_ = nullptr;
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
  cpu_.banks_.SetMirror(nullptr);
  cpu_.UpdateKey();
}

bool Cell::Adopted() const {
  return cpu_.banks_.mirrored();
}

bool Cell::Collides() const {
  return cpu_.MayBeMapped(process_->address(), CellLayout::kBytes);
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

void Cell::TakeState() {
  const CellState& state = process_->state();
  std::copy_n(state.r, 16, cpu_.r);
  cpu_.r[kRip] = state.r[kRip];
  cpu_.flags_ = state.flags;
  cpu_.instructions_ = state.instructions;
  CopyVectors(state.fpu, cpu_.fpu_);
  // The guest's user may have written there: an address must be one.
  left_.page = static_cast<uint64_t>(static_cast<int64_t>(state.code.page << 16) >> 16) & kPageMask;
  left_.exit = state.code.exit;
  left_.site = state.code.site;
  const bool direct = left_.exit < exits_.size();
  const bool at_site = left_.exit == CodeState::kIndirect || left_.exit == CodeState::kSite;
  CHECK(direct || left_.exit == CodeState::kLeft || (at_site && left_.site < sites_.size()));
}

void Cell::Run(Block* block) {
  // Whoever wants attention sets both, this one last.
  process_->control().attention.store(0);
  if (cpu_.attention_.load() != 0) return;
  const Translation* translation = Prepare(block);
  if (!translation) return;
  CellState& state = process_->state();
  GiveState();
  state.entry = reinterpret_cast<uint64_t>(space_.run(translation->from(FlagHome::kMemory)));
  for (;;) {
    process_->HandOver();
    ++hand_overs_;
    healthy_ &= pages_.GoodSoFar();
    if (state.event == static_cast<uint32_t>(CellState::Event::kLeft)) break;
    state.entry = OnFault();
  }
  done_.instructions -= cpu_.instructions_;
  TakeState();
  done_.instructions += cpu_.instructions_;
  ++done_.exits;
  if (left_.exit != CodeState::kSite) return Leave();
  RunSiteHere();
}

// Where to go on.
uint64_t Cell::OnFault() {
  const CellState& state = process_->state();
  const uint64_t rip = state.fault_rip;
  const auto offset =
      static_cast<CodeSpace::Offset>(rip - reinterpret_cast<uint64_t>(space_.run(0)));
  auto access = std::upper_bound(
      accesses_.begin(), accesses_.end(), offset,
      [](CodeSpace::Offset at, const DirectAccess& one) { return at < one.begin; });
  const bool known = access != accesses_.begin() && offset < (--access)->end;
  if (!known) {
    vmm::Log(vmm::LogLevel::kError,
             fmt::format("exception {} in a cell at {:#x}, which is no access to memory",
                         state.fault_vector, offset));
  }
  CHECK(known);
  const bool write = state.fault_error & kErrorWrite;
  wanted_ = 0;
  if (state.fault_vector == kPageFault && healthy_) {
    if (pages_.Map(state.fault_address, write)) return rip;
    wanted_ = state.fault_address;
    wanted_write_ = write;
  }
  return reinterpret_cast<uint64_t>(space_.run(access->stub));
}

// One instruction, by the interpreter.
void Cell::RunSiteHere() {
  const Site site = sites_[left_.site];
  way_ = {};
  cpu_.r[kRip] = left_.page + site.next;
  ++done_.sites;
  const bool counts = counting_ != Counting::kNone;
  if (counts) {
    cpu_.instructions_ -= site.behind + 1u;
    done_.instructions -= site.behind + 1u;
  }
  cpu_.incomplete_ = false;
  site.op->fn(cpu_, *site.op);
  if (cpu_.fault_.active) return cpu_.Rewind(*site.op);
  if (counts && !std::exchange(cpu_.incomplete_, false)) ++cpu_.instructions_;
  if (const uint64_t wanted = std::exchange(wanted_, 0); wanted != 0 && Adopted())
    pages_.Map(wanted, wanted_write_);
}

}  // namespace bt
