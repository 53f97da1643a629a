// The FUSE server as a whole: sessions, malformed requests, what is refused, what is told.
#include "vmm/core/share/share_server.h"

#include <linux/fuse.h>
#include <sys/xattr.h>

#include <cerrno>

#include "tests/unit/share/share_rig.h"

namespace vmm {

TEST_CASE("INIT agrees on what both can", "[share]") {  // [FUSE] 7.31 and later
  ShareRig r;
  const auto out = r.client->Begin(36).As<fuse_init_out>();
  CHECK(out.major == 7);
  CHECK(out.minor == 36);
  CHECK(out.max_pages == ShareServer::kMaxPages);
  CHECK(out.max_write == ShareServer::kMaxPages * 4096);
  CHECK((out.flags & FUSE_MAX_PAGES) != 0);
  CHECK((out.flags & FUSE_DO_READDIRPLUS) == 0);
  ShareRig believes({.cache = ShareCache::kShort});
  CHECK((believes.client->Begin().As<fuse_init_out>().flags & FUSE_DO_READDIRPLUS) != 0);
  // What the server doesn't do: locks, cached writes, ACLs, opens that are left out.
  CHECK((out.flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_WRITEBACK_CACHE | FUSE_POSIX_ACL |
                      FUSE_NO_OPEN_SUPPORT | FUSE_DONT_MASK)) == 0);
  CHECK(r.client->Begin(38, FUSE_ASYNC_READ).As<fuse_init_out>().flags == FUSE_ASYNC_READ);
  CHECK(r.client->Begin(1000).As<fuse_init_out>().minor == FUSE_KERNEL_MINOR_VERSION);
}

TEST_CASE("Other versions are refused, and a newer client is told ours", "[share]") {
  ShareRig r;
  CHECK(r.client->Begin(30).error == EPROTO);
  fuse_init_in in{};
  in.major = 6;
  CHECK(r.client->Call(FUSE_INIT, 0, in).error == EPROTO);
  in.major = 8;
  CHECK(r.client->Call(FUSE_INIT, 0, in).As<fuse_init_out>().major == 7);
}

TEST_CASE("Before INIT and after DESTROY nothing is served", "[share]") {
  ShareRig r;
  CHECK(r.client->Call(FUSE_DESTROY, 0).error == 0);
  CHECK(r.client->GetAttr(1).error == EIO);
  CHECK(r.client->Begin().error == 0);
  CHECK(r.client->GetAttr(1).error == 0);
}

TEST_CASE("A new session knows nothing of the last one", "[share]") {
  ShareRig r;
  ShareRig::Put(r.root / "a", "x");
  const uint64_t node = r.client->Node(1, "a");
  const uint64_t handle = r.client->Open(node, O_RDONLY).As<fuse_open_out>().fh;
  CHECK(r.client->Begin().error == 0);
  CHECK(r.client->GetAttr(node).error == ESTALE);
  CHECK(r.client->Read(handle, 0, 1).error == EBADF);
}

TEST_CASE("What is no request at all is told apart", "[share]") {  // [VIRTIO 1.2] 5.11.6
  ShareRig r;
  MemoryBuffers headless(std::vector<uint8_t>(sizeof(fuse_in_header) - 1), 100);
  CHECK_FALSE(r.server->Serve(headless));
  MemoryBuffers no_room(std::vector<uint8_t>(sizeof(fuse_in_header)), sizeof(fuse_out_header) - 1);
  CHECK_FALSE(r.server->Serve(no_room));
  MemoryBuffers nothing({}, 0);
  CHECK_FALSE(r.server->Serve(nothing));
}

TEST_CASE("FORGET has no answer and needs no room for one", "[share]") {
  ShareRig r;
  fuse_in_header header{};
  header.len = sizeof header + sizeof(fuse_forget_in);
  header.opcode = FUSE_FORGET;
  header.nodeid = 1;
  std::vector<uint8_t> request;
  FuseClient::Append(request, header);
  FuseClient::Append(request, fuse_forget_in{5});
  MemoryBuffers buffers(std::move(request), 0);
  CHECK(r.server->Serve(buffers) == 0u);
  CHECK(r.client->GetAttr(1).error == 0);  // the root stays
}

TEST_CASE("A length that is not that of the bytes is refused", "[share]") {
  ShareRig r;
  for (const uint32_t length : {0u, 39u, 57u, UINT32_MAX}) {
    fuse_in_header header{};
    header.len = length;
    header.opcode = FUSE_GETATTR;
    header.nodeid = 1;
    header.unique = 7;
    std::vector<uint8_t> request;
    FuseClient::Append(request, header);
    FuseClient::Append(request, fuse_getattr_in{});
    MemoryBuffers buffers(std::move(request), 200);
    REQUIRE(r.server->Serve(buffers) == sizeof(fuse_out_header));
    fuse_out_header out;
    std::memcpy(&out, buffers.answer().data(), sizeof out);
    CHECK(out.error == -EINVAL);
    CHECK(out.unique == 7);
  }
}

TEST_CASE("Each request that is cut short anywhere is refused or done, and never read beyond",
          "[share]") {
  ShareRig r;
  ShareRig::Put(r.root / "a", "x");
  const uint64_t node = r.client->Node(1, "a");
  for (uint32_t opcode = 0; opcode < 70; ++opcode) {
    if (opcode == FUSE_INIT || opcode == FUSE_DESTROY || opcode == FUSE_SYNCFS) continue;
    for (size_t size = 0; size < 100; ++size) {
      // No zero in it, so that no text ends.
      const auto reply = r.client->CallBytes(opcode, node, std::vector<uint8_t>(size, 0xFF));
      INFO(opcode << " " << size);
      CHECK(reply.error != -2);
      const bool is_forget = opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
      CHECK((reply.error == -1) == is_forget);
    }
  }
  CHECK(ShareRig::Get(r.root / "a") == "x");
}

TEST_CASE("What is not known is ENOSYS, locks too: the client keeps them", "[share]") {
  ShareRig r;
  for (const uint32_t opcode :
       {0u, 7u, 19u, uint32_t{FUSE_GETLK}, uint32_t{FUSE_SETLK}, uint32_t{FUSE_SETLKW},
        uint32_t{FUSE_INTERRUPT}, uint32_t{FUSE_BMAP}, uint32_t{FUSE_IOCTL}, uint32_t{FUSE_POLL},
        uint32_t{FUSE_SETUPMAPPING}, uint32_t{FUSE_REMOVEMAPPING}, 51u, 63u, 64u, 4096u,
        UINT32_MAX}) {
    CHECK(r.client->CallBytes(opcode, 1, std::vector<uint8_t>(64)).error == ENOSYS);
  }
}

TEST_CASE("A request that is longer than any is refused", "[share]") {
  ShareRig r;
  CHECK(
      r.client->CallBytes(FUSE_LOOKUP, 1, std::vector<uint8_t>(ShareServer::kMaxArguments + 1, 65))
          .error == E2BIG);
}

TEST_CASE("An answer that has no room is an error, not half an answer", "[share]") {
  ShareRig r;
  std::vector<uint8_t> body;
  FuseClient::Append(body, fuse_getattr_in{});
  CHECK(r.client->CallBytes(FUSE_GETATTR, 1, body, sizeof(fuse_out_header) + 8).error == EINVAL);
  CHECK(r.client->CallBytes(FUSE_GETATTR, 1, body, sizeof(fuse_out_header) + sizeof(fuse_attr_out))
            .error == 0);
}

TEST_CASE("A read-only share refuses every change by itself", "[share]") {
  ShareRig r({.read_only = true});
  ShareRig::Put(r.root / "a", "x");
  FuseClient& c = *r.client;
  const uint64_t node = c.Node(1, "a");
  CHECK(c.Open(node, O_RDWR).error == EROFS);
  CHECK(c.Open(node, O_WRONLY).error == EROFS);
  CHECK(c.Open(node, O_RDONLY | O_TRUNC).error == EROFS);
  const auto opened = c.Open(node, O_RDONLY);
  CHECK(opened.error == 0);
  CHECK(c.Write(opened.As<fuse_open_out>().fh, 0, "y").error == EROFS);
  CHECK(c.Create(1, "b", O_RDWR).error == EROFS);
  CHECK(c.Create(1, "a", O_RDONLY).error == EROFS);
  CHECK(c.MkDir(1, "d").error == EROFS);
  CHECK(c.Call(FUSE_MKNOD, 1, fuse_mknod_in{S_IFREG, 0, 0, 0}, std::string_view("n")).error ==
        EROFS);
  CHECK(c.Call(FUSE_SYMLINK, 1, std::string_view("l"), std::string_view("a")).error == EROFS);
  CHECK(c.Call(FUSE_LINK, 1, fuse_link_in{node}, std::string_view("l")).error == EROFS);
  CHECK(c.Call(FUSE_UNLINK, 1, std::string_view("a")).error == EROFS);
  CHECK(c.Call(FUSE_RMDIR, 1, std::string_view("a")).error == EROFS);
  CHECK(c.Rename(1, "a", 1, "b").error == EROFS);
  CHECK(c.Call(FUSE_RENAME, 1, fuse_rename_in{1}, std::string_view("a"), std::string_view("b"))
            .error == EROFS);
  CHECK(c.ChangeMode(node, 0777).error == EROFS);
  CHECK(c.Truncate(node, 0).error == EROFS);
  CHECK(c.SetAttr(node, {}).error == EROFS);
  CHECK(c.CallBytes(FUSE_SETXATTR, node, std::vector<uint8_t>(32)).error == EROFS);
  CHECK(c.CallBytes(FUSE_REMOVEXATTR, node, std::vector<uint8_t>(32)).error == EROFS);
  CHECK(c.CallBytes(FUSE_FALLOCATE, node, std::vector<uint8_t>(32)).error == EROFS);
  CHECK(c.CallBytes(FUSE_COPY_FILE_RANGE, node, std::vector<uint8_t>(56)).error == EROFS);
  CHECK(c.Call(FUSE_ACCESS, node, fuse_access_in{W_OK, 0}).error == EROFS);
  CHECK(c.Call(FUSE_ACCESS, node, fuse_access_in{R_OK, 0}).error == 0);
  CHECK(c.Read(opened.As<fuse_open_out>().fh, 0, 10).text() == "x");
  CHECK(ShareRig::Get(r.root / "a") == "x");
  CHECK(std::distance(std::filesystem::directory_iterator(r.root), {}) == 1);
}

TEST_CASE("How long the client may believe an answer is as was asked for", "[share]") {
  for (const auto& [cache, seconds] :
       {std::pair(ShareCache::kNone, 0u), {ShareCache::kShort, 1u}, {ShareCache::kLong, 86400u}}) {
    ShareRig r({.cache = cache});
    ShareRig::Put(r.root / "a", "x");
    const auto entry = r.client->Lookup(1, "a").As<fuse_entry_out>();
    CHECK(entry.entry_valid == seconds);
    CHECK(entry.attr_valid == seconds);
    CHECK(r.client->GetAttr(1).As<fuse_attr_out>().attr_valid == seconds);
    const auto open = r.client->Open(entry.nodeid, O_RDONLY).As<fuse_open_out>();
    CHECK(((open.open_flags & FOPEN_KEEP_CACHE) != 0) == (cache == ShareCache::kLong));
    CHECK((open.open_flags & FOPEN_NOFLUSH) != 0);
    const auto writes = r.client->Open(entry.nodeid, O_RDWR).As<fuse_open_out>();
    CHECK((writes.open_flags & FOPEN_NOFLUSH) == 0);
  }
}

TEST_CASE("STATFS is the host's", "[share]") {
  ShareRig r;
  const auto out = r.client->Call(FUSE_STATFS, 1).As<fuse_statfs_out>();
  CHECK(out.st.bsize != 0);
  CHECK(out.st.blocks >= out.st.bfree);
  CHECK(out.st.namelen == 255);
}

TEST_CASE("Only the user's extended attributes are the guest's", "[share]") {
  ShareRig r;
  ShareRig::Put(r.root / "a", "x");
  FuseClient& c = *r.client;
  const uint64_t node = c.Node(1, "a");
  const auto set = [&](std::string_view name, std::string_view value, uint32_t flags = 0) {
    std::vector<uint8_t> body;
    FuseClient::Append(body, static_cast<uint32_t>(value.size()));
    FuseClient::Append(body, flags);
    FuseClient::Append(body, name);
    body.insert(body.end(), value.begin(), value.end());
    return c.CallBytes(FUSE_SETXATTR, node, body).error;
  };
  for (const char* name : {"security.capability", "trusted.overlay.opaque", "user", "",
                           "system.posix_acl_access", "security.selinux"}) {
    CHECK(set(name, "v") == EOPNOTSUPP);
    CHECK(c.Call(FUSE_GETXATTR, node, fuse_getxattr_in{100, 0}, std::string_view(name)).error ==
          EOPNOTSUPP);
    CHECK(c.Call(FUSE_REMOVEXATTR, node, std::string_view(name)).error == EOPNOTSUPP);
  }
  if (setxattr((r.root / "a").c_str(), "user.host", "v", 1, 0) != 0) return;  // not on this host
  CHECK(set("user.a", "value") == 0);
  CHECK(set("user.a", "value", XATTR_CREATE) == EEXIST);
  CHECK(set("user.b", "value", XATTR_REPLACE) == ENODATA);
  const auto get = [&](std::string_view name, uint32_t size) {
    return c.Call(FUSE_GETXATTR, node, fuse_getxattr_in{size, 0}, name);
  };
  CHECK(get("user.a", 100).text() == "value");
  CHECK(get("user.a", 0).As<fuse_getxattr_out>().size == 5);
  CHECK(get("user.a", 4).error == ERANGE);
  CHECK(get("user.c", 4).error == ENODATA);
  const std::string names = c.Call(FUSE_LISTXATTR, node, fuse_getxattr_in{100, 0}).text();
  CHECK(names.size() == sizeof "user.host" + sizeof "user.a");
  CHECK(c.Call(FUSE_LISTXATTR, node, fuse_getxattr_in{3, 0}).error == ERANGE);
  CHECK(c.Call(FUSE_REMOVEXATTR, node, std::string_view("user.a")).error == 0);
  CHECK(get("user.a", 100).error == ENODATA);
}

TEST_CASE("Ids are mapped both ways, and what isn't is nobody", "[share]") {
  const IdMap map({{0, 1000, 1}, {1000, 100000, 10}});
  CHECK(map.ToGuest(1000) == 0);
  CHECK(map.ToGuest(100009) == 1009);
  CHECK(map.ToGuest(100010) == IdMap::kNobody);
  CHECK(map.ToGuest(0) == IdMap::kNobody);
  CHECK(map.ToHost(0) == 1000u);
  CHECK(map.ToHost(1009) == 100009u);
  CHECK_FALSE(map.ToHost(1));
  CHECK_FALSE(map.ToHost(UINT32_MAX));
  CHECK(IdMap({{0, 5, 1}}).IsOnly(5));
  CHECK_FALSE(IdMap({{0, 5, 2}}).IsOnly(5));
  CHECK_FALSE(map.IsOnly(1000));
}

TEST_CASE("By default the guest's root is who runs the program, whoever asks", "[share]") {
  ShareRig r;
  r.client->uid = r.client->gid = 1234;
  const auto entry = r.client->MkDir(1, "d").As<fuse_entry_out>();
  CHECK(entry.attr.uid == 0);
  CHECK(entry.attr.gid == 0);
  struct stat status{};
  REQUIRE(stat((r.root / "d").c_str(), &status) == 0);
  CHECK(status.st_uid == geteuid());
  fuse_setattr_in same{};
  same.valid = FATTR_UID | FATTR_GID;
  CHECK(r.client->SetAttr(entry.nodeid, same).error == 0);
  fuse_setattr_in other{};
  other.valid = FATTR_UID;
  other.uid = 1234;
  CHECK(r.client->SetAttr(entry.nodeid, other).error == EPERM);
}

TEST_CASE("A mapped user's files are that user's on the host", "[share]") {
  if (geteuid() != 0) return;  // takes capabilities
  ShareOptions options;
  options.users = options.groups = IdMap({{0, 0, 1}, {1000, 5000, 10}});
  ShareRig r(options);
  REQUIRE(chmod(r.root.c_str(), 0777) == 0);
  REQUIRE(chmod(r.top.c_str(), 0755) == 0);
  FuseClient& c = *r.client;
  c.uid = c.gid = 1001;
  const auto made = c.Create(1, "f", O_RDWR, 0600);
  REQUIRE(made.error == 0);
  CHECK(made.As<fuse_entry_out>().attr.uid == 1001);
  struct stat status{};
  REQUIRE(stat((r.root / "f").c_str(), &status) == 0);
  CHECK(status.st_uid == 5001);
  CHECK(status.st_gid == 5001);
  CHECK((status.st_mode & 07777) == 0600);
  CHECK(c.Call(FUSE_SYMLINK, 1, std::string_view("l"), std::string_view("f")).error == 0);
  REQUIRE(lstat((r.root / "l").c_str(), &status) == 0);
  CHECK(status.st_uid == 5001);
  c.uid = 77;
  CHECK(c.Create(1, "g", O_RDWR).error == EOVERFLOW);
  CHECK(c.MkDir(1, "g").error == EOVERFLOW);
  c.uid = 0;
  c.gid = 0;
  CHECK(c.MkDir(1, "g").As<fuse_entry_out>().attr.uid == 0);
  // What that user may not do on the host it can't do here.
  REQUIRE(chmod(r.root.c_str(), 0755) == 0);
  c.uid = c.gid = 1002;
  CHECK(c.Create(1, "h", O_RDWR).error == EACCES);
  CHECK(geteuid() == 0);
}

}  // namespace vmm
