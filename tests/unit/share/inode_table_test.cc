// What the server keeps of the files that the guest knows.
#include "vmm/core/share/inode_table.h"

#include <cerrno>

#include "tests/unit/share/share_rig.h"

namespace vmm {
namespace {

struct TableRig : ShareRig {
  explicit TableRig(const InodeLimits& limits = {})
      : host(std::move(HostInodes::OpenRoot(root.string()).value())), table(host, limits) {}
  uint64_t Remember(uint64_t parent, const std::string& name) {
    const auto directory = table.Open(parent);
    REQUIRE(directory);
    const auto status = HostInodes::StatChild((*directory)->get(), name);
    REQUIRE(status);
    return table.Remember(parent, name, *status, nullptr).value();
  }
  HostInodes host;
  InodeTable table;
};

}  // namespace

TEST_CASE("A file is forgotten when all that the guest was told of it is", "[share]") {
  TableRig r;
  std::filesystem::create_directories(r.root / "d");
  ShareRig::Put(r.root / "d" / "f", "");
  const uint64_t d = r.Remember(1, "d"), f = r.Remember(d, "f");
  CHECK(r.Remember(d, "f") == f);
  CHECK(r.table.size() == 3);
  r.table.Forget(d, 1);
  CHECK(r.table.size() == 3);  // the place of another is in it
  CHECK(r.table.Open(f));
  r.table.Forget(f, 1);
  CHECK(r.table.Open(f));
  r.table.Forget(f, 1);
  CHECK(r.table.size() == 1);
  CHECK(r.table.Open(f).error() == ESTALE);
  CHECK(r.table.Open(d).error() == ESTALE);
  r.table.Forget(f, 1);
  r.table.Forget(1, UINT64_MAX);
  CHECK(r.table.Open(1));
  CHECK(r.Remember(1, "d") != d);  // a number has one meaning for ever
}

TEST_CASE("Descriptors are bounded, files that the guest knows are not by them", "[share]") {
  TableRig r({.descriptors = 5});
  std::vector<uint64_t> ids;
  for (int i = 0; i < 50; ++i) {
    ShareRig::Put(r.root / std::to_string(i), std::string(static_cast<size_t>(i), 'x'));
    ids.push_back(r.Remember(1, std::to_string(i)));
  }
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto fd = r.table.Open(ids[i]);
      REQUIRE(fd);
      CHECK(HostInodes::Stat((*fd)->get())->stx_size == i);
      CHECK(r.table.descriptors() <= 5);
    }
  }
}

TEST_CASE("More files than the limit are ENFILE until some are forgotten", "[share]") {
  TableRig r({.inodes = 3});
  for (const char* name : {"a", "b", "c"}) ShareRig::Put(r.root / name, "");
  const uint64_t a = r.Remember(1, "a");
  r.Remember(1, "b");
  const auto status = HostInodes::StatChild(r.host.root()->get(), "c");
  CHECK(r.table.Remember(1, "c", *status, nullptr).error() == ENFILE);
  r.table.Forget(a, 1);
  CHECK(r.table.Remember(1, "c", *status, nullptr));
}

TEST_CASE("What the host moves into its own child makes no loop", "[share]") {
  TableRig r({.descriptors = 1});
  std::filesystem::create_directories(r.root / "a" / "b");
  const uint64_t a = r.Remember(1, "a"), b = r.Remember(a, "b");
  CHECK(r.table.Open(b));  // with the only descriptor
  // The host turns it round: now a is in b.
  std::filesystem::rename(r.root / "a" / "b", r.root / "b");
  std::filesystem::rename(r.root / "a", r.root / "b" / "a");
  const auto status = HostInodes::StatChild(open((r.root / "b").c_str(), O_PATH | O_CLOEXEC), "a");
  REQUIRE(status);
  CHECK(r.table.Remember(b, "a", *status, nullptr) == a);
  CHECK(r.table.Open(a).error() == ESTALE);
  // Found from above again, both have their new places.
  CHECK(r.Remember(1, "b") == b);
  CHECK(r.Remember(b, "a") == a);
  CHECK(r.table.Open(a));
  r.table.Forget(a, 3);
  r.table.Forget(b, 2);
  CHECK(r.table.size() == 1);
}

TEST_CASE("A directory that the guest moves takes along what is in it", "[share]") {
  TableRig r({.descriptors = 1});
  std::filesystem::create_directories(r.root / "a" / "b");
  ShareRig::Put(r.root / "a" / "b" / "f", "text");
  const uint64_t a = r.Remember(1, "a"), b = r.Remember(a, "b"), f = r.Remember(b, "f");
  std::filesystem::rename(r.root / "a" / "b", r.root / "c");
  r.table.Moved(1, "c", *HostInodes::StatChild(r.host.root()->get(), "c"));
  REQUIRE(r.table.Open(f));
  CHECK(r.table.Open(b));
  r.table.Forget(a, 1);
  CHECK(r.table.size() == 3);  // root, b, f
}

}  // namespace vmm
