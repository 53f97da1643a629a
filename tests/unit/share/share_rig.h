// A directory of the host's with something in it and something beside it, and a client of it.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/fuse_client.h"

namespace vmm {

struct ShareRig {
  explicit ShareRig(ShareOptions options = {}) {
    std::string name = (std::filesystem::temp_directory_path() / "vmm-share-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    top = name;
    root = top / "shared";
    std::filesystem::create_directory(root);
    Put(top / "secret", "outside");
    options.path = root.string();
    server = std::move(ShareServer::Open(options).value());
    client = std::make_unique<FuseClient>(*server);
    REQUIRE(client->Begin().error == 0);
  }
  ~ShareRig() {
    std::error_code ignored;
    std::filesystem::remove_all(top, ignored);
  }
  static void Put(const std::filesystem::path& path, std::string_view text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  static std::string Get(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // A file of the share, opened: its handle.
  uint64_t OpenFile(std::string_view name, uint32_t flags) {
    return client->Open(client->Node(1, name), flags).As<fuse_open_out>().fh;
  }

  std::filesystem::path top, root;
  std::unique_ptr<ShareServer> server;
  std::unique_ptr<FuseClient> client;
};

}  // namespace vmm
