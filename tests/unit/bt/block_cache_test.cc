#include "bt/interp/block_cache.h"

#include <catch2/catch.hpp>

#include "bt/interp/cpu.h"

using namespace bt;

namespace {

bool Handler1(Cpu&, const Op&) {
  return true;
}

Block* AddBlock(BlockCache& cache, uint64_t phys, uint16_t bytes, uint64_t second_page = 0) {
  Block block;
  block.phys = phys;
  block.bytes = bytes;
  block.op_count = 2;
  block.second_page = second_page;
  Op ops[2];
  ops[0].fn = ops[1].fn = &Handler1;
  return cache.Add(block, ops);
}

}  // namespace

TEST_CASE("a block is found by its physical address and code size") {
  BlockCache cache(1 << 20);
  Block* block = AddBlock(cache, 0x1234, 10);
  CHECK(cache.Find(0x1234, CodeSize::k64) == block);
  CHECK(cache.Find(0x1234, CodeSize::k32) == nullptr);
  CHECK(cache.Find(0x1235, CodeSize::k64) == nullptr);
  CHECK(cache.HasCode(0x1000));
}

TEST_CASE("a write kills the blocks that it overlaps and no others") {
  BlockCache cache(1 << 20);
  Block* hit = AddBlock(cache, 0x1010, 16);
  Block* near = AddBlock(cache, 0x1020, 8);  // in the same 64 bytes
  CHECK_FALSE(cache.Invalidate(0x1028, 4));
  CHECK_FALSE(cache.Invalidate(0x1100, 64));
  CHECK(cache.Invalidate(0x101f, 1));
  CHECK(hit->dead);
  CHECK_FALSE(near->dead);
  CHECK(hit->ops[0].fn != &Handler1);  // a running block leaves at its next instruction
  CHECK(cache.Find(0x1010, CodeSize::k64) == nullptr);
  CHECK(cache.Find(0x1020, CodeSize::k64) == near);
}

TEST_CASE("a block over a page border dies by a write to either page") {
  for (const uint64_t at : {0x1ffeull, 0x2001ull}) {
    BlockCache cache(1 << 20);
    Block* block = AddBlock(cache, 0x1ffc, 7, 0x2000);
    CHECK_FALSE(cache.Invalidate(0x2003, 1));
    CHECK(cache.Invalidate(at, 1));
    CHECK(block->dead);
    CHECK(cache.Find(0x1ffc, CodeSize::k64) == nullptr);
    // The other page forgets it at its next write.
    cache.Invalidate(0x1ffc, 1);
    cache.Invalidate(0x2000, 1);
    CHECK_FALSE(cache.HasCode(0x1000));
    CHECK_FALSE(cache.HasCode(0x2000));
  }
}

TEST_CASE("the cache keeps to its budget") {
  BlockCache cache(1 << 20);
  uint64_t count = 0;
  while (cache.HasRoom()) AddBlock(cache, 0x1000 + 32 * count++, 16);
  CHECK(count > 1000);
  CHECK(count * (sizeof(Block) + 2 * sizeof(Op)) <= 1 << 20);
  cache.Clear();
  CHECK(cache.HasRoom());
  CHECK_FALSE(cache.HasCode(0x1000));
  CHECK(cache.Find(0x1000, CodeSize::k64) == nullptr);
}
