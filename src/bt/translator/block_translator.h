// One block of guest code into host code: instructions are copied, and only memory operands,
// control transfers and registers without a host register of their own are written anew.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "bt/interp/feature_set.h"
#include "bt/translator/block_path.h"
#include "bt/translator/block_span.h"
#include "bt/translator/flag_recipe.h"
#include "bt/translator/host_registers.h"
#include "bt/translator/numbered.h"
#include "bt/translator/patcher.h"
#include "bt/translator/stubs.h"

namespace bt {

// Whether code counts the guest's instructions.
enum class Counting : uint8_t {
  kNone,
  kCount,
  kBounded,  // and is left before a block with which the vCPU's turn would last too long
};

// Conditions as Jcc encodes them. [SDM 1] B.1
inline constexpr uint8_t kBelow = 2, kNotBelow = 3, kNotZero = 5, kNotAbove = 6, kAbove = 7;

// Whether a user's instruction may run where memory is at its linear address (block_direct.cc).
bool MayBeDirect(Treatment how);
bool HasOwnAddress(const Insn& insn);

// The exception masks of MXCSR, and AMD's bit that allows misaligned operands: then some processors
// access less than the whole operand. [SDM 1] 10.2.3, [APM 1] 4.2.2
inline constexpr uint32_t kMxcsrMasks = 0x1f80, kMxcsrMisaligned = 1 << 17;

class BlockTranslator {
 public:
  // More than one translation's code takes, hot or cold.
  static constexpr size_t kMaxCode = CodeSpace::kMostAtOnce;

  BlockTranslator(CodeSpace& space, const CodeContext& context, const Stubs& stubs,
                  const FeatureSet& features, Numbered<Exit>& exits, Numbered<Site>& sites,
                  Numbered<DirectAccess>& accesses, LeaveOut leave_out = LeaveOut::kNothing,
                  Counting counting = Counting::kNone)
      : space_(space),
        hot_(space.hot()),
        cold_(space.cold()),
        context_(context),
        host_(context.direct),
        stubs_(stubs),
        features_(features),
        exits_(exits),
        sites_(sites),
        accesses_(accesses),
        leave_out_(leave_out),
        counting_(counting) {}

  // False: `path` is none that can be translated; nothing was emitted. `plain`: without spans. Of
  // `translation` its number is given, and that of a second page. `wanted`: where the flags are on
  // the way that it is made for.
  bool Translate(const BlockPath& path, bool plain, Translation& translation,
                 FlagHome wanted = FlagHome::kHost);
  // How much of its hot code only counts.
  size_t count_bytes() const { return count_bytes_; }

 private:
  using Step = BlockStep;
  struct Rename {
    uint8_t guest, host;  // `host` is free in this translation, and holds guest register `guest`
    bool written;         // not only read
  };

  bool ChooseRegisters();
  bool NeedsTemps(const Step& step) const;
  uint16_t Homes() const;
  uint16_t HomesBeside(const Step& step, uint16_t homes) const;
  uint16_t SlotsBeside(const Step& step, uint16_t slots) const;
  bool TempsLent() const;
  void ReturnTemps();
  bool Expressible(const Step& step) const;
  void EmitEntry(Translation& translation);
  void EmitFlagsForStart();
  void EmitCheckTail();
  void EmitCount();
  void EmitUncount(size_t rest);
  CodeSpace::Offset EmitUncount(CodeSpace::Offset jump, bool plain);
  void EmitStep(const Step& step);
  void EmitCopy(const Step& step);
  void EmitMemory(const Step& step);
  void EmitLea(const Step& step);
  void EmitSelector(const Step& step);
  void EmitDivide(const Step& step);
  void EmitBitString(const Step& step);
  void EmitBitAddress(const Step& step);
  void EmitLoadMxcsr(const Step& step);
  void EmitStack(const Step& step);
  void EmitPushFlags(const Step& step);
  void EmitSystem(const Step& step);
  void EmitInterruptFlag(const Step& step);
  void EmitPrivileged(const Step& step);
  void EmitSystemCall(const Step& step);
  void EmitInterpreter(const Step& step, CodeSpace::Offset run);
  void EmitLeaveForSite(Assembler& code, uint32_t site);
  bool OnlyFaultsShowFlags() const;
  bool ClobbersFlags(const Step& step, uint16_t index) const;
  bool MayFault(const Step& step) const;
  void EmitBranch(const Step& step);
  void EmitTarget(const Step& step);
  void EmitSideExit(uint8_t condition, int32_t target);
  void EmitExpectedReturn(const Step& step, int32_t stack);
  void EmitIndirectExit(Assembler& code, const Step& step, int32_t stack);
  void EmitExit(int32_t target);
  int32_t Start() const;
  bool LeadsBack(int32_t target) const;
  // Looks whether attention is set. EndPoll(): where it goes on then.
  struct Poll {
    CodeSpace::Offset jump = 0;
    uint32_t access = 0;                 // of direct code: a fault is a jump
    FlagHome flags = FlagHome::kMemory;  // there
    FlagRecipe owed = {};                // of the flags, if they are not
  };
  Poll EmitPoll();
  void EndPoll(const Poll& poll, CodeSpace::Offset target);
  void EmitSelfLoop();
  void EmitLoopIf(uint8_t condition, int32_t next);
  void EmitLeaveAtStart(FlagHome flags);
  void AddExit(CodeSpace::Offset jump, int32_t target, bool plain = false);
  void AddExitFromMemory(CodeSpace::Offset jump, int32_t target, bool plain = false);
  void EmitRename(Assembler& code);
  void EmitUnrename(Assembler& code);
  void EmitEffective(const Step& step);
  void EmitSegmentBase(uint8_t segment);
  void EnsureRegisters(const Step& step);
  void EmitExitUnlessRegisters(int32_t next);
  void EmitX87Pointer(Assembler& code);
  void NoteX87(const Step& step);
  void EmitOffset(const Step& step);
  void EmitPageOffset(int32_t offset);
  void EmitCall(Assembler& code, CodeSpace::Offset target);
  void EmitRunSite(Assembler& code, uint32_t site);
  // Turns the linear address in kTemp0 into a host address, or leaves for `site` in the cold half.
  struct Check {
    CodeSpace::Offset jump;  // 0: none
    uint32_t site;
    uint16_t next;
    FlagRecipe owed = {};                        // of the flags, if they are not in memory
    std::array<CodeSpace::Offset, 2> more = {};  // other jumps there
    CodeSpace::Offset direct = 0;                // from here on the host may find a fault; 0: no
    FlagHome flags = FlagHome::kMemory;          // there
    bool any() const { return jump != 0 || more[0] != 0 || more[1] != 0 || direct != 0; }
  };
  Check EmitCheck(const Step& step, unsigned size, bool write);
  CodeSpace::Offset EmitLookUp(Assembler& code, unsigned size, bool write);
  CodeSpace::Offset EmitReadLookUp(const MemoryOperand& at, unsigned size);
  int RangeOf(const MemoryOperand& at) const;
  CodeSpace::Offset EmitAlignmentTest(unsigned alignment);
  Check EmitCanonicalCheck(const Step& step);
  // The cold half of a check, if there is one; what it resumes at is here. `resumes`: the
  // interpreter may go on.
  void EndCheck(const Check& check, bool resumes);

  // Where an access is on the host, behind `check` unless a span has been looked up.
  struct Place {
    Xbyak::Reg64 base;
    int32_t disp;
    Check check;
    Xbyak::RegExp address() const { return base + disp; }
    // One of kTemp0 and kTemp1 that is not its base.
    uint8_t other() const { return base.getIdx() == kTemp0 ? kTemp1 : kTemp0; }
  };
  void EmitWithOperand(const Step& step, const Place& place);
  Place ReachMemory(const Step& step, unsigned size, bool write);
  Place ReachStack(const Step& step, const Xbyak::Reg64& base, int32_t disp, bool write);
  Place Direct(const Step& step, const Xbyak::Reg64& base, int32_t disp);
  int32_t EmitDirectAddress(const Step& step);
  void EmitDirectMemory(const Step& step);
  void EmitDirectRepeat(const Step& step);
  void EndDirect(const Check& check);
  bool Reached(const SpanMember& member) const { return member.span != SpanMember::kNone; }
  void EmitSpanChecks(const Step& step);
  void EmitSpanCheck(const Step& step, uint16_t index);
  Place PlaceIn(const SpanMember& member);
  void MoveStack(int32_t bytes, bool at_once = false);
  bool MovesStackOnly(const Step& step) const;
  bool SpanStarts(uint16_t step) const;
  bool SpansLive() const;
  // Before kTemp0 or kTemp1 gets another value: a span's address that is still wanted goes to its
  // slot.
  void Release(uint8_t temp);
  void ReleaseTemps();
  void FlagsToMemory();
  void FlagsAside();
  bool Serves(size_t first, uint16_t registers) const;
  bool FlagsDie(size_t first) const;
  bool KeepsOperand(const Step& step) const;
  void FollowRecipe(const Step& step);
  void EmitRecipe(Assembler& code, const FlagRecipe& recipe);
  void EmitOwed(Assembler& code, const FlagRecipe& recipe);
  void FlagsToHost(bool keep_temp1 = false);
  void CarryToHost();
  void FlagsFor(const Step& step, bool keep_temp1 = false);
  uint32_t AddSite(const Step& step, int32_t stack = 0);
  CodeSpace::Offset EmitJump(Assembler& code);
  // A Jcc to be patched; `condition` as its opcode has it.
  CodeSpace::Offset EmitJumpIf(Assembler& code, uint8_t condition);
  void EmitBytes(const uint8_t* bytes, unsigned count);

  CodeSpace& space_;
  Assembler& hot_;
  Assembler& cold_;
  const CodeContext& context_;
  const HostRegisters host_;
  const Stubs& stubs_;
  const FeatureSet& features_;
  Numbered<Exit>& exits_;
  Numbered<Site>& sites_;
  Numbered<DirectAccess>& accesses_;
  const LeaveOut leave_out_;
  const Counting counting_;

  Translation* translation_ = nullptr;
  const Glimpse* glimpse_ = nullptr;
  uint16_t first_ = 0;  // offset in its page of its first step
  std::vector<Step> steps_;
  std::vector<Span> spans_;
  struct Held {  // a span's address in a temporary register
    uint16_t span = SpanMember::kNone;
    bool stored = false;
  };
  std::array<Held, 2> held_;  // kTemp0, kTemp1
  uint8_t recent_ = 0;        // of the two
  uint16_t step_ = 0;         // that is emitted
  int32_t stack_moves_ = 0;   // that RSP is behind
  std::vector<Rename> renames_;
  PatchPlan plan_;
  FlagHome flags_ = FlagHome::kHost;
  bool saved_ = false;      // the flags are in memory as well
  FlagRecipe recipe_;       // of the present flags
  bool kept_ = false;       // the operand of the step was
  bool owed_ = false;       // they are in memory only once it has been applied and they were saved
  uint16_t changed_ = 0;    // guest registers that are not as at the beginning
  uint16_t here_ = 0;       // offset in the page of the end of the step
  bool went_back_ = false;  // behind a jump back that did not look at attention
  // How the block begins: behind its ways in, with what of the flags where.
  enum class Needs : uint8_t { kNothing, kCarry, kAll };
  CodeSpace::Offset start_ = 0;
  FlagHome wanted_ = FlagHome::kHost, home_ = FlagHome::kHost;
  Needs needs_ = Needs::kAll;
  VectorUse vectors_ = VectorUse::kNone;  // what is known to be in the host's registers
  bool x87_ = false;
  size_t count_bytes_ = 0;
  int x87_at_ = -1;  // offset in the page of the last x87 instruction, until FIP is told
};

}  // namespace bt
