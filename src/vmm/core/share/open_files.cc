#include "vmm/core/share/open_files.h"

#include <algorithm>
#include <cerrno>

namespace vmm {

OrErrno<uint64_t> OpenFiles::Add(uint64_t inode, int flags, bool is_directory, UniqueFd fd) {
  auto file = std::make_shared<OpenFile>(inode, flags, is_directory, std::move(fd));
  const std::lock_guard lock(mutex_);
  if (files_.size() >= most_) return Errno(ENFILE);
  files_[next_id_] = std::move(file);
  return next_id_++;
}

OrErrno<std::shared_ptr<OpenFile>> OpenFiles::Find(uint64_t id, bool is_directory) const {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(id);
  if (found == files_.end() || found->second->is_directory != is_directory) return Errno(EBADF);
  return found->second;
}

void OpenFiles::Remove(uint64_t id) {
  std::shared_ptr<OpenFile> ended;  // is closed without the lock
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(id);
  if (found == files_.end()) return;
  ended = std::move(found->second);
  files_.erase(found);
}

void OpenFiles::Clear() {
  const std::lock_guard lock(mutex_);
  files_.clear();
}

size_t OpenFiles::size() const {
  const std::lock_guard lock(mutex_);
  return files_.size();
}

std::vector<OpenFiles::Saved> OpenFiles::Save() const {
  const std::lock_guard lock(mutex_);
  std::vector<Saved> all;
  for (const auto& [id, file] : files_) {
    all.push_back({id, file->inode, file->flags, file->is_directory});
  }
  std::ranges::sort(all, {}, &Saved::id);
  return all;
}

bool OpenFiles::Load(const std::vector<Saved>& all) {
  const std::lock_guard lock(mutex_);
  files_.clear();
  for (const Saved& saved : all) {
    if (saved.id < 1 || saved.id == UINT64_MAX || files_.size() >= most_ ||
        files_.contains(saved.id)) {
      files_.clear();
      return false;
    }
    files_[saved.id] =
        std::make_shared<OpenFile>(saved.inode, saved.flags, saved.is_directory, UniqueFd());
    next_id_ = std::max(next_id_, saved.id + 1);
  }
  return true;
}

}  // namespace vmm
