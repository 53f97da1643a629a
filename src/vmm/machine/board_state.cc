// What the board holds, saved and loaded: one section a chip.
#include <string>

#include "vmm/machine/board.h"
#include "vmm/snapshot/sections.h"

namespace vmm {

void Board::SaveState(Sections& out) {
  const auto save = [&out](std::string_view name, auto& part) { out.Put(name, part.Save()); };
  // Saving a device brings it up to date, which may move an interrupt line.
  ForEachDevice(save);
  for (const auto& slot : slots_) slot->Save(out);
  ForEachInterruptController(save);
}

template <class ForEach>
Result<void> Board::LoadParts(ForEach for_each, Sections& in) {
  Result<void> loaded;
  for_each([&](std::string_view name, auto& part) {
    if (loaded) loaded = in.LoadInto<decltype(part.Save())>(name, part);
  });
  return loaded;
}

Result<void> Board::LoadInterruptControllers(Sections& in) {
  return LoadParts([this](auto visit) { ForEachInterruptController(visit); }, in);
}

Result<void> Board::LoadDevices(Sections& in) {
  PauseDevices();
  auto loaded = LoadParts([this](auto visit) { ForEachDevice(visit); }, in);
  for (const auto& slot : slots_) {
    if (loaded) loaded = slot->Load(in);
  }
  ResumeDevices();
  return loaded;
}

}  // namespace vmm
