#include "bt/interp/block_cache.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "bt/interp/cpu.h"

namespace bt {
namespace {

constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);

// Stands where an instruction of a dead block stood: leave before it.
bool LeaveDeadBlock(Cpu& cpu, const Op& op) {
  cpu.r[kRip] -= op.length;
  cpu.incomplete_ = true;
  return false;
}

}  // namespace

BlockCache::BlockCache(size_t budget)
    : hash_(new Block*[kHashSize]()), max_slabs_(std::max<size_t>(2, budget / kSlabSize)) {}

bool BlockCache::HasRoom() const {
  return slab_ + 1 < max_slabs_ || kSlabSize - slab_used_ >= sizeof(Block) + kMaxOps * sizeof(Op);
}

void* BlockCache::Allocate(size_t size) {
  if (slabs_.empty()) slabs_.push_back(std::make_unique<std::byte[]>(kSlabSize));
  if (kSlabSize - slab_used_ < size) {
    ++slab_;
    slab_used_ = 0;
    if (slab_ == slabs_.size()) slabs_.push_back(std::make_unique<std::byte[]>(kSlabSize));
  }
  void* memory = slabs_[slab_].get() + slab_used_;
  slab_used_ += size;
  return memory;
}

Block* BlockCache::Find(uint64_t phys, CodeSize code_size) const {
  for (Block* block = hash_[Hash(phys)]; block; block = block->hash_next) {
    if (block->phys == phys && block->code_size == code_size) return block;
  }
  return nullptr;
}

Block* BlockCache::Add(const Block& prototype, const Op* ops) {
  Block* block = new (Allocate(sizeof(Block))) Block(prototype);
  block->ops = static_cast<Op*>(Allocate(prototype.op_count * sizeof(Op)));
  std::copy_n(ops, prototype.op_count, block->ops);
  Block*& head = hash_[Hash(block->phys)];
  block->hash_next = head;
  head = block;
  AddToPage(block->phys & kPageMask, block);
  if (block->second_page) AddToPage(block->second_page, block);
  return block;
}

uint64_t BlockCache::ChunksOf(const Block& block, uint64_t page) {
  uint64_t first = block.phys & ~kPageMask, last = first + block.bytes - 1;
  if (page != (block.phys & kPageMask)) {
    last -= vmm::kPageSize;
    first = 0;
  }
  last = std::min<uint64_t>(last, vmm::kPageSize - 1);
  const uint64_t up_to_last = ~0ull >> (63 - last / 64);
  return up_to_last & (~0ull << (first / 64));
}

// Whether `block` has a byte in [first, last] of `page`.
bool BlockCache::Overlaps(const Block& block, uint64_t page, uint64_t first, uint64_t last) {
  const uint64_t begin = block.phys & ~kPageMask, end = begin + block.bytes;
  if (page == (block.phys & kPageMask)) return begin <= last && first < end;
  return first + vmm::kPageSize < end;
}

void BlockCache::AddToPage(uint64_t page, Block* block) {
  PageCode& code = pages_[page];
  Block*& next = page == (block->phys & kPageMask) ? block->page_next : block->second_page_next;
  next = code.first;
  code.first = block;
  code.chunks |= ChunksOf(*block, page);
}

void BlockCache::Unhash(Block* block) {
  Block** at = &hash_[Hash(block->phys)];
  while (*at && *at != block) at = &(*at)->hash_next;
  if (*at) *at = block->hash_next;
}

bool BlockCache::Invalidate(uint64_t phys, uint64_t size) {
  const uint64_t page = phys & kPageMask;
  const auto found = pages_.find(page);
  if (found == pages_.end()) return false;
  const uint64_t first = phys & ~kPageMask;
  const uint64_t last = std::min(first + size, vmm::kPageSize) - 1;
  const uint64_t hit = (~0ull >> (63 - last / 64)) & (~0ull << (first / 64));
  if (!(found->second.chunks & hit)) return false;

  bool any = false;
  uint64_t chunks = 0;
  Block** at = &found->second.first;
  while (Block* block = *at) {
    Block*& next = page == (block->phys & kPageMask) ? block->page_next : block->second_page_next;
    const uint64_t own = ChunksOf(*block, page);
    const bool overlaps = (own & hit) && Overlaps(*block, page, first, last);
    if (!block->dead && !overlaps) {
      chunks |= own;
      at = &next;
      continue;
    }
    if (!block->dead) {
      any = true;
      block->dead = true;
      Unhash(block);
      if (tier_) tier_->Kill(block);
      for (unsigned i = 0; i < block->op_count; ++i) block->ops[i].fn = &LeaveDeadBlock;
    }
    *at = next;
  }
  found->second.chunks = chunks;
  if (!found->second.first) pages_.erase(found);
  return any;
}

void BlockCache::Clear() {
  if (tier_) tier_->Clear();
  std::fill_n(hash_.get(), kHashSize, nullptr);
  pages_.clear();
  slab_ = slab_used_ = 0;
}

}  // namespace bt
