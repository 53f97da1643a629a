// The wires of a machine's network cards, connected.
#pragma once

#include <memory>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/core/net/net_backend.h"
#include "vmm/machine/board_nets.h"
#include "vmm/machine/nat_process.h"

namespace vmm {

class Nets {
 public:
  // Connects every wire, or says which can't be, with its exit code.
  static Result<std::unique_ptr<Nets>> Open(const Config& config);
  // The address of card `index` where vm.toml gives none: the same for the same place of vm.toml,
  // or for the same name without one.
  static NetSpec::Mac MacFor(const Config& config, size_t index);

  std::vector<BoardNet> ForBoard() const;

 private:
  struct Entry {
    BoardNet board;
    std::unique_ptr<NatProcess> process;
    std::unique_ptr<NetBackend> backend;  // goes first
  };
  Result<std::unique_ptr<NetBackend>> Connect(const NetSpec& spec, const Config& config,
                                              Entry& entry, const std::string& name);
  std::vector<Entry> entries_;
};

}  // namespace vmm
