// What is known of one block's translated code, and the tables that code and run-time share.
#pragma once

#include <cstdint>

#include "bt/interp/op.h"
#include "bt/translator/block_span.h"
#include "bt/translator/code_space.h"
#include "vmm/core/base/types.h"

namespace bt {

struct Block;
struct Translation;

// Where the guest's arithmetic flags are: in the host's, or in Cpu::flags_.
enum class FlagHome : uint8_t { kHost, kMemory };

// A direct way out of a block. Its jump leads to the cold stub, which leaves for the run-time, or,
// once the target is known, to that.
struct Exit {
  CodeSpace::Offset jump;        // the displacement to patch
  CodeSpace::Offset stub;        // where it leads without a link
  CodeSpace::Offset thunk = 0;   // the way there; 0: it needs none so far
  int32_t target;                // relative to the start of the block's page
  uint32_t from;                 // number of its translation
  uint32_t to = ~0u;             // and of that which it is linked to
  uint32_t next_incoming = ~0u;  // Exit of `to`
  uint8_t thunk_bytes = 0;       // up to the end of its jump
  FlagHome flags;                // on the way out
  bool plain = false;            // leads to code without spans
  bool back = false;             // a loop may come by here, and nobody has looked at attention

  bool InPage() const { return static_cast<uint32_t>(target) < vmm::kPageSize; }
};
static_assert(sizeof(Exit) == 32);

// An instruction that the interpreter runs, always or when the memory check fails.
struct Site {
  Op op;
  uint32_t from;         // number of its translation
  uint16_t next;         // offset in its page of the instruction after it
  uint8_t behind;        // instructions after it in the translation
  bool returns = false;  // an indirect jump that has already taken a return address from the stack
};
static_assert(sizeof(Site) == 40);

// Code between `begin` and `end` may touch memory that is not there: whoever finds a fault of the
// host's in it goes on at `stub`.
struct DirectAccess {
  CodeSpace::Offset begin, end, stub;
};

struct Translation {
  static constexpr uint64_t kNoAddress = 1ull << 62;

  Block* block = nullptr;  // its first
  // As the target of indirect jumps it was found at `linear` only, or, if `elsewhere`, at other
  // addresses as well.
  uint64_t linear = kNoAddress;
  uint32_t number = 0;              // its own
  CodeSpace::Offset entry[2] = {};  // by FlagHome
  uint32_t incoming = ~0u;          // first Exit that is linked here
  // The numbers of the block's page and of that of its tail; 0: none.
  uint16_t page = 0, second_page = 0;
  uint16_t instructions = 0;
  bool elsewhere = false;
  bool dead = false;  // one of its blocks is stale
  bool plain = true;  // it has no spans
  CodeSpace::Offset from(FlagHome flags) const { return entry[static_cast<unsigned>(flags)]; }
};

// That a block is a part of a translation.
struct Part {
  uint32_t translation;
  uint32_t next;  // Part of the block
};

// What follows when the interpreter has run an instruction for translated code.
enum class AfterSite : uint8_t {
  kLeave,  // the run loop must look
  kNext,   // the code behind it
  kAtRip,  // whatever is where RIP stands now: the mode may be another one
};

// State that only translated code and its run-time use, next to the code.
struct CodeState {
  uint64_t page = 0;        // linear address of the page that the running block began in
  uint64_t scratch = 0;     // a value that no register has room for
  uint64_t kept = 0;        // operand of the last shift, where FlagRecipe asks for it
  uint64_t host_rsp = 0;    // of the run-time
  uint64_t jumps = 0;       // address of the JumpTable of the running key
  uint64_t tables[2] = {};  // of Cpu::keys_
  uint64_t run_site = 0;    // the run-time's function for sites
  uint64_t self = 0;        // its argument
  uint64_t apic = 0;        // address of LocalApic::attention()
  uint32_t vector = 0;      // VectorUse: the guest's vector registers are in the host's
  uint32_t x87 = 0;         // not 0: so are its x87 registers, and the vector registers with them
  uint32_t host_mxcsr = 0x1f80;
  uint32_t exit = 0;  // the way out that was taken, or one of the values below
  uint32_t site = 0;  // of the last indirect jump that missed, or of kSite
  // Host addresses of the spans of the running block (block_span.h).
  uint64_t span[kSpanSlots] = {};

  static constexpr uint32_t kIndirect = ~0u;  // RIP says where to
  static constexpr uint32_t kNoSite = ~0u;    // of a jump that cannot be undone
  static constexpr uint32_t kLeft = ~1u;      // an instruction needs the run-time: RIP is set
  static constexpr uint32_t kSite = ~2u;      // the interpreter is to run `site`
};

}  // namespace bt
