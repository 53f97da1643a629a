// The translator of one vCPU: which blocks have code, how they are linked, and the run-time below
// them.
#pragma once

#include <array>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bt/interp/cpu.h"
#include "bt/interp/tier.h"
#include "bt/translator/block_translator.h"
#include "bt/translator/code_verifier.h"
#include "bt/translator/jump_tables.h"
#include "bt/translator/perf_map.h"
#include "bt/translator/translation_queue.h"

namespace bt {

class Translator : public Tier, private BlockSource {
 public:
  // What tests have otherwise.
  struct Trial {
    LeaveOut leave_out = LeaveOut::kNothing;
    // Hears of differences in lock-step. Null: the first ends the process.
    void (*on_difference)(const std::string&) = nullptr;
  };
  explicit Translator(Cpu& cpu) : Translator(cpu, Trial{}) {}
  Translator(Cpu& cpu, const Trial& trial);
  ~Translator() override;

  void Run(Block* block) override;
  void Kill(Block* block) override;
  void Clear() override;
  void AddTo(vmm::Statistics& statistics) const override;

  // Off: user code is run by something else. What enters it leaves for the run loop.
  void SetUserCode(bool on) {
    if (std::exchange(user_code_, on) != on) selected_ = {};
  }

  // What it has done so far.
  struct Done {
    uint64_t blocks = 0, guest_bytes = 0, hot_bytes = 0, cold_bytes = 0, exits = 0, sites = 0,
             indirect_misses = 0, links = 0, invalidations = 0, clears = 0, instructions = 0;
    Done& operator+=(const Done& more);
  };
  const Done& done() const { return done_; }
  // Together with what another one has done.
  void AddTo(vmm::Statistics& statistics, const Done& other) const;

 protected:
  class Lockstep;
  // Of other code: the caller has yet to call Clear().
  // `state`: what the run-time reads and writes, not what the code does.
  Translator(Cpu& cpu, CodeState& state, const CodeContext& context, uint8_t* write, uint8_t* run,
             size_t size, JumpTable* tables, ptrdiff_t tables_run);

  // Runs of a block in the interpreter before it is worth translating, and before it may be a part
  // of others.
  static constexpr unsigned kHotRuns = 16, kWarmRuns = 2;
  // Where another thread translates: before it is asked to, and before it is not waited for any
  // more.
  static constexpr unsigned kHotRunsAside = 10, kTooManyRuns = 64;
  static constexpr size_t kCodeBytes = 32 * vmm::kMiB;
  static constexpr size_t kStateBytes = vmm::kPageSize;

  // The way out that was taken last, and where it must lead to be linked.
  struct Way {
    enum class Kind : uint8_t { kNone, kDirect, kIndirect } kind = Kind::kNone;
    uint32_t exit = 0;
    uint64_t linear = 0, key = 0;
  };

  static AfterSite RunSite(Translator* self, uint32_t site) noexcept;
  virtual Stubs EmitStubs() { return Stubs::Emit(space_, context_); }
  // What there is of `block` already, or null.
  virtual Translation* Find(const Block& block, bool plain) const;
  virtual void Keep(Block& block, bool plain, Translation* translation) const;
  // The first of the parts that the block is.
  virtual uint32_t& PartsOf(const Block& block) const { return block.parts; }
  const Translation* Prepare(Block* block);
  Translation* TranslationOf(Block*& block, bool plain, FlagHome wanted);
  bool Ask(Block& block, bool plain, FlagHome wanted);
  // On whatever thread does it.
  void Translate(TranslationJob& job);
  void TakeTranslations();
  void Take(TranslationJob& job);
  void Retire(Translation& translation);
  // For perf.
  void NameCode(std::string_view kind, uint64_t linear, bool user, const Block& block,
                CodeVerifier::Range hot, CodeVerifier::Range cold);
  void NameStubs();
  void Leave();
  void Link(const Way& way, Translation& to);
  // `exit`: its number.
  bool EmitThunk(uint32_t exit, const Translation& to);
  void Unlink(uint32_t exit);
  uint16_t PageNumber(uint64_t page);
  virtual void SelectJumps();
  Block* FindBlock(uint64_t phys) override;
  bool EnsureOps(Block& block) override { return cpu_.EnsureOps(block); }
  bool FetchBytes(const Block& block, uint8_t* to) override;
  Glimpse Look() const override;
  void FaultAtTarget();
  void CompareInLockstep();
  void Verify(const CodeVerifier::Code& code);

  Cpu& cpu_;
  PerfMap* const names_;  // null: unasked
  CodeState& state_;
  CodeContext context_;
  CodeSpace space_;
  Stubs stubs_;
  Numbered<Exit> exits_;
  Numbered<Site> sites_;
  // Of translations, and of the ways between them; each in ascending order.
  Numbered<DirectAccess> accesses_, thunk_accesses_;
  JumpTables jumps_;
  const ptrdiff_t tables_run_;          // from where the tables are to where code sees them
  std::array<uint64_t, 2> selected_{};  // Cpu::keys_ that CodeState::tables are for
  bool user_code_ = true;
  std::unordered_map<uint64_t, uint16_t> page_numbers_;
  Numbered<Translation> translations_;
  Numbered<Part> parts_;
  Way way_;
  bool full_ = false;  // the space, so that all code has to go
  const Counting counting_;
  Done done_;
  const Trial trial_ = {};
  const std::unique_ptr<Lockstep> lockstep_;  // null: unasked
  const bool verify_ = CodeVerifier::Wanted();
  BlockTranslator block_translator_;
  TranslationQueue queue_;  // the last, for its thread uses the others
};

}  // namespace bt
