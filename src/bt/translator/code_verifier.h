// Proves that translated code can do no harm, from its bytes alone: decodes it again and follows
// every way through it. For tests: wrong code must not get as far as running.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bt/translator/stubs.h"

namespace bt {

// What holds for code that a block or a thunk consists of:
//
// - Each instruction is one that the translator may copy, or a direct jump or call. Nothing else
//   exists there: no system call, no privileged instruction, no push, pop or string instruction
//   (those of REP MOVS and REP STOS are in stubs, which unit tests run).
// - Memory is named as [R10] behind a look-up with the right tag, and no wider than that has
//   compared; as a tag of the TLB, [R11 + bank]; or relative to RIP inside the vCPU. RSP is never
//   named, but by direct code, whose pushes and pops are the guest's, and which calls nothing.
// - Jumps lead to code that was proved, to a stub, or to an entry of another block; indirect ones
// to
//   the code of a JumpTarget whose address was compared, and CodeState::page is its page.
// - In direct code the guest's memory is named only between the bounds of a DirectAccess, never by
//   kTemp1, and the flags are where its stub takes them to be.
// - Other pages are where they were, by JumpTable::pages.
// - Vector and x87 registers are used only where they were looked for; aligned operands are
// aligned.
// - Registers that are lent to those without one of their own were saved before, and are back home
//   wherever the code is left.
// - The guest's flags are nowhere lost while somebody may need them, or a comparison that stays
// true
//   can make them once more, and are where the target of a jump takes them to be.
class CodeVerifier {
 public:
  struct Range {
    CodeSpace::Offset begin, end;
    bool Contains(CodeSpace::Offset at) const { return at >= begin && at < end; }
  };
  struct Entry {
    CodeSpace::Offset at;
    FlagHome flags;
    uint32_t page = 0;     // number of its page, if it is another one
    int64_t distance = 0;  // of that from the running page
  };
  struct Code {
    Range hot, cold;
    std::vector<Entry> entries;   // ways in
    std::span<const Exit> exits;  // jumps that will be linked to others' entries
    std::vector<Entry> others;    // entries elsewhere that it may jump to
    uint32_t second_page = 0;     // number of the next page, if its first instruction ends there
    std::span<const DirectAccess> accesses = {};  // of direct code
  };

  CodeVerifier(const CodeSpace& space, const CodeContext& context, const Stubs& stubs)
      : space_(space), context_(context), stubs_(stubs) {}

  // Empty: it is as it must be. Else the first fault, with the offset and the bytes.
  std::string Verify(const Code& code) const;

  // Whether the environment asks for it: VMM_VERIFY_CODE=1.
  static bool Wanted();

 private:
  const CodeSpace& space_;
  const CodeContext& context_;
  const Stubs& stubs_;
};

}  // namespace bt
