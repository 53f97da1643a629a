#include "vmm/machine/board_shares.h"

#include <fmt/format.h>

#include "vmm/snapshot/sections.h"

namespace vmm {
namespace {

constexpr uint32_t kOtherStorage = 0x018000;  // [PCI] appendix D
constexpr unsigned kThreads = 4;              // requests that may wait for the host's disk at once
constexpr uint32_t kPieceVersion = 1;
constexpr uint32_t kMostPieces = 256;  // all that Sections has room for, and more

}  // namespace

ShareSlot::ShareSlot(size_t index, const BoardShare& share, const virtio::VirtioDevice::Host& host,
                     const PciEndpoint::Socket& socket)
    : BoardSlot({kShares, static_cast<uint8_t>(index)}),
      server_(*share.server),
      fs_(fmt::format("share{}", index), server_,
          {.tag = share.tag, .request_queues = share.queues}, host, [this] { threads_.Ring(); }),
      pci_(fs_, kOtherStorage, socket),
      threads_(fs_.name(), kThreads, [this] { fs_.Work(); }) {
  pci_.MarkMultiFunction();
}

ShareSlot::~ShareSlot() {
  Pause();
}

std::string ShareSlot::PieceName(size_t index) {
  return fmt::format("{}-session{}", name(), index);
}

void ShareSlot::Save(Sections& out) {
  std::vector<std::vector<uint8_t>> pieces = server_.Save();
  out.Put(name(), ShareSlotState{.share = fs_.SaveFs(),
                                 .pci = pci_.SaveState(),
                                 .session_pieces = static_cast<uint32_t>(pieces.size())});
  for (size_t i = 0; i < pieces.size(); ++i) {
    out.PutBytes(PieceName(i), kPieceVersion, std::move(pieces[i]));
  }
}

Result<void> ShareSlot::Load(Sections& in) {
  if (auto loaded = in.LoadInto<ShareSlotState>(name(), *this); !loaded) return loaded;
  std::vector<std::vector<uint8_t>> pieces;
  for (size_t i = 0; i < pieces_to_load_; ++i) {
    auto piece = in.TakeBytes(PieceName(i), kPieceVersion);
    if (!piece) return tl::unexpected(std::move(piece.error()));
    pieces.push_back(std::move(*piece));
  }
  if (server_.Load(pieces)) return {};
  return Fail(ExitCode::kConfigInvalid, name() + ": what the guest knew of its files is damaged");
}

Result<void> ShareSlot::Load(const ShareSlotState& state) {
  if (state.version != ShareSlotState::kVersion || state.session_pieces > kMostPieces) {
    return Fail(ExitCode::kConfigInvalid, name() + ": the saved state is of another version");
  }
  pieces_to_load_ = state.session_pieces;
  return pci_.LoadState(state.pci).and_then([&] { return fs_.LoadFs(state.share); });
}

}  // namespace vmm
