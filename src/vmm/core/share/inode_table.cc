#include "vmm/core/share/inode_table.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmm/core/base/check.h"

namespace vmm {

InodeTable::InodeTable(HostInodes& host, const InodeLimits& limits) : host_(host), limits_(limits) {
  Reset();
}

void InodeTable::Reset() {
  recent_.clear();
  by_key_.clear();
  inodes_.clear();
  pinned_ = 0;
  auto root = std::make_unique<Inode>();
  root->id = kRoot;
  root->is_directory = true;
  root->is_pinned = true;
  root->fd = host_.root();
  if (const auto status = HostInodes::Stat(root->fd->get())) root->key = host_.KeyOf(*status);
  by_key_[root->key] = root.get();
  inodes_[kRoot] = std::move(root);
}

void InodeTable::Clear() {
  const std::lock_guard lock(mutex_);
  Reset();
}

size_t InodeTable::size() const {
  const std::lock_guard lock(mutex_);
  return inodes_.size();
}

size_t InodeTable::descriptors() const {
  const std::lock_guard lock(mutex_);
  return recent_.size() + pinned_;
}

InodeTable::Inode* InodeTable::Find(uint64_t id) {
  const auto found = inodes_.find(id);
  return found == inodes_.end() ? nullptr : found->second.get();
}

InodeTable::Inode* InodeTable::FindKey(const InodeKey& key) {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : found->second;
}

void InodeTable::Touch(Inode& inode) {
  if (inode.fd && !inode.is_pinned) recent_.splice(recent_.begin(), recent_, inode.recent);
}

void InodeTable::KeepFd(Inode& inode, SharedFd fd) {
  if (inode.fd || pinned_ >= limits_.descriptors) return;
  while (recent_.size() + pinned_ >= limits_.descriptors) DropFd(*recent_.back());
  inode.fd = std::move(fd);
  recent_.push_front(&inode);
  inode.recent = recent_.begin();
}

void InodeTable::DropFd(Inode& inode) {
  if (!inode.fd || inode.id == kRoot) return;
  if (inode.is_pinned) {
    --pinned_;
    inode.is_pinned = false;
  } else {
    recent_.erase(inode.recent);
  }
  inode.fd.reset();
}

// What the host moves about may look like a loop for a while: then the old place stays.
void InodeTable::Place(Inode& inode, Inode& parent, const std::string& name) {
  if (inode.id == kRoot || (inode.parent == &parent && inode.name == name)) return;
  for (const Inode* above = &parent; above != nullptr; above = above->parent) {
    if (above == &inode) return;
  }
  ++parent.children;
  inode.name = name;
  if (Inode* before = std::exchange(inode.parent, &parent)) {
    --before->children;
    DropUnused(before);
  }
}

void InodeTable::DropUnused(Inode* inode) {
  while (inode != nullptr && inode->id != kRoot && inode->lookups == 0 && inode->children == 0) {
    Inode* parent = inode->parent;
    DropFd(*inode);
    by_key_.erase(inode->key);
    inodes_.erase(inode->id);
    if (parent != nullptr) --parent->children;
    inode = parent;
  }
}

InodeTable::Way InodeTable::WayTo(const Inode& inode) const {
  Way way{.key = inode.key, .is_directory = inode.is_directory};
  const Inode* at = &inode;
  while (!at->fd) {  // the root has one
    way.names.push_back(at->name);
    at = at->parent;
  }
  way.from = at->fd;
  return way;
}

OrErrno<SharedFd> InodeTable::Walk(const Way& way) const {
  SharedFd fd = way.from;
  for (size_t i = way.names.size(); i-- > 0;) {
    auto next = HostInodes::OpenChild(fd->get(), way.names[i], i != 0 || way.is_directory);
    if (!next) {
      const int error = next.error();
      return Errno(error == ENOENT || error == ENOTDIR || error == ELOOP ? ESTALE : error);
    }
    fd = std::move(*next);
  }
  const auto status = HostInodes::Stat(fd->get());
  if (!status) return Errno(status.error());
  if (!(host_.KeyOf(*status) == way.key)) return Errno(ESTALE);
  return fd;
}

OrErrno<SharedFd> InodeTable::Open(uint64_t id) {
  constexpr int kTries = 3;  // the guest may rename what is above it meanwhile
  int error = ESTALE;
  for (int i = 0; i < kTries; ++i) {
    Way way;
    {
      const std::lock_guard lock(mutex_);
      Inode* inode = Find(id);
      if (inode == nullptr) return Errno(ESTALE);
      if (inode->fd) {
        Touch(*inode);
        return inode->fd;
      }
      way = WayTo(*inode);
    }
    auto fd = Walk(way);
    if (fd) {
      const std::lock_guard lock(mutex_);
      if (Inode* inode = Find(id)) KeepFd(*inode, *fd);
      return fd;
    }
    error = fd.error();
    if (error != ESTALE) break;
  }
  return Errno(error);
}

OrErrno<uint64_t> InodeTable::Remember(uint64_t parent, const std::string& name,
                                       const struct statx& status, SharedFd fd) {
  const InodeKey key = host_.KeyOf(status);
  const std::lock_guard lock(mutex_);
  Inode* above = Find(parent);
  if (above == nullptr || !above->is_directory) return Errno(ESTALE);
  Inode* inode = FindKey(key);
  if (inode == nullptr) {
    if (inodes_.size() >= limits_.inodes) return Errno(ENFILE);
    auto made = std::make_unique<Inode>();
    inode = made.get();
    inode->id = next_id_++;
    inode->key = key;
    inode->is_directory = S_ISDIR(status.stx_mode);
    by_key_[key] = inode;
    inodes_[inode->id] = std::move(made);
  }
  ++inode->lookups;
  Place(*inode, *above, name);
  if (fd) {
    KeepFd(*inode, std::move(fd));
    Touch(*inode);
  }
  return inode->id;
}

void InodeTable::Forget(uint64_t id, uint64_t count) {
  const std::lock_guard lock(mutex_);
  Inode* inode = Find(id);
  if (inode == nullptr) return;
  inode->lookups -= std::min(inode->lookups, count);
  DropUnused(inode);
}

OrErrno<void> InodeTable::KeepOpen(int directory, const std::string& name) {
  const auto fd = HostInodes::OpenChild(directory, name, false);
  if (!fd) return {};
  const auto status = HostInodes::Stat((*fd)->get());
  if (!status) return {};
  const std::lock_guard lock(mutex_);
  Inode* inode = FindKey(host_.KeyOf(*status));
  if (inode == nullptr || inode->is_pinned) return {};
  if (pinned_ >= limits_.descriptors) return Errno(ENFILE);
  KeepFd(*inode, *fd);
  recent_.erase(inode->recent);
  inode->is_pinned = true;
  ++pinned_;
  return {};
}

void InodeTable::Moved(uint64_t parent, const std::string& name, const struct statx& status) {
  const std::lock_guard lock(mutex_);
  Inode* above = Find(parent);
  Inode* inode = FindKey(host_.KeyOf(status));
  if (above != nullptr && inode != nullptr) Place(*inode, *above, name);
}

std::vector<InodeTable::Saved> InodeTable::Save() const {
  const std::lock_guard lock(mutex_);
  std::vector<const Inode*> order;
  order.reserve(inodes_.size());
  for (const auto& [id, inode] : inodes_) order.push_back(inode.get());
  std::unordered_map<const Inode*, unsigned> depths;
  for (const Inode* inode : order) {
    std::vector<const Inode*> above;
    const Inode* at = inode;
    for (; at != nullptr && !depths.contains(at); at = at->parent) above.push_back(at);
    unsigned depth = at == nullptr ? 0 : depths[at] + 1;
    for (size_t i = above.size(); i-- > 0;) depths[above[i]] = depth++;
  }
  std::ranges::sort(order, [&](const Inode* one, const Inode* other) {
    return std::pair(depths[one], one->id) < std::pair(depths[other], other->id);
  });
  std::vector<Saved> all;
  for (const Inode* inode : order) {
    if (inode->id == kRoot) continue;
    all.push_back({inode->id, inode->parent->id, inode->lookups, inode->key, inode->is_directory,
                   inode->name});
  }
  return all;
}

bool InodeTable::Load(const std::vector<Saved>& all) {
  const std::lock_guard lock(mutex_);
  Reset();
  for (const Saved& saved : all) {
    Inode* parent = Find(saved.parent);
    const bool is_name = !saved.name.empty() && saved.name != "." && saved.name != ".." &&
                         saved.name.find('/') == std::string::npos &&
                         saved.name.find('\0') == std::string::npos;
    if (parent == nullptr || !parent->is_directory || !is_name || Find(saved.id) != nullptr ||
        saved.id == 0 || saved.id == UINT64_MAX || FindKey(saved.key) != nullptr ||
        inodes_.size() >= limits_.inodes) {
      Reset();
      return false;
    }
    auto inode = std::make_unique<Inode>();
    inode->id = saved.id;
    inode->key = saved.key;
    inode->is_directory = saved.is_directory;
    inode->lookups = saved.lookups;
    inode->parent = parent;
    inode->name = saved.name;
    ++parent->children;
    by_key_[saved.key] = inode.get();
    next_id_ = std::max(next_id_, saved.id + 1);
    inodes_[saved.id] = std::move(inode);
  }
  return true;
}

}  // namespace vmm
