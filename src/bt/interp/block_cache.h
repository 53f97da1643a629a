// Decoded code of one vCPU. A block is a run of instructions inside one page (or one instruction
// that crosses into the next), keyed by guest-physical address and code size: it does not know its
// linear address. Memory is bounded; when it is full everything goes.
#pragma once

#include <cstdint>
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
  uint64_t phys = 0;
  uint64_t second_page = 0;  // guest-physical page of the tail when an instruction crosses, else 0
  Link link[2];
  Block* hash_next = nullptr;
  Block* page_next = nullptr;
  Block* second_page_next = nullptr;
  Op* ops = nullptr;
  uint16_t op_count = 0;
  uint16_t bytes = 0;
  CodeSize code_size = CodeSize::k64;
  bool dead = false;
  bool untranslatable = false;
  uint8_t runs = 0;  // in the interpreter, while they are few
  Translation* translation = nullptr;
  Translation* plain = nullptr;   // code without spans, for when they do not hold
  Translation* direct = nullptr;  // a user's, in a cell
};

class BlockCache {
 public:
  static constexpr unsigned kMaxOps = 48;  // of one block, the closing one included
  static constexpr unsigned kMaxBytes = kMaxOps * 15;

  // `budget`: bytes of blocks and ops that are kept.
  explicit BlockCache(size_t budget);

  Block* Find(uint64_t phys, CodeSize code_size) const;
  // Copies `ops`; the block is found from now on. The caller has seen to HasRoom().
  Block* Add(const Block& prototype, const Op* ops);
  bool HasRoom() const;
  void Clear();
  // Hears of every block that goes; null: nobody.
  void SetTier(Tier* tier) { tier_ = tier; }

  bool HasCode(uint64_t page) const { return pages_.contains(page); }
  // Kills the blocks that overlap [phys, phys+size), which lies in one page. Their ops become
  // exits, so that a block that overwrites itself stops at its next instruction. True when any was
  // hit.
  bool Invalidate(uint64_t phys, uint64_t size);
  template <class F>
  void ForEachPage(F&& visit) const {
    for (const auto& [page, code] : pages_) visit(page);
  }

 private:
  static constexpr unsigned kHashSize = 1 << 17;
  struct PageCode {
    Block* first = nullptr;
    uint64_t chunks = 0;  // 64-byte pieces of the page that hold code
  };
  static unsigned Hash(uint64_t phys) {
    return static_cast<unsigned>(phys * 0x9E3779B97F4A7C15 >> 40) & (kHashSize - 1);
  }
  void AddToPage(uint64_t page, Block* block);
  static bool Overlaps(const Block& block, uint64_t page, uint64_t first, uint64_t last);
  static uint64_t ChunksOf(const Block& block, uint64_t page);
  void Unhash(Block* block);
  void* Allocate(size_t size);

  Tier* tier_ = nullptr;
  std::unique_ptr<Block*[]> hash_;
  std::unordered_map<uint64_t, PageCode> pages_;
  static constexpr size_t kSlabSize = 256 * 1024;
  std::vector<std::unique_ptr<std::byte[]>> slabs_;
  size_t max_slabs_, slab_ = 0, slab_used_ = 0;
};

}  // namespace bt
