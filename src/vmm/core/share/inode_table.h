// The files that the guest knows, by the numbers that it knows them by.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "vmm/core/share/host_inode.h"

namespace vmm {

struct InodeLimits {
  size_t inodes = size_t{1} << 20;
  size_t descriptors = 256;  // that are held for them
};

// A guest may know more files than there are descriptors: of those that it has not used lately only
// the place is kept, and what is found there again must be the same file. A file whose place is
// about to go (it is deleted) keeps its descriptor.
//
// Any thread. Errors are errno: ESTALE for what the guest does not know or the host has no more,
// ENFILE for what is too much.
class InodeTable {
 public:
  static constexpr uint64_t kRoot = 1;  // the number of the root

  InodeTable(HostInodes& host, const InodeLimits& limits);

  // A descriptor (O_PATH) of it, which lives as long as it is held.
  OrErrno<SharedFd> Open(uint64_t id);
  // The guest is told of the file `status` at this place: its number. `fd` may be null.
  OrErrno<uint64_t> Remember(uint64_t parent, const std::string& name, const struct statx& status,
                             SharedFd fd);
  // The guest was told of it `count` times less.
  void Forget(uint64_t id, uint64_t count);
  // What is at this place is about to lose it; nothing there is no error.
  OrErrno<void> KeepOpen(int directory, const std::string& name);
  // What was looked up as `status` is at this place now.
  void Moved(uint64_t parent, const std::string& name, const struct statx& status);
  // Forgets everything.
  void Clear();

  size_t size() const;
  size_t descriptors() const;

  // One inode of the saved form; parents come before their children.
  struct Saved {
    uint64_t id = 0, parent = 0, lookups = 0;
    InodeKey key;
    bool is_directory = false;
    std::string name;
    friend bool operator==(const Saved&, const Saved&) = default;
  };
  // No request is under way.
  std::vector<Saved> Save() const;
  // Into an empty table. False, and it is empty again: they can't be.
  bool Load(const std::vector<Saved>& all);

 private:
  struct Inode {
    uint64_t id = 0;
    InodeKey key;
    bool is_directory = false;
    uint64_t lookups = 0;   // how often the guest was told of it
    uint64_t children = 0;  // whose place is in it
    Inode* parent = nullptr;
    std::string name;
    SharedFd fd;             // may be null
    bool is_pinned = false;  // fd stays
    std::list<Inode*>::iterator recent;
  };

  // All with mutex_ held.
  Inode* Find(uint64_t id);
  Inode* FindKey(const InodeKey& key);
  void Touch(Inode& inode);
  void KeepFd(Inode& inode, SharedFd fd);
  void DropFd(Inode& inode);
  void Place(Inode& inode, Inode& parent, const std::string& name);
  void DropUnused(Inode* inode);
  // What to open one after another, and from where.
  struct Way {
    SharedFd from = {};
    std::vector<std::string> names = {};  // the last first
    InodeKey key = {};
    bool is_directory = false;
  };
  Way WayTo(const Inode& inode) const;
  OrErrno<SharedFd> Walk(const Way& way) const;  // without mutex_
  void Reset();

  HostInodes& host_;
  const InodeLimits limits_;
  mutable std::mutex mutex_;  // guards all below
  std::unordered_map<uint64_t, std::unique_ptr<Inode>> inodes_;
  std::unordered_map<InodeKey, Inode*, InodeKey::Hash> by_key_;
  std::list<Inode*> recent_;  // with a descriptor that is not pinned; the last used first
  size_t pinned_ = 0;
  uint64_t next_id_ = kRoot + 1;
};

}  // namespace vmm
