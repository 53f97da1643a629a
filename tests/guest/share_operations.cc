// What programs do with files, in a directory that is given, and what comes of it: one line each,
// the same on any file system that behaves as a local one. Run on the host and in a guest, where
// the directory is a shared one, the outputs must be equal.
//
//   share_operations DIRECTORY     which is empty; what is left there at the end is alike, too
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <vector>

namespace {

void Say(const char* what, long long value) {
  std::printf("%s: %lld\n", what, value);
}
// A call's outcome: its value, or the error's name.
long long Try(const char* what, long long value) {
  const int error = errno;
  if (value < 0) {
    std::printf("%s: %s\n", what, strerrorname_np(error));
  } else {
    std::printf("%s: ok\n", what);
  }
  return value;
}
int Open(const char* what, const char* path, int flags, mode_t mode = 0644) {
  return static_cast<int>(Try(what, open(path, flags | O_CLOEXEC, mode)));
}
void Put(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    std::puts("Put: bad");
  close(fd);
}
unsigned long long Sum(const std::string& bytes) {  // [FNV] 1a
  unsigned long long hash = 0xCBF29CE484222325;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash;
}
std::string Get(const char* path) {
  std::string all;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  char buffer[65536];
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) {
    all.append(buffer, static_cast<size_t>(got));
  }
  close(fd);
  return all;
}
void SayFile(const char* what, const char* path) {
  const std::string text = Get(path);
  std::printf("%s: %zu bytes, %llx\n", what, text.size(), Sum(text));
}
void SayStat(const char* what, const char* path) {
  struct stat s{};
  if (lstat(path, &s) != 0) {
    Try(what, -1);
    return;
  }
  std::printf("%s: mode %o, links %lu, size %lld, ours %d, dev %d\n", what, s.st_mode,
              static_cast<unsigned long>(s.st_nlink),
              S_ISDIR(s.st_mode) ? 0LL : static_cast<long long>(s.st_size), s.st_uid == geteuid(),
              static_cast<int>(s.st_rdev != 0));
}

void Create() {
  int fd = Open("create", "new", O_RDWR | O_CREAT | O_EXCL, 0640);
  SayStat("created", "new");
  Open("create again", "new", O_RDWR | O_CREAT | O_EXCL);
  close(Open("open what is there", "new", O_RDWR | O_CREAT));
  Try("write", write(fd, "0123456789", 10));
  Try("truncate up", ftruncate(fd, 20));
  Try("truncate down", truncate("new", 5));
  Try("truncate to nothing below zero", truncate("new", -1));
  Say("size at the end", lseek(fd, 0, SEEK_END));
  char beyond[4];
  Say("read beyond", pread(fd, beyond, sizeof beyond, 100));
  close(fd);
  SayFile("content", "new");
  close(Open("open to truncate", "new", O_WRONLY | O_TRUNC));
  SayFile("truncated", "new");
  Open("a directory to write", ".", O_WRONLY);
  Open("a file as a directory", "new", O_RDONLY | O_DIRECTORY);
  Open("below a file", "new/x", O_RDONLY);
  Open("nothing", "none", O_RDONLY);
  const int sealed = Open("a file that none may write", "sealed", O_RDWR | O_CREAT, 0444);
  Try("written all the same", write(sealed, "x", 1));
  close(sealed);
  const int synced = Open("written through", "synced", O_WRONLY | O_CREAT | O_SYNC);
  Try("write synced", write(synced, "text", 4));
  Try("fsync", fsync(synced));
  Try("fdatasync", fdatasync(synced));
  close(synced);
  const int directory = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  Try("fsync a directory", fsync(directory));
  close(directory);
}

void Append() {
  Put("log", "");
  const int one = open("log", O_WRONLY | O_APPEND | O_CLOEXEC);
  const int two = open("log", O_WRONLY | O_APPEND | O_CLOEXEC);
  for (int i = 0; i < 50; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    if (write(i % 2 ? one : two, line.data(), line.size()) < 0) std::puts("append: bad");
  }
  Try("no longer to append", fcntl(one, F_SETFL, 0));
  Try("write at the start", pwrite(one, "LINE", 4, 0));
  close(one);
  close(two);
  SayFile("appended", "log");
}

void Names() {
  Put("a", "a");
  Put("b", "bb");
  mkdir("d", 0755);
  mkdir("d/e", 0755);
  Try("rename", rename("a", "c"));
  SayStat("old name", "a");
  const int open_file = open("b", O_RDWR | O_CLOEXEC);
  Try("rename over what is open", rename("c", "b"));
  struct stat s{};
  fstat(open_file, &s);
  Say("links of what was there", static_cast<long long>(s.st_nlink));
  char text[4] = {};
  Say("its bytes", pread(open_file, text, 4, 0));
  close(open_file);
  SayFile("what is there now", "b");
  Try("directory into itself", rename("d", "d/e/f"));
  Try("directory over a file", rename("d", "b"));
  Try("file over a directory", rename("b", "d"));
  mkdir("g", 0755);
  Try("over a directory with something in it", rename("g", "d"));
  Try("over an empty one", rename("d", "g"));
  SayStat("its child", "g/e");
  Put("h", "h");
  Try("exchange", renameat2(AT_FDCWD, "b", AT_FDCWD, "h", RENAME_EXCHANGE));
  SayFile("exchanged", "h");
  Try("without replacing", renameat2(AT_FDCWD, "b", AT_FDCWD, "h", RENAME_NOREPLACE));
  Try("remove a directory by unlink", unlink("g"));
  Try("remove a file by rmdir", rmdir("h"));
  Try("remove what is not empty", rmdir("g"));
  Try("make what is there", mkdir("g", 0755));
  const std::string longest(255, 'n'), longer(256, 'n');
  Put(longest.c_str(), "long");
  SayFile("the longest name", longest.c_str());
  Try("a longer one", open(longer.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0644));
  std::string odd;
  for (int c = 1; c < 256; ++c) {
    if (c != '/') odd.push_back(static_cast<char>(c));
  }
  Put(odd.substr(0, 120).c_str(), "odd");
  Put(odd.substr(120).c_str(), "odder");
  SayFile("a name of any bytes", odd.substr(120).c_str());
  std::string deep = "deep";
  for (int i = 0; i < 60; ++i) {
    mkdir(deep.c_str(), 0755);
    deep += "/down";
  }
  Put(deep.c_str(), "far");
  SayFile("far down", deep.c_str());
}

void Links() {
  Put("file", "text");
  Try("link", link("file", "other"));
  SayStat("two names", "file");
  struct stat one{}, two{};
  stat("file", &one);
  stat("other", &two);
  Say("are one file", one.st_ino == two.st_ino && one.st_dev == two.st_dev);
  Try("unlink one", unlink("file"));
  SayStat("one name", "other");
  Try("link over", link("other", "log"));
  Try("link a directory", link("g", "hard"));
  Try("symlink", symlink("other", "soft"));
  SayStat("the link", "soft");
  SayFile("through it", "soft");
  char target[100];
  Say("its length", readlink("soft", target, sizeof target));
  Try("no link", readlink("other", target, sizeof target));
  Try("a link to nothing", symlink("nowhere", "dangling"));
  Open("through that", "dangling", O_RDONLY);
  Open("not through it", "soft", O_RDONLY | O_NOFOLLOW);
  symlink("loop", "loop");
  Open("in a loop", "loop", O_RDONLY);
  symlink("../" /* and back */, "g/up");
  SayFile("up and down", "g/up/other");
  Try("a link to a link", linkat(AT_FDCWD, "soft", AT_FDCWD, "soft2", 0));
  SayStat("it", "soft2");
  const int created = Open("create through one", "dangling", O_WRONLY | O_CREAT);
  close(created);
  SayStat("created there", "nowhere");
}

void Attributes() {
  Put("m", "mode");
  for (const mode_t mode : {0600u, 0444u, 0u, 0777u, 01644u, 04755u, 02755u, 0640u}) {
    Try("chmod", chmod("m", mode));
    SayStat("mode", "m");
  }
  for (const mode_t mask : {0u, 022u, 077u, 0u}) {
    umask(mask);
    const std::string name = "umask" + std::to_string(mask);
    mkdir((name + "d").c_str(), 0777);
    SayStat("directory", (name + "d").c_str());
    close(open((name + "f").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
    SayStat("file", (name + "f").c_str());
    mkfifo((name + "p").c_str(), 0666);
    SayStat("pipe", (name + "p").c_str());
  }
  umask(022);
  chmod("m", 0444);
  close(Open("what may not be written", "m", O_WRONLY));
  Say("access", access("m", R_OK));
  Say("access to execute", access("m", X_OK));
  Try("chown to the same", chown("m", geteuid(), getegid()));
  timespec times[2] = {{1'000'000'000, 123'456'789}, {2'000'000'000, 987'654'321}};
  Try("utimens", utimensat(AT_FDCWD, "m", times, 0));
  struct stat s{};
  stat("m", &s);
  std::printf("times: %lld.%09ld %lld.%09ld\n", static_cast<long long>(s.st_atim.tv_sec),
              s.st_atim.tv_nsec, static_cast<long long>(s.st_mtim.tv_sec), s.st_mtim.tv_nsec);
  times[0].tv_nsec = UTIME_OMIT;
  times[1] = {5, 0};
  Try("one of them", utimensat(AT_FDCWD, "m", times, 0));
  stat("m", &s);
  Say("the other", s.st_atim.tv_sec);
  Say("changed", s.st_mtim.tv_sec);
  Try("of a link", utimensat(AT_FDCWD, "soft", times, AT_SYMLINK_NOFOLLOW));
  lstat("soft", &s);
  Say("the link's", s.st_mtim.tv_sec);
  stat("soft", &s);
  Say("not the file's", s.st_mtim.tv_sec > 1'000'000'000);
  chmod("m", 0644);
  Put("m", "now");
  stat("m", &s);
  Say("a write sets it", s.st_mtim.tv_sec > 1'000'000'000);
  struct statfs f{};
  Try("statfs", statfs(".", &f));
  std::printf("file system: names of %ld, blocks of %ld, %d\n", static_cast<long>(f.f_namelen),
              static_cast<long>(f.f_bsize), f.f_blocks != 0);
}

void ExtendedAttributes() {
  Put("x", "x");
  Try("set", setxattr("x", "user.one", "value", 5, 0));
  Try("set another", setxattr("x", "user.two", "", 0, 0));
  Try("create what is there", setxattr("x", "user.one", "v", 1, XATTR_CREATE));
  Try("replace what isn't", setxattr("x", "user.three", "v", 1, XATTR_REPLACE));
  char buffer[100];
  Say("get", getxattr("x", "user.one", buffer, sizeof buffer));
  Say("its size", getxattr("x", "user.one", nullptr, 0));
  Try("too little room", getxattr("x", "user.one", buffer, 2));
  Try("what isn't", getxattr("x", "user.none", buffer, 2));
  std::set<std::string> names;
  const ssize_t length = listxattr("x", buffer, sizeof buffer);
  for (ssize_t at = 0; at < length; at += static_cast<ssize_t>(strlen(buffer + at)) + 1) {
    if (strncmp(buffer + at, "user.", 5) == 0) names.insert(buffer + at);
  }
  for (const std::string& name : names) std::printf("name: %s\n", name.c_str());
  Try("remove", removexattr("x", "user.one"));
  Try("remove again", removexattr("x", "user.one"));
  mkdir("xd", 0755);
  Try("of a directory", setxattr("xd", "user.d", "v", 1, 0));
  Try("of a link", lsetxattr("soft", "user.l", "v", 1, 0));
}

void Directories() {
  mkdir("many", 0755);
  std::set<std::string> made;
  for (int i = 0; i < 5000; ++i) {
    const std::string name =
        "entry" + std::to_string(i) + std::string(static_cast<size_t>(i % 30), '_');
    made.insert(name);
    close(open(("many/" + name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  }
  DIR* directory = opendir("many");
  for (int round = 0; round < 2; ++round) {
    std::set<std::string> seen;
    int count = 0, wrong = 0;
    long middle = 0;
    std::string after;
    while (const dirent* entry = readdir(directory)) {
      if (after.empty() && middle != 0) after = entry->d_name;
      if (++count == 2500) middle = telldir(directory);
      seen.insert(entry->d_name);
      struct stat s{};
      if (count % 100 == 0 && entry->d_name[0] != '.' &&
          (fstatat(dirfd(directory), entry->d_name, &s, 0) != 0 || s.st_ino != entry->d_ino)) {
        ++wrong;
      }
    }
    Say("entries", count);
    Say("dots", static_cast<long long>(seen.erase(".") + seen.erase("..")));
    Say("all of them", seen == made);
    Say("with other numbers", wrong);
    seekdir(directory, middle);
    const dirent* there = readdir(directory);
    Say("found again", there != nullptr && after == there->d_name);
    rewinddir(directory);
  }
  int removed = 0;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') removed += unlinkat(dirfd(directory), entry->d_name, 0) == 0;
  }
  closedir(directory);
  Say("removed", removed);
  Try("and it", rmdir("many"));
  mkdir("gone", 0755);
  const int inside = open("gone", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  rmdir("gone");
  struct stat s{};
  Try("a directory that is gone", fstat(inside, &s));
  Say("its links", static_cast<long long>(s.st_nlink));
  Try("create in it", openat(inside, "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  close(inside);
}

void Bytes() {
  const int fd = open("sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  constexpr off_t kFar = off_t{1} << 30;
  Try("write far out", pwrite(fd, "end", 3, kFar));
  struct stat s{};
  fstat(fd, &s);
  Say("size", s.st_size);
  Say("takes little", s.st_blocks < 2048);
  Say("data", lseek(fd, 0, SEEK_DATA));
  Say("hole", lseek(fd, 0, SEEK_HOLE));
  Try("no data behind", lseek(fd, kFar + 3, SEEK_DATA));
  Try("allocate", fallocate(fd, 0, 0, 1 << 20));
  fstat(fd, &s);
  Say("takes more", s.st_blocks >= 2048);
  pwrite(fd, "text", 4, 4096);
  Try("punch a hole", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192));
  char text[4] = {'x', 'x', 'x', 'x'};
  pread(fd, text, 4, 4096);
  Say("zeros", text[0] + text[1] + text[2] + text[3]);
  Try("smaller", ftruncate(fd, 100000));
  close(fd);
  SayFile("sparse", "sparse");

  std::string big(3'000'001, 0);
  for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 2654435761u >> 13);
  Put("big", big);
  SayFile("big", "big");
  const int from = open("big", O_RDONLY | O_CLOEXEC);
  const int to = open("copy", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  long long copied = 0;
  for (ssize_t got; (got = copy_file_range(from, nullptr, to, nullptr, 1 << 20, 0)) > 0;) {
    copied += got;
  }
  Say("copied", copied);
  lseek(from, 0, SEEK_SET);
  for (ssize_t got; (got = sendfile(to, from, nullptr, 1 << 20)) > 0;) copied += got;
  Say("sent", copied);
  close(to);
  close(from);
  SayFile("copy", "copy");

  const int mapped = open("mapped", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  ftruncate(mapped, 10000);
  auto* shared =
      static_cast<char*>(mmap(nullptr, 10000, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0));
  auto* own =
      static_cast<char*>(mmap(nullptr, 10000, PROT_READ | PROT_WRITE, MAP_PRIVATE, mapped, 0));
  std::memcpy(shared + 5000, "shared", 6);
  std::memcpy(own + 100, "private", 7);
  Try("msync", msync(shared, 10000, MS_SYNC));
  pwrite(mapped, "written", 7, 9000);
  Say("seen in the mapping", std::memcmp(shared + 9000, "written", 7));
  munmap(shared, 10000);
  munmap(own, 10000);
  close(mapped);
  SayFile("mapped", "mapped");

  const int lost = open("lost", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  unlink("lost");
  Try("write to what is deleted", write(lost, "still here", 10));
  Try("truncate it", ftruncate(lost, 5));
  fstat(lost, &s);
  Say("its links", static_cast<long long>(s.st_nlink));
  Say("its size", s.st_size);
  Try("chmod it", fchmod(lost, 0600));
  Say("read it", pread(lost, text, 4, 1));
  close(lost);
}

void Special() {
  mkfifo("fifo", 0600);
  Try("nobody reads", open("fifo", O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  const int out = open("fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  const int in = Open("somebody does", "fifo", O_WRONLY);
  Say("sent", write(in, "abc", 3));
  char text[4];
  Say("came", read(out, text, 4));
  close(in);
  close(out);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, "socket");
  const int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
  Try("bind", bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address));
  Try("listen", listen(listener, 1));
  Try("connect", connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address));
  SayStat("socket", "socket");
  close(client);
  close(listener);
  const int fd = open("locked", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  Try("flock", flock(fd, LOCK_EX));
  const int other = open("locked", O_RDWR | O_CLOEXEC);
  Try("flock by another", flock(other, LOCK_EX | LOCK_NB));
  flock(fd, LOCK_UN);
  struct flock range{};
  range.l_type = F_WRLCK;
  Try("lock a range", fcntl(fd, F_SETLK, &range));
  std::fflush(stdout);
  if (fork() == 0) {
    Try("lock it by another", fcntl(other, F_SETLK, &range));
    std::fflush(stdout);
    _exit(0);
  }
  wait(nullptr);
  close(fd);
  close(other);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || chdir(argv[1]) != 0) return 2;
  umask(022);
  Create();
  Append();
  Names();
  Links();
  Attributes();
  ExtendedAttributes();
  Directories();
  Bytes();
  Special();
  std::puts("end");
  return 0;
}
