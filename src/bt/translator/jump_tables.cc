#include "bt/translator/jump_tables.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <new>

namespace bt {

static_assert(sizeof(JumpTable) % 4096 == 0);
static_assert(sizeof(JumpTarget) == 16 && JumpTable::Index(64) >= JumpTable::kWays);

namespace {

template <size_t N, class F>
void ForEach(const std::bitset<N>& bits, F&& visit) {
  for (size_t at = bits._Find_first(); at < N; at = bits._Find_next(at))
    visit(static_cast<unsigned>(at));
}

}  // namespace

void* JumpTable::operator new(size_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, size, MADV_NOHUGEPAGE);
  return memory;
}

void JumpTable::operator delete(void* memory) {
  munmap(memory, sizeof(JumpTable));
}

// Of memory that is all zero.
void JumpTables::MakeEmpty(JumpTable& table) {
  for (unsigned i = 0; i < JumpTable::kWays; ++i) table.targets[i] = JumpTable::Empty(i);
  std::fill_n(table.pages, JumpTable::kPages, JumpTable::kNowhere);
}

JumpTable* JumpTables::Nowhere() {
  if (!nowhere_) {
    nowhere_ = std::make_unique_for_overwrite<JumpTable>();
    MakeEmpty(*nowhere_);
  }
  return nowhere_.get();
}

void JumpTables::Void(Space& space) {
  ForEach(space.filled, [&](unsigned i) { space.table->targets[i] = JumpTable::Empty(i); });
  ForEach(space.pages, [&](unsigned page) { space.table->pages[page] = JumpTable::kNowhere; });
  space.filled.reset();
  space.pages.reset();
  space.key = kNoKey;
}

void JumpTables::Find(uint64_t key) {
  auto* space = std::find_if(std::begin(spaces_), std::end(spaces_),
                             [key](const Space& at) { return at.key == key; });
  if (space == std::end(spaces_)) {
    space =
        std::min_element(std::begin(spaces_), std::end(spaces_),
                         [](const Space& a, const Space& b) { return a.last_used < b.last_used; });
    if (space->table) {
      Void(*space);
    } else {
      if (!storage_) space->own = std::make_unique_for_overwrite<JumpTable>();
      space->table = storage_ ? storage_ + (space - spaces_) : space->own.get();
      MakeEmpty(*space->table);
    }
    space->key = key;
  }
  space->last_used = ++uses_;
  current_ = static_cast<unsigned>(space - spaces_);
}

void JumpTables::Insert(uint64_t linear, uint64_t key, uint64_t code) {
  JumpTarget* table = Select(key)->targets;
  const unsigned index = JumpTable::Index(linear), first = index & ~(JumpTable::kWays - 1);
  const unsigned end = first + JumpTable::kWays;
  // Where this target was, or what stands in its way goes to.
  unsigned other = first + (index + 1 + victim_++ % (JumpTable::kWays - 1)) % JumpTable::kWays;
  for (unsigned at = first; at < end; ++at) {
    if (table[at].code == 0) other = at;
  }
  for (unsigned at = first; at < end; ++at) {
    if (table[at].linear == linear || (at == index && table[at].code == 0)) other = at;
  }
  for (unsigned at : {index, other}) spaces_[current_].filled.set(at);
  table[other] = table[index];
  table[index] = {linear, code};
}

void JumpTables::Remove(uint64_t linear, uint64_t code) {
  const unsigned first = JumpTable::Index(linear) & ~(JumpTable::kWays - 1);
  for (Space& space : spaces_) {
    for (unsigned at = first; space.table && at < first + JumpTable::kWays; ++at) {
      JumpTarget& target = space.table->targets[at];
      if (target.linear == linear && target.code == code) target = JumpTable::Empty(at);
    }
  }
}

void JumpTables::Remove(uint64_t code) {
  for (Space& space : spaces_) {
    ForEach(space.filled, [&](unsigned at) {
      JumpTarget& target = space.table->targets[at];
      if (target.code == code) target = JumpTable::Empty(at);
    });
  }
}

void JumpTables::SetPage(unsigned page, uint64_t linear, uint64_t key) {
  Select(key)->pages[page] = linear;
  spaces_[current_].pages.set(page);
}

void JumpTables::Clear() {
  for (Space& space : spaces_) {
    if (space.table) Void(space);
  }
}

}  // namespace bt
