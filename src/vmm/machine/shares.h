// The shared directories of a machine, opened.
#pragma once

#include <memory>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/core/share/share_server.h"
#include "vmm/machine/board_shares.h"

namespace vmm {

class Shares {
 public:
  // Opens every directory, or says which can't be shared, with its exit code. With any, the
  // process may from then on have as many files open as the host lets it.
  static Result<std::unique_ptr<Shares>> Open(const Config& config);

  std::vector<BoardShare> ForBoard() const;

 private:
  struct Entry {
    std::unique_ptr<ShareServer> server;
    std::string tag;
    unsigned queues;
  };
  std::vector<Entry> entries_;
};

}  // namespace vmm
