// Decoded code of one vCPU. A block is a run of instructions inside one page (or one instruction
// that crosses into the next), keyed by guest-physical address and code size: it does not know its
// linear address. Memory is bounded; when it is full everything goes.
//
// Under a tier, which soon needs ops no longer, they are in memory of their own, of which the
// oldest is always used anew. With its ops a block goes, but for the number of its runs, unless it
// has been kept: then they can be decoded once more.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <unordered_map>
#include <vector>

#include "bt/interp/op.h"
#include "bt/interp/tier.h"

namespace bt {

struct Translation;

struct Block {
  struct Link {  // the block that ran next the last time
    uint64_t linear = 0, key = ~0ull;
    Block* target = nullptr;
  };
  // What each run looks at lies together.
  uint64_t phys = 0;
  Block* hash_next = nullptr;
  Op* ops = nullptr;  // null: they have gone
  Translation* translation = nullptr;
  uint16_t op_count = 0;
  uint16_t bytes = 0;
  CodeSize code_size = CodeSize::k64;
  bool dead = false;
  bool untranslatable = false;
  bool kept = false;         // or else it goes with its ops
  uint8_t runs = 0;          // in the interpreter, while they are few
  uint64_t second_page = 0;  // guest-physical page of the tail when an instruction crosses, else 0
  Link* links = nullptr;     // two; null where ops may go, and blocks with them
  Translation* plain = nullptr;   // code without spans, for when they do not hold
  Translation* direct = nullptr;  // a user's, in a cell
  // Its places in the lists of blocks of its pages.
  struct Place {
    Block* next = nullptr;
    Block** at = nullptr;  // what points to this block
  };
  Place in_page, in_second_page;
  // The tiers' own, which blocks are not told of: the first of the translations that it is a part
  // of, and of those in a cell.
  mutable uint32_t parts = ~0u, direct_parts = ~0u;
};

class BlockCache {
 public:
  static constexpr unsigned kMaxOps = 48;  // of one block, the closing one included
  static constexpr unsigned kMaxBytes = kMaxOps * 15;

  // `budget`: bytes of blocks, and of ops that stay; `ops_budget`: of those that may go, 0: all
  // stay.
  explicit BlockCache(size_t budget, size_t ops_budget = 0);

  Block* Find(uint64_t phys, CodeSize code_size) const;
  // Copies `ops`; the block is found from now on, and has the runs that one there had before. The
  // caller has seen to HasRoom().
  Block* Add(const Block& prototype, const Op* ops);
  bool HasRoom() const { return (forgets() ? recent_ : kept_).HasRoom(); }
  // The block in a place where it stays until all go; the one that was given is dead if that is
  // another. The caller has seen to HasRoomToKeep().
  Block* Keep(Block* block);
  bool HasRoomToKeep() const { return kept_.HasRoom(); }
  // Gives a block that was kept its ops again. The caller has seen to HasRoom().
  void Restore(Block& block, const Op* ops);
  // Makes room: the oldest ops go. Nobody may know their blocks any more but those that are kept.
  // `visit` hears of pages that have no code any more. False: all ops stay.
  template <class F>
  bool ForgetOldest(F&& visit) {
    if (!forgets()) return false;
    for (const uint64_t page : ForgetOldestSlab()) {
      if (!HasCode(page)) visit(page);
    }
    return true;
  }
  void Clear();
  // Hears of every block that goes; null: nobody.
  void SetTier(Tier* tier) { tier_ = tier; }

  bool HasCode(uint64_t page) const { return pages_.contains(page); }
  // [phys, phys+size), which lies in one page, is written: kills the blocks that overlap it, and
  // after many writes all of the page, which may well hold no code any more and is written quickly
  // again without them. Their ops become exits, so that a block that overwrites itself stops at its
  // next instruction. True when any was hit.
  bool Invalidate(uint64_t phys, uint64_t size);
  // All blocks that are found.
  template <class F>
  void ForEach(F&& visit) const {
    for (unsigned i = 0; i < kHashSize; ++i) {
      for (Block* block = hash_[i]; block; block = block->hash_next) visit(*block);
    }
  }
  template <class F>
  void ForEachPage(F&& visit) const {
    for (const auto& [page, code] : pages_) visit(page);
  }

 private:
  static constexpr unsigned kHashSize = 1 << 17;
  struct PageCode {
    Block* first = nullptr;
    uint64_t chunks = 0;  // 64-byte pieces of the page that hold code
    unsigned writes = 0;  // since there is code
  };
  // Writes to a page until its code goes as a whole; each time it was needless, which nobody tells,
  // costs. So it takes twice as many the next time, and happens a few times only.
  static constexpr unsigned kPatience = 32, kMostLosses = 8;
  uint8_t& LossesOf(uint64_t page) { return losses_[Hash(page) % losses_.size()]; }
  // What is near in its page is near in the table as well: it is often looked for together.
  static unsigned Hash(uint64_t phys) {
    const uint64_t page = (phys >> 12) * 0x9E3779B97F4A7C15 >> 40, within = (phys & 0xfff) >> 3;
    return static_cast<unsigned>(page + within) & (kHashSize - 1);
  }
  // Memory in which one thing lies behind the other.
  static constexpr size_t kSlabSize = 128 * 1024;
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  struct Slab {
    Slab();
    std::unique_ptr<std::byte[], Free> bytes;  // whole pages
    size_t used = 0;
  };
  // In front of ops that may go: whose they are. Behind it that block itself, if it was not kept
  // when they came.
  struct Decoded {
    Block* owner;
    size_t bytes;  // of all together
  };
  static constexpr size_t kMostBytes =
      sizeof(Decoded) + sizeof(Block) + 2 * sizeof(Block::Link) + kMaxOps * sizeof(Op);
  struct Area {
    std::vector<Slab> slabs;
    size_t max_slabs = 0, slab = 0;  // and the one that is being filled
    bool HasRoom() const {
      return slabs.size() < max_slabs || kSlabSize - slabs[slab].used >= kMostBytes;
    }
    std::byte* Allocate(size_t size);
  };
  bool forgets() const { return recent_.max_slabs != 0; }
  void Enter(Block* block);
  void Leave(Block* block);
  std::vector<uint64_t> ForgetOldestSlab();
  uint8_t& RunsOf(const Block& block) { return runs_[Hash(block.phys)]; }
  static Block::Place& PlaceIn(uint64_t page, Block& block);
  void AddToPage(uint64_t page, Block* block);
  void RemoveFromPage(uint64_t page, Block* block);
  static void Unlink(uint64_t page, Block& block);
  static bool Overlaps(const Block& block, uint64_t page, uint64_t first, uint64_t last);
  static uint64_t ChunksOf(const Block& block, uint64_t page);
  void Unhash(Block* block);

  Tier* tier_ = nullptr;
  std::unique_ptr<Block*[]> hash_;
  std::unordered_map<uint64_t, PageCode> pages_;
  Area kept_, recent_;         // recent_: a ring
  std::vector<uint8_t> runs_;  // of blocks that have gone
  std::array<uint8_t, 1024> losses_{};
};

}  // namespace bt
