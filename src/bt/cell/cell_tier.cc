#include "bt/cell/cell_tier.h"

#include <chrono>
#include <cstdlib>
#include <string_view>

#include "bt/interp/interpreter.h"
#include "vmm/core/base/log.h"

namespace bt {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;

// A user that is found running twice, so far apart, is worth a cell.
constexpr uint64_t kApart = 2 * kMillisecond;
constexpr unsigned kTimes = 2;
// It stays there as long as it computes for so many times what hand-overs, and what they bring,
// take: less would not make up for them. Its memory has to get there first, and its code, so that
// several bad windows are forgiven; fewer where it is system calls that it leaves for, which will
// not end.
constexpr uint64_t kWindow = 64, kTimesPaid = 2;
constexpr unsigned kForgiven = 16, kForgivenCalls = 3;
// Whoever runs code outside the cell so often in a row does not hand over to it again at once.
constexpr unsigned kOutside = 64;
constexpr unsigned kMostCollisions = 4;
constexpr uint64_t kShortestRefusal = 20 * kMillisecond, kLongestRefusal = 2000 * kMillisecond;

uint64_t Now() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

}  // namespace

CellTier::CellTier(Cpu& cpu)
    : cpu_(cpu),
      translator_(cpu),
      bell_(Bell::Create()),
      when_(Wanted(cpu.vm_.parts().user_cells)) {
  possible_ = when_ != When::kNever && !cpu.vm_.parts().schedule && !cpu.vm_.parts().lockstep;
}

CellTier::When CellTier::Wanted(When configured) {
  const char* value = configured == When::kNever ? nullptr : std::getenv("VMM_CELL");
  const std::string_view when = value ? value : "";
  return when == "never" ? When::kNever : when == "always" ? When::kAlways : configured;
}

void CellTier::Run(Block* block) {
  if (cpu_.cpl_ == 3 && possible_) {
    if (Takes()) {
      runs_outside_ = 0;
      return cell_->Run(block);
    }
    // What the cell can't run for the moment comes back as soon as it can.
    translator_.SetUserCode(!cell_ || !cell_->Adopted());
  }
  if (++runs_outside_ == kOutside && cell_) cell_->LetGo();
  translator_.Run(block);
}

void CellTier::Kill(Block* block) {
  translator_.Kill(block);
  if (cell_) cell_->Kill(block);
}

void CellTier::Clear() {
  translator_.Clear();
  if (cell_) cell_->Clear();
}

void CellTier::OnAttention() {
  if (bell_) bell_->Ring();
}

void CellTier::AddTo(vmm::Statistics& statistics) const {
  translator_.AddTo(statistics, cell_ ? cell_->done() : Translator::Done{});
  statistics.push_back({"hand-overs to the cell", cell_ ? cell_->hand_overs() : 0});
}

// Whether the user that is to run now does so in the cell.
bool CellTier::Takes() {
  if (!Cell::Suits(cpu_)) return false;
  if (cell_ && cell_->Adopted()) {
    if (cell_->Collides()) {  // the next one will be elsewhere
      cell_->Release();
      cell_.reset();
      possible_ = ++collisions_ < kMostCollisions;
      return false;
    }
    const bool takes =
        cell_->healthy() &&
        (when_ == When::kAlways || cell_->hand_overs() - count_ < kWindow || StillWorthIt(Now()));
    if (takes) return true;
    cell_->Release();
    possible_ = cell_->healthy();
    return false;
  }
  return (when_ == When::kAlways || WorthIt(Now())) && Adopt();
}

bool CellTier::WorthIt(uint64_t now) {
  const uint64_t space = cpu_.cr3_;
  if (space != candidate_) {
    candidate_ = space;
    seen_ = now;
    times_ = 0;
    return false;
  }
  if (now - seen_ < kApart) return false;
  seen_ = now;
  return ++times_ >= kTimes && PresentRefusal().until <= now;
}

bool CellTier::StillWorthIt(uint64_t now) {
  const Cell::Spent spent = cell_->spent();
  const uint64_t paid = (spent.payments - spent_.payments) * cell_->payment();
  // This process pays as much.
  const bool bad = spent.time - spent_.time < (1 + 2 * kTimesPaid) * paid;
  const uint64_t made = cell_->system_calls();
  const bool calls = made - calls_ >= kWindow / 2;
  spent_ = spent;
  calls_ = made;
  count_ = cell_->hand_overs();
  if (!bad) bad_windows_ = bad_calls_ = 0;
  if (bad) ++(calls ? bad_calls_ : bad_windows_);
  if (bad_windows_ < kForgiven && bad_calls_ < kForgivenCalls) return true;
  Refusal& refusal = PresentRefusal();
  // Longer if this is what it does whenever it may.
  const bool again = now - refusal.until < std::max(refusal.length, kShortestRefusal);
  refusal.length = again ? std::min(refusal.length * 2, kLongestRefusal) : kShortestRefusal;
  refusal.until = now + refusal.length;
  return false;
}

// Of the thread that runs now. The base of FS tells it from one that had the same page table
// before.
CellTier::Refusal& CellTier::PresentRefusal() {
  const uint64_t space = cpu_.cr3_, thread = cpu_.seg_base_[static_cast<size_t>(vmm::Seg::FS)];
  Refusal* oldest = &refusals_[0];
  for (Refusal& refusal : refusals_) {
    if (refusal.space == space && refusal.thread == thread) return refusal;
    if (refusal.until < oldest->until) oldest = &refusal;
  }
  *oldest = {space, thread, 0, 0};
  return *oldest;
}

bool CellTier::Adopt() {
  if (!cell_ && bell_) cell_ = Cell::Create(cpu_, *bell_);
  if (!cell_) {
    vmm::Log(vmm::LogLevel::kWarning,
             "user code of the guest stays in this process: the host gives no other one");
    possible_ = false;
    return false;
  }
  cell_->Adopt();
  spent_ = cell_->spent();
  calls_ = cell_->system_calls();
  count_ = cell_->hand_overs();
  bad_windows_ = bad_calls_ = 0;
  candidate_ = ~0ull;
  return true;
}

}  // namespace bt
