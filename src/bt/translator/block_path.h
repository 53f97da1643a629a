// Which blocks one translation consists of: a block, and what usually comes behind it in the same
// page. Flags, registers and spans carry on from one to the next; other ways leave at its side.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "bt/interp/block_cache.h"
#include "bt/interp/feature_set.h"
#include "bt/interp/tlb.h"
#include "bt/translator/block_step.h"

namespace bt {

// The vCPU as it was when a translation was asked for: where its operands may well be. What is
// guessed wrongly from it costs time.
struct Glimpse {
  std::array<uint64_t, kSlots> r;
  std::array<uint64_t, 7> seg_base;
  std::array<LinearRange, TlbBank::kRanges> ranges;  // of the current bank
};

// Where the blocks come from that one translation may consist of.
class BlockSource {
 public:
  virtual ~BlockSource() = default;
  // The block at guest-physical `phys`, if it is known; else null.
  virtual Block* FindBlock(uint64_t phys) = 0;
  // Sees to its ops, which may go again when others are seen to. False: other code is there by now.
  virtual bool EnsureOps(Block& block) = 0;
  // Copies what the guest has there, Block::bytes. False: no memory.
  virtual bool FetchBytes(const Block& block, uint8_t* to) = 0;
  virtual Glimpse Look() const = 0;
};

// What the last instruction of a block does.
struct BlockEnding {
  Treatment how;
  int64_t displacement;  // of a direct jump, from behind it
};
// Of the few instructions that most blocks end with, told without the decoder. False: it is
// another one.
bool IsPlainEnding(std::span<const uint8_t> insn, BlockEnding& ending);

// What one translation is made of, copied from its blocks and the vCPU when it was chosen: whoever
// translates needs nothing else of the guest, and may do so on another thread.
class BlockPath {
 public:
  static constexpr unsigned kMaxSteps = 64, kMaxBlocks = 8;
  // Of more instructions than that it may take parts of each.
  static constexpr unsigned kMaxBytes = kMaxSteps * 15;

  struct Part {
    Block* block;                   // whoever translates does not look into it
    uint16_t start;                 // offset in its page
    uint16_t first, count;          // of the ops
    uint16_t begin, bytes;          // of the bytes
    Onward onward = Onward::kEnds;  // behind its last instruction
    uint16_t resume = 0;            // Onward::kReturn: offset in the page of where that returns to
  };

  // Chooses it, from `block` on. False: `block` can't be translated. `alone`: and no other.
  bool Choose(Block& block, BlockSource& source, const FeatureSet& features, bool direct,
              bool alone);

  std::span<const Part> parts() const { return {parts_.data(), part_count_}; }
  const Glimpse& glimpse() const { return glimpse_; }
  // Steps for what it consists of, behind those that `steps` has. `direct`: as for
  // CodeContext::direct.
  void Decode(const FeatureSet& features, bool direct, std::vector<BlockStep>& steps) const;

 private:
  bool Append(Block& block, BlockSource& source);
  Block* Follow(Part& last, const BlockEnding& ending, BlockSource& source);
  Block* FindNext(int64_t offset, BlockSource& source) const;
  BlockEnding EndingOf(const Part& part, const FeatureSet& features, bool direct) const;

  std::array<Part, kMaxBlocks> parts_;
  std::array<Op, kMaxSteps> ops_;
  std::array<uint8_t, kMaxBytes> bytes_;
  // Where the calls among them return to, as offsets in the page.
  std::array<uint16_t, kMaxBlocks> returns_;
  Glimpse glimpse_;
  unsigned part_count_ = 0, op_count_ = 0, byte_count_ = 0, return_count_ = 0;
};

}  // namespace bt
