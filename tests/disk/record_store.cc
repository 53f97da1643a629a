#include "tests/disk/record_store.h"

#include <fstream>

namespace vmm {
namespace {

struct Head {
  uint64_t kind, offset, length, bytes;
};

}  // namespace

bool SaveRecord(const std::filesystem::path& path, const std::vector<FileEvent>& events) {
  std::ofstream file(path, std::ios::binary);
  for (const FileEvent& event : events) {
    const Head head{static_cast<uint64_t>(event.kind), event.offset, event.length,
                    event.bytes.size()};
    file.write(reinterpret_cast<const char*>(&head), sizeof head);
    file.write(reinterpret_cast<const char*>(event.bytes.data()),
               static_cast<std::streamsize>(event.bytes.size()));
  }
  file.close();
  return !file.fail();
}

std::optional<std::vector<FileEvent>> LoadRecord(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return {};
  std::vector<FileEvent> events;
  for (Head head; file.read(reinterpret_cast<char*>(&head), sizeof head);) {
    FileEvent event{static_cast<FileEvent::Kind>(head.kind), head.offset, head.length, {}};
    event.bytes.resize(head.bytes);
    if (!file.read(reinterpret_cast<char*>(event.bytes.data()),
                   static_cast<std::streamsize>(head.bytes))) {
      return {};
    }
    events.push_back(std::move(event));
  }
  return events;
}

}  // namespace vmm
