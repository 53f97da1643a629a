// A session over a suspension of the machine.
#include <linux/fuse.h>

#include <cerrno>

#include "tests/unit/share/share_rig.h"

namespace vmm {
namespace {

// Another run of the program on the same directory.
struct Resumed {
  Resumed(const ShareRig& before, ShareOptions options = {}) {
    options.path = before.root.string();
    server = std::move(ShareServer::Open(options).value());
    loaded = server->Load(before.server->Save());
    client = std::make_unique<FuseClient>(*server);
  }
  std::unique_ptr<ShareServer> server;
  std::unique_ptr<FuseClient> client;
  bool loaded = false;
};

}  // namespace

TEST_CASE("Files that are known and open go on after a suspension", "[share][state]") {
  ShareRig r;
  std::filesystem::create_directories(r.root / "d" / "e");
  ShareRig::Put(r.root / "d" / "e" / "f", "text");
  FuseClient& c = *r.client;
  const uint64_t e = c.Node(c.Node(1, "d"), "e"), f = c.Node(e, "f");
  const uint64_t handle = c.Open(f, O_RDWR).As<fuse_open_out>().fh, list = c.OpenDir(e);
  Resumed after(r);
  REQUIRE(after.loaded);
  CHECK(after.client->Attr(f).size == 4);
  CHECK(after.client->Node(e, "f") == f);
  CHECK(after.client->Read(handle, 0, 9).text() == "text");
  CHECK(after.client->Write(handle, 4, "s").error == 0);
  CHECK(ShareRig::Get(r.root / "d" / "e" / "f") == "texts");
  CHECK(after.client->ReadDir(list, 0, 4096).error == 0);
  // Numbers that are in use are given to nothing else.
  CHECK(after.client->Create(1, "new", O_RDWR).As<fuse_entry_out>().nodeid > f);
  CHECK(after.client->Open(f, O_RDONLY).As<fuse_open_out>().fh > list);
  CHECK(after.server->Save().size() == 1);
}

TEST_CASE("What is not where it was is stale, and all else goes on", "[share][state]") {
  ShareRig r;
  for (const char* name : {"gone", "other", "moved", "open"}) ShareRig::Put(r.root / name, "text");
  FuseClient& c = *r.client;
  const uint64_t gone = c.Node(1, "gone"), other = c.Node(1, "other"), moved = c.Node(1, "moved");
  const uint64_t open = r.OpenFile("open", O_RDWR), lost = r.OpenFile("gone", O_RDWR);
  c.Call(FUSE_UNLINK, 1, std::string_view("gone"));
  CHECK(c.Read(lost, 0, 9).text() == "text");  // deleted, and open
  const auto saved = r.server->Save();
  std::filesystem::rename(r.root / "moved", r.root / "elsewhere");
  ShareRig::Put(r.root / "new", "another");
  std::filesystem::rename(r.root / "new", r.root / "other");
  Resumed after(r);
  REQUIRE(after.server->Load(saved));
  for (const uint64_t node : {gone, other, moved}) {
    CHECK(after.client->GetAttr(node).error == ESTALE);
    CHECK(after.client->Open(node, O_RDONLY).error == ESTALE);
  }
  CHECK(after.client->Read(lost, 0, 9).error == ESTALE);
  CHECK(after.client->Write(lost, 0, "x").error == ESTALE);
  CHECK(after.client->Read(open, 0, 9).text() == "text");
  CHECK(after.client->Lookup(1, "other").As<fuse_entry_out>().attr.size == 7);
}

TEST_CASE("A share that is read-only now writes nothing by what was open before",
          "[share][state]") {
  ShareRig r;
  ShareRig::Put(r.root / "a", "text");
  const uint64_t writer = r.OpenFile("a", O_RDWR), reader = r.OpenFile("a", O_RDONLY);
  Resumed after(r, {.read_only = true});
  REQUIRE(after.loaded);
  CHECK(after.client->Write(writer, 0, "x").error == EROFS);
  CHECK(after.client->Read(writer, 0, 9).error == EROFS);
  CHECK(after.client->Read(reader, 0, 9).text() == "text");
}

TEST_CASE("A session of any size is saved in pieces", "[share][state]") {
  ShareRig r;
  std::string name(200, 'n');
  for (int i = 0; i < 300; ++i) {
    ShareRig::Put(r.root / (name + std::to_string(i)), "");
    r.client->Lookup(1, name + std::to_string(i));
  }
  const auto pieces = r.server->Save();
  size_t bytes = 0;
  for (const auto& piece : pieces) bytes += piece.size();
  CHECK(bytes > 300 * 200);
  Resumed after(r);
  CHECK(after.loaded);
  CHECK(after.server->Save() == pieces);
}

TEST_CASE("A damaged session is refused as a whole", "[share][state]") {
  ShareRig r;
  ShareRig::Put(r.root / "a", "text");
  r.OpenFile("a", O_RDWR);
  const std::vector<uint8_t> good = r.server->Save()[0];
  Resumed after(r);
  REQUIRE(after.loaded);
  const auto session_is_over = [&] { return after.client->GetAttr(1).error == EIO; };
  for (size_t length = 0; length < good.size(); ++length) {
    const std::vector<uint8_t> cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(length));
    CHECK_FALSE(after.server->Load({cut}));
    CHECK(session_is_over());
  }
  std::vector<uint8_t> longer = good;
  longer.push_back(0);
  CHECK_FALSE(after.server->Load({longer}));
  // One flipped bit anywhere is refused, or is another sound session.
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::vector<uint8_t> flipped = good;
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    if (after.server->Load({flipped})) {
      CHECK(after.server->Save() == std::vector<std::vector<uint8_t>>{flipped});
    } else {
      CHECK(session_is_over());
    }
  }
  CHECK(ShareRig::Get(r.top / "secret") == "outside");
  CHECK(ShareRig::Get(r.root / "a") == "text");
}

}  // namespace vmm
