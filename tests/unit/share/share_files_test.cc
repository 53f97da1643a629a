// Open files and attributes.
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <sys/stat.h>

#include <cerrno>

#include "tests/unit/share/share_rig.h"

namespace vmm {

TEST_CASE("What is written is there, and what is there is read", "[share]") {
  ShareRig r;
  FuseClient& c = *r.client;
  const auto made = c.Create(1, "a", O_RDWR);
  const uint64_t handle = FuseClient::CreatedHandle(made);
  CHECK(c.Write(handle, 0, "hello, world").As<fuse_write_out>().size == 12);
  CHECK(ShareRig::Get(r.root / "a") == "hello, world");
  CHECK(c.Read(handle, 7, 100).text() == "world");
  CHECK(c.Read(handle, 0, 5).text() == "hello");
  CHECK(c.Read(handle, 12, 5).text().empty());
  CHECK(c.Write(handle, 20, "!").error == 0);
  CHECK(ShareRig::Get(r.root / "a").size() == 21);
  CHECK(c.Attr(made.As<fuse_entry_out>().nodeid).size == 21);
  CHECK(c.Call(FUSE_FSYNC, 0, fuse_fsync_in{handle, 0, 0}).error == 0);
  CHECK(c.Call(FUSE_FSYNC, 0, fuse_fsync_in{handle, 1, 0}).error == 0);
  fuse_flush_in flush{};
  flush.fh = handle;
  CHECK(c.Call(FUSE_FLUSH, 0, flush).error == 0);
  fuse_release_in release{};
  release.fh = handle;
  CHECK(c.Call(FUSE_RELEASE, 0, release).error == 0);
  CHECK(c.Read(handle, 0, 1).error == EBADF);
  CHECK(c.Call(FUSE_FLUSH, 0, flush).error == EBADF);
}

TEST_CASE("A handle does what it was opened for", "[share]") {
  ShareRig r;
  ShareRig::Put(r.root / "a", "text");
  FuseClient& c = *r.client;
  const uint64_t reader = r.OpenFile("a", O_RDONLY), writer = r.OpenFile("a", O_WRONLY);
  CHECK(c.Write(reader, 0, "x").error == EBADF);
  CHECK(c.Read(writer, 0, 1).error == EBADF);
  CHECK(c.ReadDir(reader, 0, 4096).error == EBADF);
  CHECK(c.Read(c.OpenDir(1), 0, 1).error == EBADF);
  CHECK(c.Open(1, O_RDONLY).error == EISDIR);
  CHECK(c.Call(FUSE_OPENDIR, c.Node(1, "a"), fuse_open_in{}).error == ENOTDIR);
  CHECK(c.Read(4711, 0, 1).error == EBADF);
}

TEST_CASE("Offsets and sizes that no file has are refused", "[share]") {
  ShareRig r;
  FuseClient& c = *r.client;
  const auto made = c.Create(1, "a", O_RDWR);
  const uint64_t handle = FuseClient::CreatedHandle(made);
  constexpr uint64_t kBig = uint64_t{1} << 63;
  CHECK(c.Read(handle, kBig, 1).error == EINVAL);
  CHECK(c.Read(handle, kBig - 1, 1).error != 0);
  CHECK(c.Write(handle, kBig, "x").error == EINVAL);
  CHECK(c.Write(handle, kBig - 1, "x").error != 0);
  CHECK(c.Truncate(made.As<fuse_entry_out>().nodeid, kBig).error == EINVAL);
  CHECK(c.Call(FUSE_FALLOCATE, 0, fuse_fallocate_in{handle, kBig, 1, 0, 0}).error == EINVAL);
  CHECK(c.Call(FUSE_FALLOCATE, 0, fuse_fallocate_in{handle, 0, kBig, 0, 0}).error == EINVAL);
  CHECK(c.Call(FUSE_LSEEK, 0, fuse_lseek_in{handle, kBig, SEEK_DATA, 0}).error == EINVAL);
  // A size beyond the bytes that came.
  fuse_write_in in{};
  in.fh = handle;
  in.size = 100;
  CHECK(c.Call(FUSE_WRITE, 0, in, std::vector<uint8_t>(99)).error == EINVAL);
  CHECK(c.Call(FUSE_WRITE, 0, in, std::vector<uint8_t>(100)).error == 0);
  in.size = UINT32_MAX;
  CHECK(c.Call(FUSE_WRITE, 0, in, std::vector<uint8_t>(100)).error == EINVAL);
}

TEST_CASE("CREATE opens what is there, unless it must be new", "[share]") {
  ShareRig r;
  FuseClient& c = *r.client;
  ShareRig::Put(r.root / "a", "text");
  std::filesystem::create_directory(r.root / "d");
  CHECK(c.Create(1, "a", O_RDWR | O_EXCL).error == EEXIST);
  CHECK(c.Create(1, "d", O_RDWR).error == EISDIR);
  const auto opened = c.Create(1, "a", O_RDWR, 0600);
  CHECK(opened.error == 0);
  CHECK(opened.As<fuse_entry_out>().attr.size == 4);
  CHECK(c.Read(FuseClient::CreatedHandle(opened), 0, 9).text() == "text");
  CHECK(c.Create(1, "a", O_RDWR | O_TRUNC).error == 0);
  CHECK(ShareRig::Get(r.root / "a").empty());
  // A file that its maker may not write, and has open for writing.
  const auto sealed = c.Create(1, "s", O_RDWR | O_EXCL, 0444);
  CHECK((sealed.As<fuse_entry_out>().attr.mode & 0777) == 0444);
  CHECK(c.Write(FuseClient::CreatedHandle(sealed), 0, "x").error == 0);
}

TEST_CASE("What is appended goes where the end is, pages written back to their place", "[share]") {
  ShareRig r;
  FuseClient& c = *r.client;
  ShareRig::Put(r.root / "a", "1234");
  const uint64_t handle = r.OpenFile("a", O_WRONLY | O_APPEND);
  ShareRig::Put(r.root / "a", "123456");  // the guest thinks that it ends at 4
  CHECK(c.Write(handle, 4, "xy", O_WRONLY | O_APPEND).error == 0);
  CHECK(ShareRig::Get(r.root / "a") == "123456xy");
  CHECK(c.Write(handle, 0, "9", O_WRONLY).error == 0);  // F_SETFL has taken O_APPEND away
  CHECK(ShareRig::Get(r.root / "a") == "923456xy");
  fuse_write_in in{};
  in.fh = handle;
  in.offset = 1;
  in.size = 1;
  in.flags = O_APPEND;
  in.write_flags = FUSE_WRITE_CACHE;
  CHECK(c.Call(FUSE_WRITE, 0, in, std::vector<uint8_t>{'8'}).error == 0);
  CHECK(ShareRig::Get(r.root / "a") == "983456xy");
}

TEST_CASE("SETATTR changes what it names and nothing else", "[share]") {
  ShareRig r;
  FuseClient& c = *r.client;
  ShareRig::Put(r.root / "a", "text");
  const uint64_t node = c.Node(1, "a");
  const auto before = c.Attr(node);
  CHECK(c.SetAttr(node, {}).As<fuse_attr_out>().attr.mode == before.mode);
  CHECK(c.ChangeMode(node, 0600).As<fuse_attr_out>().attr.mode == (S_IFREG | 0600));
  CHECK(c.Truncate(node, 2).As<fuse_attr_out>().attr.size == 2);
  fuse_setattr_in times{};
  times.valid = FATTR_ATIME | FATTR_MTIME;
  times.atime = 1000;
  times.atimensec = 5;
  times.mtime = static_cast<uint64_t>(-3);  // before 1970
  times.mtimensec = 999'999'999;
  const auto after = c.SetAttr(node, times).As<fuse_attr_out>().attr;
  CHECK(after.atime == 1000);
  CHECK(after.atimensec == 5);
  CHECK(static_cast<int64_t>(after.mtime) == -3);
  CHECK(after.mtimensec == 999'999'999);
  times.valid = FATTR_MTIME | FATTR_MTIME_NOW;
  const auto now = c.SetAttr(node, times).As<fuse_attr_out>().attr;
  CHECK(now.atime == 1000);
  CHECK(now.mtime > 1'000'000'000);
  times.valid = FATTR_MTIME;
  times.mtimensec = 1'000'000'000;
  CHECK(c.SetAttr(node, times).error == EINVAL);
  // By an open file, of which the name is gone.
  const uint64_t handle = r.OpenFile("a", O_RDWR);
  std::filesystem::remove(r.root / "a");
  fuse_setattr_in size{};
  size.valid = FATTR_SIZE | FATTR_FH;
  size.fh = handle;
  size.size = 1;
  CHECK(c.SetAttr(node, size).As<fuse_attr_out>().attr.size == 1);
}

TEST_CASE("A write by somebody without rights takes set-user-ID away", "[share]") {  // [FUSE] 7.33
  ShareRig r;
  FuseClient& c = *r.client;
  ShareRig::Put(r.root / "a", "text");
  REQUIRE(chmod((r.root / "a").c_str(), 06755) == 0);
  const uint64_t handle = r.OpenFile("a", O_RDWR);
  fuse_write_in in{};
  in.fh = handle;
  in.size = 1;
  in.write_flags = FUSE_WRITE_KILL_SUIDGID;
  CHECK(c.Call(FUSE_WRITE, 0, in, std::vector<uint8_t>{'x'}).error == 0);
  CHECK((c.Attr(c.Node(1, "a")).mode & 07777) == 0755);
  REQUIRE(chmod((r.root / "a").c_str(), 06744) == 0);  // set-group-ID means something else here
  CHECK(c.Truncate(c.Node(1, "a"), 1, FATTR_KILL_SUIDGID).error == 0);
  const auto mode = c.Attr(c.Node(1, "a")).mode & 07777;
  CHECK((mode & 04000) == 0);
}

TEST_CASE("Holes are made, found and filled", "[share]") {
  ShareRig r;
  FuseClient& c = *r.client;
  const auto made = c.Create(1, "a", O_RDWR);
  const uint64_t handle = FuseClient::CreatedHandle(made);
  constexpr uint64_t kMiB = 1 << 20;
  CHECK(c.Write(handle, kMiB, "x").error == 0);
  const auto seek = [&](uint64_t offset, uint32_t whence) {
    return c.Call(FUSE_LSEEK, 0, fuse_lseek_in{handle, offset, whence, 0});
  };
  CHECK(seek(0, SEEK_DATA).As<fuse_lseek_out>().offset == kMiB);
  CHECK(seek(0, SEEK_HOLE).As<fuse_lseek_out>().offset == 0);
  CHECK(seek(kMiB + 1, SEEK_DATA).error == ENXIO);
  CHECK(seek(0, SEEK_SET).error == EINVAL);
  const auto allocate = [&](uint32_t mode, uint64_t offset, uint64_t length) {
    return c.Call(FUSE_FALLOCATE, 0, fuse_fallocate_in{handle, offset, length, mode, 0}).error;
  };
  CHECK(allocate(0, 0, 4 * kMiB) == 0);
  CHECK(c.Attr(made.As<fuse_entry_out>().nodeid).size == 4 * kMiB);
  CHECK(allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kMiB, 4096) == 0);
  CHECK(c.Read(handle, kMiB, 1).body == std::vector<uint8_t>{0});
  CHECK(allocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096) == EOPNOTSUPP);
  CHECK(allocate(0, 0, 0) == EINVAL);
}

TEST_CASE("Bytes are copied from file to file by the host", "[share]") {
  ShareRig r;
  FuseClient& c = *r.client;
  ShareRig::Put(r.root / "a", "0123456789");
  const uint64_t from = r.OpenFile("a", O_RDONLY);
  const uint64_t to = FuseClient::CreatedHandle(c.Create(1, "b", O_RDWR));
  fuse_copy_file_range_in in{};
  in.fh_in = from;
  in.off_in = 2;
  in.fh_out = to;
  in.len = 5;
  CHECK(c.Call(FUSE_COPY_FILE_RANGE, 0, in).As<fuse_write_out>().size == 5);
  CHECK(ShareRig::Get(r.root / "b") == "23456");
  in.flags = 1;
  CHECK(c.Call(FUSE_COPY_FILE_RANGE, 0, in).error == EINVAL);
  in.flags = 0;
  std::swap(in.fh_in, in.fh_out);
  CHECK(c.Call(FUSE_COPY_FILE_RANGE, 0, in).error == EBADF);  // `from` is not for writing
}

TEST_CASE("Open files are no more than there are descriptors for", "[share]") {
  ShareRig r({.descriptors = 20});
  ShareRig::Put(r.root / "a", "");
  const uint64_t node = r.client->Node(1, "a");
  std::vector<uint64_t> handles;
  for (int i = 0; i < 10; ++i) {
    const auto opened = r.client->Open(node, O_RDONLY);
    REQUIRE(opened.error == 0);
    handles.push_back(opened.As<fuse_open_out>().fh);
  }
  CHECK(r.client->Open(node, O_RDONLY).error == ENFILE);
  CHECK(r.client->Call(FUSE_OPENDIR, 1, fuse_open_in{}).error == ENFILE);
  CHECK(r.client->Create(1, "b", O_RDWR).error == ENFILE);
  fuse_release_in release{};
  release.fh = handles[3];
  CHECK(r.client->Call(FUSE_RELEASE, node, release).error == 0);
  CHECK(r.client->Open(node, O_RDONLY).error == 0);
}

}  // namespace vmm
