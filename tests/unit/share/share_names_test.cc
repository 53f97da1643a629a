// Entries of directories, as a client finds, makes, moves and removes them, and what leads out.
#include <linux/fuse.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>

#include "tests/unit/share/share_rig.h"

namespace vmm {
namespace {

namespace fs = std::filesystem;

struct Listed {
  std::string name;
  uint64_t ino, off, node;
  uint32_t type;
};

// The entries in one answer of READDIR or READDIRPLUS.
std::vector<Listed> EntriesOf(const FuseReply& reply, bool plus) {
  std::vector<Listed> entries;
  for (size_t at = 0; at < reply.body.size();) {
    const size_t before = plus ? sizeof(fuse_entry_out) : 0;
    const auto dirent = reply.As<fuse_dirent>(at + before);
    const size_t head = before + sizeof(fuse_dirent);
    REQUIRE(at + head + dirent.namelen <= reply.body.size());
    const auto* name = reinterpret_cast<const char*>(reply.body.data() + at + head);
    entries.push_back({std::string(name, dirent.namelen), dirent.ino, dirent.off,
                       plus ? reply.As<fuse_entry_out>(at).nodeid : 0, dirent.type});
    at += FUSE_DIRENT_ALIGN(head + dirent.namelen);
  }
  return entries;
}

}  // namespace

TEST_CASE("LOOKUP tells a file's attributes and the same number each time", "[share]") {
  ShareRig r;
  ShareRig::Put(r.root / "a", "four");
  fs::create_directory(r.root / "d");
  fs::create_symlink("a", r.root / "l");
  const auto a = r.client->Lookup(1, "a").As<fuse_entry_out>();
  CHECK(a.nodeid > 1);
  CHECK(a.attr.size == 4);
  CHECK(S_ISREG(a.attr.mode));
  CHECK(r.client->Node(1, "a") == a.nodeid);
  CHECK(S_ISDIR(r.client->Lookup(1, "d").As<fuse_entry_out>().attr.mode));
  const auto l = r.client->Lookup(1, "l").As<fuse_entry_out>();
  CHECK(S_ISLNK(l.attr.mode));
  CHECK(r.client->Call(FUSE_READLINK, l.nodeid).text() == "a");
  CHECK(r.client->Call(FUSE_READLINK, a.nodeid).error == EINVAL);
  CHECK(r.client->Lookup(1, "none").error == ENOENT);
  CHECK(r.client->Lookup(a.nodeid, "x").error == ENOTDIR);
  CHECK(r.client->Lookup(4711, "x").error == ESTALE);
  CHECK(r.client->Lookup(1, std::string(256, 'n')).error == ENAMETOOLONG);
}

TEST_CASE("No name is a path", "[share]") {
  ShareRig r;
  fs::create_directory(r.root / "d");
  const uint64_t d = r.client->Node(1, "d");
  FuseClient& c = *r.client;
  for (const std::string_view name :
       {"..", ".", "", "../secret", "d/../../secret", "/etc/passwd", "d/", "/"}) {
    for (const uint64_t node : {uint64_t{1}, d}) {
      INFO(name);
      CHECK(c.Lookup(node, name).error == EINVAL);
      CHECK(c.Create(node, name, O_RDWR).error == EINVAL);
      CHECK(c.MkDir(node, name).error == EINVAL);
      CHECK(c.Call(FUSE_UNLINK, node, name).error == EINVAL);
      CHECK(c.Call(FUSE_RMDIR, node, name).error == EINVAL);
      CHECK(c.Rename(node, name, 1, "x").error == EINVAL);
      CHECK(c.Rename(1, "d", node, name).error == EINVAL);
      CHECK(c.Call(FUSE_SYMLINK, node, name, std::string_view("t")).error == EINVAL);
      CHECK(c.Call(FUSE_LINK, 1, fuse_link_in{d}, name).error == EINVAL);
      CHECK(c.Call(FUSE_MKNOD, node, fuse_mknod_in{S_IFREG, 0, 0, 0}, name).error == EINVAL);
    }
  }
  CHECK(ShareRig::Get(r.top / "secret") == "outside");
  CHECK(std::distance(fs::directory_iterator(r.top), {}) == 2);
}

TEST_CASE("A symbolic link leads nowhere on the host", "[share]") {
  ShareRig r;
  fs::create_symlink("../secret", r.root / "file");
  fs::create_symlink("..", r.root / "up");
  fs::create_symlink("/", r.root / "top");
  FuseClient& c = *r.client;
  for (const char* name : {"up", "top"}) {
    const uint64_t node = c.Node(1, name);
    CHECK(c.Lookup(node, "secret").error == ENOTDIR);
    CHECK(c.Lookup(node, "etc").error == ENOTDIR);
    CHECK(c.Call(FUSE_OPENDIR, node, fuse_open_in{}).error == ELOOP);
    CHECK(c.Create(node, "new", O_RDWR).error == ENOTDIR);
    CHECK(c.MkDir(node, "new").error == ENOTDIR);
    CHECK(c.Rename(1, "file", node, "new").error == ENOTDIR);
  }
  const uint64_t file = c.Node(1, "file");
  CHECK(c.Open(file, O_RDONLY).error == ELOOP);
  CHECK(c.Open(file, O_RDWR | O_TRUNC).error == ELOOP);
  CHECK(c.Create(1, "file", O_RDWR).error == ELOOP);
  CHECK(c.Create(1, "file", O_RDWR | O_TRUNC).error == ELOOP);
  CHECK(c.Truncate(file, 0).error == EINVAL);
  CHECK(c.ChangeMode(file, 0777).error != 0);
  fuse_setattr_in times{};
  times.valid = FATTR_MTIME;
  times.mtime = 12345;
  CHECK(c.SetAttr(file, times).As<fuse_attr_out>().attr.mtime == 12345);  // of the link itself
  CHECK(c.Call(FUSE_GETXATTR, file, fuse_getxattr_in{9, 0}, std::string_view("user.a")).error != 0);
  CHECK(ShareRig::Get(r.top / "secret") == "outside");
  struct stat status{};
  REQUIRE(stat((r.top / "secret").c_str(), &status) == 0);
  CHECK(status.st_mtime != 12345);
}

TEST_CASE("A place that becomes a link is not followed afterwards", "[share]") {
  // Few descriptors: the directory has to be found again by its place.
  ShareRig r({.descriptors = 4});
  fs::create_directory(r.root / "d");
  ShareRig::Put(r.root / "d" / "secret", "inside");
  for (int i = 0; i < 8; ++i) ShareRig::Put(r.root / std::to_string(i), "");
  FuseClient& c = *r.client;
  const uint64_t d = c.Node(1, "d"), secret = c.Node(d, "secret");
  for (int i = 0; i < 8; ++i) CHECK(c.Lookup(1, std::to_string(i)).error == 0);
  CHECK(c.Attr(secret).size == 6);
  for (int i = 0; i < 8; ++i) CHECK(c.Lookup(1, std::to_string(i)).error == 0);
  fs::rename(r.root / "d", r.top / "moved");
  fs::create_directory_symlink("..", r.root / "d");
  CHECK(c.GetAttr(secret).error == ESTALE);
  CHECK(c.Open(secret, O_RDONLY).error == ESTALE);
  CHECK(c.Lookup(d, "secret").error == ESTALE);
  // Another file at the place is another file.
  fs::remove(r.root / "d");
  fs::create_directory(r.root / "d");
  ShareRig::Put(r.root / "d" / "secret", "another");
  CHECK(c.GetAttr(secret).error == ESTALE);
  const uint64_t another = c.Node(c.Node(1, "d"), "secret");
  CHECK(another != secret);
  CHECK(c.Attr(another).size == 7);
}

TEST_CASE("Entries are made with the mode that was asked for, whatever the umask", "[share]") {
  const mode_t before = umask(077);
  ShareRig r;
  FuseClient& c = *r.client;
  CHECK((c.MkDir(1, "d", 0777).As<fuse_entry_out>().attr.mode & 07777) == 0777);
  CHECK((c.Create(1, "f", O_RDWR, 0666).As<fuse_entry_out>().attr.mode & 07777) == 0666);
  const auto fifo =
      c.Call(FUSE_MKNOD, 1, fuse_mknod_in{S_IFIFO | 0622, 0, 0, 0}, std::string_view("p"));
  CHECK(fifo.As<fuse_entry_out>().attr.mode == (S_IFIFO | 0622));
  CHECK((c.MkDir(1, "e", 01777).As<fuse_entry_out>().attr.mode & 07777) == 01777);
  umask(before);
}

TEST_CASE("No node of a device is made, and no special file opened", "[share]") {
  ShareRig r;
  FuseClient& c = *r.client;
  const auto mknod = [&](uint32_t mode, std::string_view name) {
    return c.Call(FUSE_MKNOD, 1, fuse_mknod_in{mode, 0x103, 0, 0}, name);
  };
  CHECK(mknod(S_IFCHR | 0666, "null").error == EPERM);
  CHECK(mknod(S_IFBLK | 0666, "disk").error == EPERM);
  CHECK(mknod(S_IFDIR | 0777, "dir").error == EPERM);
  CHECK(mknod(S_IFSOCK | 0666, "socket").error == 0);
  CHECK(mknod(S_IFREG | 0644, "file").error == 0);
  CHECK(mknod(S_IFREG | 0644, "file").error == EEXIST);
  const uint64_t pipe = mknod(S_IFIFO | 0666, "pipe").As<fuse_entry_out>().nodeid;
  REQUIRE(pipe != 0);
  // Were it opened, it would wait for somebody at the other end for ever.
  CHECK(c.Open(pipe, O_RDONLY).error == ENXIO);
  CHECK(c.Open(pipe, O_WRONLY).error == ENXIO);
  CHECK(c.Create(1, "pipe", O_WRONLY).error == ENXIO);
  CHECK(c.Create(1, "pipe", O_WRONLY | O_EXCL).error == EEXIST);
  CHECK(c.Open(c.Node(1, "socket"), O_RDWR).error == ENXIO);
  CHECK(c.Truncate(pipe, 0).error == EINVAL);
}

TEST_CASE("Set-user-ID bits take leave to be given", "[share]") {
  ShareRig plain, free({.setuid = true});
  for (ShareRig* r : {&plain, &free}) {
    FuseClient& c = *r->client;
    const bool may = r == &free;
    CHECK((c.Create(1, "a", O_RDWR, 04755).error == 0) == may);
    CHECK((c.Create(1, "b", O_RDWR, 02755).error == 0) == may);
    CHECK((c.Call(FUSE_MKNOD, 1, fuse_mknod_in{S_IFREG | 04755, 0, 0, 0}, std::string_view("m"))
               .error == 0) == may);
    const uint64_t node = c.Create(1, "f", O_RDWR, 0755).As<fuse_entry_out>().nodeid;
    CHECK((c.ChangeMode(node, 04755).error == 0) == may);
    CHECK(c.ChangeMode(node, 01644).error == 0);
    const auto d = c.MkDir(1, "d", 02755).As<fuse_entry_out>();
    CHECK(c.ChangeMode(d.nodeid, 02775).error == 0);
  }
  // What is there already may stay, and be taken away.
  REQUIRE(chmod((plain.root / "f").c_str(), 04755) == 0);
  const uint64_t node = plain.client->Node(1, "f");
  CHECK(plain.client->ChangeMode(node, 04711).error == 0);
  CHECK(plain.client->ChangeMode(node, 0711).error == 0);
  CHECK(plain.client->ChangeMode(node, 04711).error == EPERM);
}

TEST_CASE("RENAME moves, replaces, exchanges and refuses", "[share]") {  // [rename(2)]
  ShareRig r;
  FuseClient& c = *r.client;
  fs::create_directory(r.root / "d");
  const uint64_t d = c.Node(1, "d");
  ShareRig::Put(r.root / "a", "a");
  ShareRig::Put(r.root / "b", "bb");
  const uint64_t a = c.Node(1, "a"), b = c.Node(1, "b");
  CHECK(c.Rename(1, "a", d, "x").error == 0);
  CHECK(c.Node(d, "x") == a);
  CHECK(c.Attr(a).size == 1);
  CHECK(c.Rename(1, "b", d, "x", RENAME_NOREPLACE).error == EEXIST);
  CHECK(c.Rename(1, "b", d, "x", RENAME_EXCHANGE).error == 0);
  CHECK(c.Node(1, "b") == a);
  CHECK(c.Node(d, "x") == b);
  CHECK(c.Rename(1, "b", d, "x", RENAME_WHITEOUT).error == EINVAL);
  CHECK(c.Rename(1, "b", d, "x", 0x80).error == EINVAL);
  CHECK(c.Rename(1, "b", d, "x").error == 0);
  CHECK(c.Attr(b).nlink == 0);  // replaced while the guest knows it
  CHECK(c.Attr(b).size == 2);
  CHECK(c.Rename(1, "d", d, "y").error == EINVAL);
  CHECK(c.Rename(1, "none", d, "y").error == ENOENT);
  CHECK(c.Call(FUSE_RENAME, d, fuse_rename_in{1}, std::string_view("x"), std::string_view("z"))
            .error == 0);
  CHECK(ShareRig::Get(r.root / "z") == "a");
}

TEST_CASE("LINK gives a file another name, and both are one", "[share]") {
  ShareRig r;
  FuseClient& c = *r.client;
  ShareRig::Put(r.root / "a", "a");
  const uint64_t a = c.Node(1, "a");
  const auto linked = c.Call(FUSE_LINK, 1, fuse_link_in{a}, std::string_view("b"));
  CHECK(linked.error == 0);
  CHECK(linked.As<fuse_entry_out>().nodeid == a);
  CHECK(linked.As<fuse_entry_out>().attr.nlink == 2);
  CHECK(c.Call(FUSE_LINK, 1, fuse_link_in{a}, std::string_view("b")).error == EEXIST);
  CHECK(c.Call(FUSE_LINK, 1, fuse_link_in{1}, std::string_view("c")).error == EPERM);
  // A link to a symbolic link is one to the link itself.
  fs::create_symlink("../secret", r.root / "l");
  CHECK(c.Call(FUSE_LINK, 1, fuse_link_in{c.Node(1, "l")}, std::string_view("m")).error == 0);
  CHECK(fs::is_symlink(r.root / "m"));
  CHECK(c.Call(FUSE_UNLINK, 1, std::string_view("a")).error == 0);
  CHECK(c.Attr(a).nlink == 1);
}

TEST_CASE("What is deleted lives on as long as the guest knows it", "[share]") {
  ShareRig r({.descriptors = 8});
  FuseClient& c = *r.client;
  const auto made = c.Create(1, "a", O_RDWR);
  const uint64_t node = made.As<fuse_entry_out>().nodeid;
  CHECK(c.Write(FuseClient::CreatedHandle(made), 0, "text").error == 0);
  CHECK(c.Call(FUSE_UNLINK, 1, std::string_view("a")).error == 0);
  for (int i = 0; i < 20; ++i) {
    ShareRig::Put(r.root / std::to_string(i), "");
    CHECK(c.Lookup(1, std::to_string(i)).error == 0);
  }
  CHECK(c.Attr(node).nlink == 0);
  CHECK(c.Attr(node).size == 4);
  CHECK(c.Truncate(node, 2).error == 0);
  CHECK(c.Read(FuseClient::CreatedHandle(made), 0, 9).text() == "te");
  c.Forget(node, 1);
  CHECK(c.GetAttr(node).error == ESTALE);
  CHECK(c.Read(FuseClient::CreatedHandle(made), 0, 9).text() == "te");
}

TEST_CASE("Deleted files take no more descriptors than there are", "[share]") {
  ShareRig r({.descriptors = 8});
  FuseClient& c = *r.client;
  std::vector<uint64_t> nodes;
  int refused = 0;
  for (int i = 0; i < 10; ++i) {
    const std::string name = std::to_string(i);
    ShareRig::Put(r.root / name, "");
    nodes.push_back(c.Node(1, name));
    const int error = c.Call(FUSE_UNLINK, 1, std::string_view(name)).error;
    if (error != 0) {
      CHECK(error == ENFILE);
      ++refused;
    }
  }
  CHECK(refused == 6);
  for (const uint64_t node : nodes) c.Forget(node, 1);
  ShareRig::Put(r.root / "x", "");
  CHECK(c.Node(1, "x") != 0);
  CHECK(c.Call(FUSE_UNLINK, 1, std::string_view("x")).error == 0);
}

TEST_CASE("A directory is listed whole, in pieces of any size, from any place", "[share]") {
  ShareRig r;
  FuseClient& c = *r.client;
  std::set<std::string> names = {".", ".."};
  for (int i = 0; i < 300; ++i) {
    names.insert("entry-" + std::to_string(i) + std::string(static_cast<size_t>(i % 200), 'x'));
  }
  for (const std::string& name : names) {
    if (name[0] != '.') ShareRig::Put(r.root / name, "");
  }
  for (const bool plus : {false, true}) {
    for (const uint32_t size : {500u, 4096u, 100000u}) {
      const uint64_t handle = c.OpenDir(1);
      std::vector<Listed> all;
      for (uint64_t offset = 0;;) {
        const auto reply = c.ReadDir(handle, offset, size, plus);
        REQUIRE(reply.error == 0);
        CHECK(reply.body.size() <= size);
        const auto entries = EntriesOf(reply, plus);
        if (entries.empty()) break;
        all.insert(all.end(), entries.begin(), entries.end());
        offset = entries.back().off;
      }
      std::set<std::string> seen;
      for (const Listed& entry : all) seen.insert(entry.name);
      CHECK(seen == names);
      CHECK(all.size() == names.size());
      if (plus) {
        for (const Listed& entry : all) CHECK((entry.node == 0) == (entry.name[0] == '.'));
      }
      // Again from the middle.
      const auto rest = EntriesOf(c.ReadDir(handle, all[100].off, size, plus), plus);
      REQUIRE_FALSE(rest.empty());
      CHECK(rest[0].name == all[101].name);
      CHECK(c.ReadDir(handle, 0, 20).error == EINVAL);
      fuse_release_in release{};
      release.fh = handle;
      CHECK(c.Call(FUSE_RELEASEDIR, 1, release).error == 0);
      CHECK(c.ReadDir(handle, 0, 4096).error == EBADF);
    }
  }
}

TEST_CASE("Above the root there is nothing to see", "[share]") {
  ShareRig r;
  struct stat above{}, root{};
  REQUIRE(stat(r.top.c_str(), &above) == 0);
  REQUIRE(stat(r.root.c_str(), &root) == 0);
  for (const Listed& entry : EntriesOf(r.client->ReadDir(r.client->OpenDir(1), 0, 4096), false)) {
    CHECK(entry.ino == root.st_ino);
  }
}

}  // namespace vmm
