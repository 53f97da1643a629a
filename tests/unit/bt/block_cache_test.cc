#include "bt/interp/block_cache.h"

#include <catch2/catch.hpp>
#include <set>

#include "bt/interp/cpu.h"

using namespace bt;

namespace {

bool Handler1(Cpu&, const Op&) {
  return true;
}

constexpr Op kOps[2] = {{.fn = &Handler1, .imm = 77}, {.fn = &Handler1}};

Block* AddBlock(BlockCache& cache, uint64_t phys, uint16_t bytes, uint64_t second_page = 0) {
  Block block;
  block.phys = phys;
  block.bytes = bytes;
  block.op_count = 2;
  block.second_page = second_page;
  return cache.Add(block, kOps);
}

// Adds others until nothing is left of what was there. The pages that have no code any more.
std::set<uint64_t> ForgetAll(BlockCache& cache) {
  std::set<uint64_t> pages;
  for (uint64_t phys = 0x10'0000; phys < 0x50'0000; phys += 0x40) {
    if (!cache.HasRoom()) REQUIRE(cache.ForgetOldest([&](uint64_t page) { pages.insert(page); }));
    REQUIRE(cache.HasRoom());
    AddBlock(cache, phys, 16);
  }
  return pages;
}

constexpr size_t kOpBudget = 256 * 1024;

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

TEST_CASE("a page that is written again and again loses its code, a few times") {
  BlockCache cache(1 << 20);
  AddBlock(cache, 0x3000, 16);
  unsigned losses = 0, most = 0;
  while (losses < 100) {
    Block* const block = AddBlock(cache, 0x1000, 16);
    Block* const tail = AddBlock(cache, 0xffa, 10, 0x1000);  // from the page before
    unsigned writes = 1;
    while (!cache.Invalidate(0x1800, 8) && writes < 100'000) {
      REQUIRE_FALSE(block->dead);
      REQUIRE_FALSE(tail->dead);
      ++writes;
    }
    if (writes == 100'000) break;
    CHECK(block->dead);
    CHECK(tail->dead);
    CHECK_FALSE(cache.HasCode(0x1000));
    CHECK(writes == 32u << losses);
    most = writes;
    ++losses;
  }
  // Whose data lies beside code that runs all the time keeps it in the end.
  CHECK(losses == 8);
  CHECK(most == 32u << 7);
  CHECK(cache.Find(0x3000, CodeSize::k64) != nullptr);
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

TEST_CASE("where ops may go, a block goes with them unless it was kept") {
  BlockCache cache(1 << 20, kOpBudget);
  Block* gone = AddBlock(cache, 0x1010, 16);
  Block* kept = AddBlock(cache, 0x2ffc, 7, 0x3000);
  CHECK(kept->links == nullptr);
  gone->runs = 1;
  kept->runs = 2;
  Block* const before = kept;
  kept = cache.Keep(kept);
  CHECK(before->dead);
  CHECK_FALSE(kept->dead);
  CHECK(cache.Keep(kept) == kept);
  CHECK(cache.Find(0x2ffc, CodeSize::k64) == kept);
  CHECK(kept->ops[0].imm == 77);

  const std::set<uint64_t> pages = ForgetAll(cache);
  CHECK(pages.contains(0x1000));
  CHECK_FALSE(pages.contains(0x2000));
  CHECK_FALSE(pages.contains(0x3000));
  CHECK_FALSE(cache.HasCode(0x1000));
  CHECK(cache.Find(0x1010, CodeSize::k64) == nullptr);
  CHECK(cache.Find(0x2ffc, CodeSize::k64) == kept);
  CHECK(kept->ops == nullptr);
  CHECK(kept->op_count == 2);

  // How often it had run is not forgotten, once.
  CHECK(AddBlock(cache, 0x1010, 16)->runs == 1);
  CHECK(cache.Invalidate(0x1010, 1));
  CHECK(AddBlock(cache, 0x1010, 16)->runs == 0);
}

TEST_CASE("a kept block can have its ops again, and dies with or without them") {
  BlockCache cache(1 << 20, kOpBudget);
  Block* without = cache.Keep(AddBlock(cache, 0x1010, 16));
  Block* with = cache.Keep(AddBlock(cache, 0x2ffc, 7, 0x3000));
  ForgetAll(cache);
  REQUIRE(with->ops == nullptr);
  cache.Restore(*with, kOps);
  CHECK(with->ops[0].imm == 77);
  CHECK(with->ops[1].fn == &Handler1);
  CHECK(cache.Invalidate(0x3001, 1));
  CHECK(with->dead);
  CHECK(with->ops[0].fn != &Handler1);  // a running block leaves at its next instruction
  CHECK(cache.Invalidate(0x1010, 1));
  CHECK(without->dead);
  ForgetAll(cache);
  CHECK(with->ops == nullptr);
  CHECK_FALSE(cache.HasCode(0x1000));
}

TEST_CASE("what only the interpreter can run keeps its ops") {
  BlockCache cache(1 << 20, kOpBudget);
  Block* block = cache.Keep(AddBlock(cache, 0x1010, 16));
  block->untranslatable = true;
  ForgetAll(cache);
  REQUIRE(block->ops != nullptr);
  CHECK(block->ops[0].imm == 77);
  CHECK(cache.Invalidate(0x1010, 1));
  CHECK(block->ops[0].fn != &Handler1);
}

TEST_CASE("a dead block that goes leaves nothing behind in either of its pages") {
  BlockCache cache(1 << 20, kOpBudget);
  AddBlock(cache, 0x2ffc, 7, 0x3000);
  CHECK(cache.Invalidate(0x2ffc, 1));  // the other page still has it
  CHECK(cache.HasCode(0x3000));
  ForgetAll(cache);
  CHECK_FALSE(cache.HasCode(0x2000));
  CHECK_FALSE(cache.HasCode(0x3000));
  CHECK_FALSE(cache.Invalidate(0x3000, 4));
}

TEST_CASE("blocks of a page go in any order, and the others stay") {
  for (const unsigned first : {0u, 1u, 2u}) {
    for (const unsigned second : {0u, 1u, 2u}) {
      BlockCache cache(1 << 20, kOpBudget);
      Block* blocks[3];
      for (unsigned i = 0; i < 3; ++i)  // two of them over a border, one to either side
        blocks[i] = AddBlock(cache, 0x1ffc + i * 0x800, 7, i == 1 ? 0 : 0x2000 + i * 0x800);
      blocks[first] = cache.Keep(blocks[first]);  // leaves its place and gets another
      CHECK(cache.Invalidate(blocks[second]->phys, 1));
      for (unsigned i = 0; i < 3; ++i) {
        CHECK(blocks[i]->dead == (i == second));
        CHECK(cache.Find(0x1ffc + i * 0x800, CodeSize::k64) == (i == second ? nullptr : blocks[i]));
      }
      for (unsigned i = 0; i < 3; ++i) {
        if (i != second) CHECK(cache.Invalidate(blocks[i]->phys + blocks[i]->bytes - 1, 1));
        CHECK(blocks[i]->dead);
      }
      for (const uint64_t page : {0x1000, 0x2000, 0x3000}) cache.Invalidate(page, 0x1000);
      for (const uint64_t page : {0x1000, 0x2000, 0x3000}) CHECK_FALSE(cache.HasCode(page));
    }
  }
}

TEST_CASE("a block whose tail is in its own page once more is decoded anew each time") {
  BlockCache cache(1 << 20, kOpBudget);
  Block* other = AddBlock(cache, 0x1010, 16);
  Block* block = cache.Keep(AddBlock(cache, 0x1ffc, 7, 0x1000));
  CHECK(block->dead);
  CHECK(block->untranslatable);
  CHECK(block->ops[0].imm == 77);  // it runs once
  CHECK(cache.Find(0x1ffc, CodeSize::k64) == nullptr);
  CHECK_FALSE(cache.Invalidate(0x1ffc, 4));
  CHECK_FALSE(cache.Invalidate(0x1000, 3));
  CHECK(cache.Find(0x1010, CodeSize::k64) == other);
  ForgetAll(cache);
  CHECK_FALSE(cache.HasCode(0x1000));
}
