#include "bt/translator/jump_tables.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "vmm/core/base/check.h"

namespace bt {
namespace {

constexpr uint64_t kSpaceBytes = 2 * JumpTables::kUserTable;

}  // namespace

static_assert(sizeof(JumpTarget) == 16 &&
              (JumpTables::kHash >> JumpTables::kHashShift & JumpTables::kIndexMask) >=
                  JumpTables::kWays * sizeof(JumpTarget));

void JumpTables::Unmap::operator()(void* memory) const {
  munmap(memory, (kSpaces + 1) * kSpaceBytes);
}

// Aligned, so that kUserTable is one bit of the address.
JumpTables::JumpTables() {
  void* memory = mmap(nullptr, (kSpaces + 1) * kSpaceBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(memory != MAP_FAILED);
  memory_.reset(memory);
  uint64_t tables = (reinterpret_cast<uint64_t>(memory) + kSpaceBytes - 1) & ~(kSpaceBytes - 1);
  for (Space& space : spaces_) {
    space.tables = std::exchange(tables, tables + kSpaceBytes);
    // Zeros are empty but in the first set of either table.
    for (unsigned way = 0; way < kWays; ++way) {
      space.filled.push_back(static_cast<uint16_t>(way));
      space.filled.push_back(static_cast<uint16_t>(kTargets + way));
    }
    Void(space);
  }
}

void JumpTables::Void(Space& space) {
  for (const uint16_t index : space.filled) Table(space.tables)[index] = Empty(index % kTargets);
  space.filled.clear();
  space.key = kNoKey;
}

void JumpTables::Find(uint64_t key) {
  key &= ~1ull;
  auto* space = std::find_if(std::begin(spaces_), std::end(spaces_),
                             [key](const Space& at) { return at.key == key; });
  if (space == std::end(spaces_)) {
    space =
        std::min_element(std::begin(spaces_), std::end(spaces_),
                         [](const Space& a, const Space& b) { return a.last_used < b.last_used; });
    Void(*space);
    space->key = key;
  }
  space->last_used = ++uses_;
  current_ = static_cast<unsigned>(space - spaces_);
}

void JumpTables::Insert(uint64_t linear, uint64_t key, uint64_t code) {
  JumpTarget* table = Table(Select(key));
  const unsigned index = Index(linear), first = index & ~(kWays - 1);
  // Where this target was, or what stands in its way goes to.
  unsigned other = first + (index + 1 + victim_++ % (kWays - 1)) % kWays;
  for (unsigned at = first; at < first + kWays; ++at) {
    if (table[at].code == 0) other = at;
  }
  for (unsigned at = first; at < first + kWays; ++at) {
    if (table[at].linear == linear || (at == index && table[at].code == 0)) other = at;
  }
  for (unsigned at : {index, other}) {
    if (table[at].code == 0)
      spaces_[current_].filled.push_back(static_cast<uint16_t>(at + (key & 1) * kTargets));
  }
  table[other] = table[index];
  table[index] = {linear, code};
}

void JumpTables::Clear() {
  for (Space& space : spaces_) Void(space);
}

}  // namespace bt
