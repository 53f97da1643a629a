// What stands above the interpreter of a vCPU: its translator, and a cell for users that are worth
// one.
#pragma once

#include <array>
#include <memory>

#include "bt/cell/cell.h"
#include "bt/translator/translator.h"

namespace bt {

class CellTier final : public Tier {
 public:
  explicit CellTier(Cpu& cpu);

  void Run(Block* block) override;
  void Kill(Block* block) override;
  void Clear() override;
  void OnAttention() override;
  void AddTo(vmm::Statistics& statistics) const override;

 private:
  using When = vmm::UserCells;
  // When users go to the cell: as the machine says, or as VMM_CELL=never|always in the environment
  // does where they may go at all, for tests.
  static When Wanted(When configured);
  bool Takes();
  bool WorthIt(uint64_t now);
  bool StillWorthIt(uint64_t now);
  bool Adopt();

  // A user's thread that was tried: for how long not again.
  struct Refusal {
    uint64_t space = 0, thread = 0, until = 0, length = 0;
  };
  Refusal& PresentRefusal();

  Cpu& cpu_;
  Translator translator_;
  const std::unique_ptr<Bell> bell_;  // null: the host gives none, and no cell
  std::unique_ptr<Cell> cell_;
  const When when_;
  bool possible_ = true;  // the host lets us

  // Times are nanoseconds of the host.
  uint64_t candidate_ = ~0ull,
           seen_ = 0;   // address space whose user ran, and when it was looked at
  unsigned times_ = 0;  // that it was the same
  Cell::Spent spent_;   // before the present window of hand-overs,
  uint64_t count_ = 0,  // which began with that number,
      calls_ = 0;       // and with that of system calls
  unsigned bad_windows_ = 0, bad_calls_ = 0;  // since a good one
  unsigned collisions_ = 0;
  unsigned runs_outside_ = 0;  // since the cell ran
  std::array<Refusal, 8> refusals_{};
};

}  // namespace bt
