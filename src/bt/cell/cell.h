// Runs hot user code of the guest in a process of its own, at nearly the host's speed: memory is at
// its linear address there, so the code looks nothing up.
#pragma once

#include <memory>

#include "bt/cell/cell_pages.h"
#include "bt/cell/cell_process.h"
#include "bt/translator/translator.h"

namespace bt {

// Of one vCPU, on its thread.
class Cell final : public Translator {
 public:
  // Null: the host does not let us.
  static std::unique_ptr<Cell> Create(Cpu& cpu, Bell& bell);
  ~Cell() override;

  // Whether user code may run there as the processor stands: with its vector and x87 registers, no
  // exception of them unmasked, no alignment check, nothing watched, strings that go upwards.
  static bool Suits(const Cpu& cpu);
  // The users of the current address space run here from now on, and no others.
  void Adopt();
  void Release();
  // Of this thread, which hand-overs keep on its processor: it may run anywhere again.
  void LetGo() { process_->LetGo(); }
  bool Adopted() const;
  // Whether the guest has put something where the cell itself is, or its user looks for something
  // nearby: an access that meets the cell would find it.
  bool Collides() const;
  // False: the host has refused memory, or the process is lost; this will not get better.
  bool healthy() const { return healthy_; }
  uint64_t hand_overs() const { return hand_overs_; }
  // How often its user has called its system.
  uint64_t system_calls() const { return system_calls_; }
  // What the process has used since it began: nanoseconds of its processor, and how often that
  // went for what a hand-over costs: for each, for each fault, and for each call.
  struct Spent {
    uint64_t time = 0, payments = 0;
  };
  Spent spent() const { return {process_->CpuTime(), payments_}; }
  uint64_t payment() const { return payment_; }  // nanoseconds of its processor

  void Run(Block* block) override;

 private:
  Cell(Cpu& cpu, Bell& bell, std::unique_ptr<CellProcess> process);
  static CodeContext Context(CellProcess& process, Cpu& cpu);
  Stubs EmitStubs() override;
  Translation* Find(const Block& block, bool plain) const override;
  void Keep(Block& block, bool plain, Translation* translation) const override;
  uint32_t& PartsOf(const Block& block) const override { return block.direct_parts; }
  void SelectJumps() override;
  void GiveState();
  bool TakeState();
  bool HandOver();
  const DirectAccess* FindAccess(CodeSpace::Offset offset) const;
  uint64_t OnFault();
  void Lose();
  void RunSiteHere();

  Bell& bell_;
  CodeState left_;  // what TakeState() believes of the cell's
  std::unique_ptr<CellProcess> process_;
  CellStubs cell_stubs_;
  CellPages pages_;
  bool healthy_ = true;
  uint64_t hand_overs_ = 0, system_calls_ = 0;
  uint64_t payments_ = 0, payment_ = 0;
  // The last fault that no page could be mapped for: the interpreter may make it possible.
  uint64_t wanted_ = 0;
  bool wanted_write_ = false;
  bool near_ = false;  // the user accessed what is no page of the guest's, within kClearance
};

}  // namespace bt
