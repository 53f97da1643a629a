#include "bt/interp/block_cache.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "bt/interp/cpu.h"
#include "vmm/core/memory/map_ahead.h"

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

BlockCache::BlockCache(size_t budget, size_t ops_budget) : hash_(new Block*[kHashSize]()) {
  kept_.max_slabs = std::max<size_t>(2, budget / kSlabSize);
  if (ops_budget == 0) return;
  recent_.max_slabs = std::max<size_t>(2, ops_budget / kSlabSize);
  runs_.resize(kHashSize);
}

BlockCache::Slab::Slab()
    : bytes(static_cast<std::byte*>(std::aligned_alloc(vmm::kPageSize, kSlabSize))) {
  if (!bytes) throw std::bad_alloc();
  vmm::MapAhead(bytes.get(), kSlabSize);
}

std::byte* BlockCache::Area::Allocate(size_t size) {
  if (slabs.empty() || kSlabSize - slabs[slab].used < size) {
    slab = slabs.size();
    slabs.emplace_back();
  }
  std::byte* memory = slabs[slab].bytes.get() + slabs[slab].used;
  slabs[slab].used += size;
  return memory;
}

Block* BlockCache::Find(uint64_t phys, CodeSize code_size) const {
  for (Block* block = hash_[Hash(phys)]; block; block = block->hash_next) {
    if (block->phys == phys && block->code_size == code_size) return block;
  }
  return nullptr;
}

Block* BlockCache::Add(const Block& prototype, const Op* ops) {
  const size_t op_bytes = prototype.op_count * sizeof(Op);
  std::byte* memory;
  if (forgets()) {
    const size_t bytes = sizeof(Decoded) + sizeof(Block) + op_bytes;
    memory = recent_.Allocate(bytes) + sizeof(Decoded);
    new (memory - sizeof(Decoded)) Decoded{reinterpret_cast<Block*>(memory), bytes};
  } else {
    memory = kept_.Allocate(sizeof(Block) + op_bytes + 2 * sizeof(Block::Link));
  }
  auto* block = new (memory) Block(prototype);
  memory += sizeof(Block);
  block->ops = reinterpret_cast<Op*>(memory);
  std::copy_n(ops, prototype.op_count, block->ops);
  if (forgets()) {
    block->runs = std::exchange(RunsOf(*block), 0);
  } else {
    block->kept = true;
    block->links = new (memory + op_bytes) Block::Link[2];
  }
  Enter(block);
  return block;
}

Block* BlockCache::Keep(Block* block) {
  if (block->kept) return block;
  Leave(block);
  auto* kept = new (kept_.Allocate(sizeof(Block))) Block(*block);
  block->dead = true;
  kept->kept = true;
  reinterpret_cast<Decoded*>(block)[-1].owner = kept;
  Enter(kept);
  return kept;
}

void BlockCache::Restore(Block& block, const Op* ops) {
  const size_t bytes = sizeof(Decoded) + block.op_count * sizeof(Op);
  std::byte* memory = recent_.Allocate(bytes);
  new (memory) Decoded{&block, bytes};
  block.ops = reinterpret_cast<Op*>(memory + sizeof(Decoded));
  std::copy_n(ops, block.op_count, block.ops);
}

// It is found from now on. Whose tail is in its own page once more can't be in the page's list
// twice: it is decoded anew each time.
void BlockCache::Enter(Block* block) {
  if (block->second_page == (block->phys & kPageMask) && block->second_page != 0) {
    block->dead = block->untranslatable = true;
    return;
  }
  Block*& head = hash_[Hash(block->phys)];
  block->hash_next = head;
  head = block;
  AddToPage(block->phys & kPageMask, block);
  if (block->second_page) AddToPage(block->second_page, block);
}

// Nobody finds it any more.
void BlockCache::Leave(Block* block) {
  if (!block->dead) Unhash(block);
  RemoveFromPage(block->phys & kPageMask, block);
  if (block->second_page) RemoveFromPage(block->second_page, block);
}

// The pages where blocks went. What only the interpreter can run keeps its ops.
std::vector<uint64_t> BlockCache::ForgetOldestSlab() {
  std::vector<uint64_t> pages;
  recent_.slab = (recent_.slab + 1) % recent_.max_slabs;
  Slab& slab = recent_.slabs[recent_.slab];
  for (size_t at = 0; at < slab.used;) {
    std::byte* const begin = slab.bytes.get() + at;
    const Decoded& decoded = *reinterpret_cast<const Decoded*>(begin);
    at += decoded.bytes;
    Block& block = *decoded.owner;
    if (!block.kept) {
      if (!block.dead) RunsOf(block) = block.runs;
      Leave(&block);
      pages.push_back(block.phys & kPageMask);
      if (block.second_page) pages.push_back(block.second_page);
    } else if (block.untranslatable && !block.dead && kept_.HasRoom()) {
      std::byte* memory = kept_.Allocate(block.op_count * sizeof(Op));
      block.ops =
          std::copy_n(block.ops, block.op_count, reinterpret_cast<Op*>(memory)) - block.op_count;
    } else {
      block.ops = nullptr;
    }
  }
  slab.used = 0;
  return pages;
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

Block::Place& BlockCache::PlaceIn(uint64_t page, Block& block) {
  return page == (block.phys & kPageMask) ? block.in_page : block.in_second_page;
}

void BlockCache::AddToPage(uint64_t page, Block* block) {
  PageCode& code = pages_[page];
  if (code.first) PlaceIn(page, *code.first).at = &PlaceIn(page, *block).next;
  PlaceIn(page, *block) = {code.first, &code.first};
  code.first = block;
  code.chunks |= ChunksOf(*block, page);
}

void BlockCache::Unlink(uint64_t page, Block& block) {
  Block::Place& place = PlaceIn(page, block);
  *place.at = place.next;
  if (place.next) PlaceIn(page, *place.next).at = place.at;
  place = {};
}

// A dead block may have left already.
void BlockCache::RemoveFromPage(uint64_t page, Block* block) {
  const Block::Place& place = PlaceIn(page, *block);
  if (!place.at) return;
  const bool last = !place.next;
  Unlink(page, *block);
  if (!last) return;
  const auto found = pages_.find(page);
  if (!found->second.first) pages_.erase(found);
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
  uint64_t first = phys & ~kPageMask;
  uint64_t last = std::min(first + size, vmm::kPageSize) - 1;
  uint8_t& losses = LossesOf(page);
  if (losses < kMostLosses && ++found->second.writes >= kPatience << losses) {
    ++losses;
    first = 0;
    last = vmm::kPageSize - 1;
  }
  const uint64_t hit = (~0ull >> (63 - last / 64)) & (~0ull << (first / 64));
  if (!(found->second.chunks & hit)) return false;

  bool any = false;
  uint64_t chunks = 0;
  for (Block *block = found->second.first, *next; block; block = next) {
    next = PlaceIn(page, *block).next;
    const uint64_t own = ChunksOf(*block, page);
    const bool overlaps = (own & hit) && Overlaps(*block, page, first, last);
    if (!block->dead && !overlaps) {
      chunks |= own;
      continue;
    }
    if (!block->dead) {
      any = true;
      block->dead = true;
      Unhash(block);
      if (tier_) tier_->Kill(block);
      for (unsigned i = 0; block->ops && i < block->op_count; ++i)
        block->ops[i].fn = &LeaveDeadBlock;
    }
    Unlink(page, *block);
  }
  found->second.chunks = chunks;
  if (!found->second.first) pages_.erase(found);
  return any;
}

void BlockCache::Clear() {
  if (tier_) tier_->Clear();
  std::fill_n(hash_.get(), kHashSize, nullptr);
  pages_.clear();
  std::fill(runs_.begin(), runs_.end(), 0);
  losses_ = {};
  for (Area* area : {&kept_, &recent_}) {
    area->slabs.clear();
    area->slab = 0;
  }
}

}  // namespace bt
