// The server's session in a saved machine: what the client knows and has open.
#include <fcntl.h>

#include "vmm/core/share/share_parts.h"
#include "vmm/core/state/field_codec.h"

namespace vmm {
namespace {

constexpr size_t kPiece = 4 << 20;  // bytes after which another begins
constexpr uint32_t kVersion = 1;

struct SavedHead {
  uint32_t version = kVersion;
  bool is_begun = false;
  uint64_t inodes = 0, files = 0;
};
struct SavedInode {
  uint64_t id = 0, parent = 0, lookups = 0, device = 0, number = 0;
  int64_t born = 0;
  uint32_t born_ns = 0;
  bool is_directory = false;
  uint16_t name_length = 0;
};

}  // namespace

std::vector<std::vector<uint8_t>> ShareServer::Save() const {
  const auto inodes = inodes_.Save();
  const auto files = files_.Save();
  std::vector<std::vector<uint8_t>> pieces(1);
  const auto add = [&](const std::vector<uint8_t>& bytes) {
    if (pieces.back().size() > kPiece) pieces.emplace_back();
    pieces.back().insert(pieces.back().end(), bytes.begin(), bytes.end());
  };
  FieldWriter head;
  head.Put(SavedHead{.is_begun = is_begun_, .inodes = inodes.size(), .files = files.size()});
  add(head.Take());
  for (const InodeTable::Saved& inode : inodes) {
    FieldWriter writer;
    writer.Put(SavedInode{inode.id, inode.parent, inode.lookups, inode.key.device, inode.key.number,
                          inode.key.born, inode.key.born_ns, inode.is_directory,
                          static_cast<uint16_t>(inode.name.size())});
    std::vector<uint8_t> bytes = writer.Take();
    bytes.insert(bytes.end(), inode.name.begin(), inode.name.end());
    add(bytes);
  }
  for (const OpenFiles::Saved& file : files) {
    FieldWriter writer;
    writer.Put(file);
    add(writer.Take());
  }
  return pieces;
}

bool ShareServer::Load(const std::vector<std::vector<uint8_t>>& pieces) {
  EndSession();
  std::vector<uint8_t> all;
  for (const auto& piece : pieces) all.insert(all.end(), piece.begin(), piece.end());
  FieldReader reader(all);
  SavedHead head;
  reader.Get(head);
  if (!reader.ok() || head.version != kVersion) return false;
  // No more of either than bytes.
  if (head.inodes > all.size() || head.files > all.size()) return false;
  std::vector<InodeTable::Saved> inodes;
  for (uint64_t i = 0; i < head.inodes && reader.ok(); ++i) {
    SavedInode saved;
    reader.Get(saved);
    std::string name;
    for (unsigned j = 0; j < saved.name_length && reader.ok(); ++j) {
      uint8_t byte = 0;
      reader.Get(byte);
      name.push_back(static_cast<char>(byte));
    }
    inodes.push_back({saved.id,
                      saved.parent,
                      saved.lookups,
                      {saved.device, saved.number, saved.born, saved.born_ns},
                      saved.is_directory,
                      std::move(name)});
  }
  std::vector<OpenFiles::Saved> files;
  bool has_flags = true;
  for (uint64_t i = 0; i < head.files && reader.ok(); ++i) {
    OpenFiles::Saved& file = files.emplace_back();
    reader.Get(file);
    has_flags = has_flags && (file.flags & ~(kKeptOpenFlags | O_DIRECTORY)) == 0;
  }
  if (!reader.Complete() || !has_flags || !inodes_.Load(inodes) || !files_.Load(files)) {
    EndSession();
    return false;
  }
  is_begun_ = head.is_begun;
  return true;
}

}  // namespace vmm
