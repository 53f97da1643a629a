#include "vmm/core/share/share_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "vmm/core/share/share_parts.h"

namespace vmm {
namespace {

// Without changing it, as umask(2) would. [proc_pid_status(5)]
mode_t UmaskOfProcess() {
  mode_t mask = 0;
  if (FILE* status = std::fopen("/proc/self/status", "re")) {
    std::array<char, 256> line{};
    while (std::fgets(line.data(), line.size(), status) != nullptr) {
      if (std::sscanf(line.data(), "Umask: %o", &mask) == 1) break;
    }
    std::fclose(status);
  }
  return mask;
}

// Has this process the capabilities that acting as others, and giving files to them, takes?
bool MayActAsOthers() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  if (syscall(SYS_capget, &header, data.data()) != 0) return false;
  constexpr uint32_t kNeeded = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_CHOWN |
                               1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER;
  return (data[0].effective & kNeeded) == kNeeded;
}

IdMap OrOnly(const IdMap& map, uint32_t own) {
  return map.empty() ? IdMap({{.guest = 0, .host = own, .count = 1}}) : map;
}

constexpr uint64_t kLongSeconds = 86400;

}  // namespace

struct ShareServer::Operation {
  int (ShareServer::*serve)(FuseRequest&, FuseAnswer&);
  bool changes = false;  // something in the directory
};

// What each opcode does. What isn't here is ENOSYS; of locks the client takes it that it has to
// keep them itself, among its own programs.
struct Operations {
  static const ShareServer::Operation* Find(uint32_t opcode) {
    using S = ShareServer;
    static const std::array<ShareServer::Operation, 64> kAll = [] {
      std::array<ShareServer::Operation, 64> all{};
      all[FUSE_LOOKUP] = {&S::Lookup};
      all[FUSE_GETATTR] = {&S::GetAttr};
      all[FUSE_SETATTR] = {&S::SetAttr, true};
      all[FUSE_READLINK] = {&S::ReadLink};
      all[FUSE_SYMLINK] = {&S::Symlink, true};
      all[FUSE_MKNOD] = {&S::MkNod, true};
      all[FUSE_MKDIR] = {&S::MkDir, true};
      all[FUSE_UNLINK] = {&S::Unlink, true};
      all[FUSE_RMDIR] = {&S::RmDir, true};
      all[FUSE_RENAME] = {&S::Rename, true};
      all[FUSE_RENAME2] = {&S::Rename2, true};
      all[FUSE_LINK] = {&S::Link, true};
      all[FUSE_OPEN] = {&S::OpenIt};
      all[FUSE_READ] = {&S::Read};
      all[FUSE_WRITE] = {&S::Write, true};
      all[FUSE_STATFS] = {&S::StatFs};
      all[FUSE_RELEASE] = {&S::Release};
      all[FUSE_FSYNC] = {&S::FSync};
      all[FUSE_SETXATTR] = {&S::SetXattr, true};
      all[FUSE_GETXATTR] = {&S::GetXattr};
      all[FUSE_LISTXATTR] = {&S::ListXattr};
      all[FUSE_REMOVEXATTR] = {&S::RemoveXattr, true};
      all[FUSE_FLUSH] = {&S::Flush};
      all[FUSE_INIT] = {&S::Init};
      all[FUSE_OPENDIR] = {&S::OpenDir};
      all[FUSE_READDIR] = {&S::ReadDir};
      all[FUSE_READDIRPLUS] = {&S::ReadDirPlus};
      all[FUSE_RELEASEDIR] = {&S::ReleaseDir};
      all[FUSE_FSYNCDIR] = {&S::FSyncDir};
      all[FUSE_ACCESS] = {&S::Access};
      all[FUSE_CREATE] = {&S::Create, true};
      all[FUSE_DESTROY] = {&S::Destroy};
      all[FUSE_FALLOCATE] = {&S::FAllocate, true};
      all[FUSE_LSEEK] = {&S::LSeek};
      all[FUSE_COPY_FILE_RANGE] = {&S::CopyFileRange, true};
      all[FUSE_SYNCFS] = {&S::SyncFs};
      return all;
    }();
    if (opcode >= kAll.size() || kAll[opcode].serve == nullptr) return nullptr;
    return &kAll[opcode];
  }
};

ShareServer::ShareServer(const ShareOptions& options, HostInodes host)
    : options_(options),
      users_(OrOnly(options.users, geteuid())),
      groups_(OrOnly(options.groups, getegid())),
      switches_users_(!users_.IsOnly(geteuid()) || !groups_.IsOnly(getegid())),
      umask_(UmaskOfProcess()),
      host_(std::move(host)),
      inodes_(host_, {.inodes = options.inodes, .descriptors = options.descriptors / 2}),
      files_(options.descriptors / 2) {}

Result<std::unique_ptr<ShareServer>> ShareServer::Open(const ShareOptions& options) {
  auto host = HostInodes::OpenRoot(options.path);
  if (!host) return tl::unexpected(std::move(host.error()));
  std::unique_ptr<ShareServer> server(new ShareServer(options, std::move(*host)));
  if (server->switches_users_ && !MayActAsOthers()) {
    return Fail(ExitCode::kNoPermission,
                fmt::format("{}: users or groups name others than user {} and group {}, who runs "
                            "vmm without the capabilities to act as them; fix: name only these, or "
                            "give it CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_DAC_OVERRIDE and "
                            "CAP_FOWNER",
                            options.path, geteuid(), getegid()));
  }
  return server;
}

std::optional<uint64_t> ShareServer::Serve(FuseBuffers& buffers) {
  fuse_in_header header;
  if (buffers.request_size() < sizeof header) return {};
  buffers.Read(0, {reinterpret_cast<uint8_t*>(&header), sizeof header});
  const bool is_answered = header.opcode != FUSE_FORGET && header.opcode != FUSE_BATCH_FORGET;
  if (is_answered && buffers.answer_size() < sizeof(fuse_out_header)) return {};

  const bool fits = header.len >= sizeof header && header.len <= buffers.request_size();
  uint64_t length = fits ? header.len - sizeof header : 0;
  if (header.opcode == FUSE_WRITE) length = std::min<uint64_t>(length, sizeof(fuse_write_in));
  const bool is_long = length > kMaxArguments;
  std::vector<uint8_t> arguments(is_long ? 0 : length);
  buffers.Read(sizeof header, arguments);
  FuseRequest request(header, arguments, buffers);
  if (!is_answered) {
    if (is_begun_ && fits) header.opcode == FUSE_FORGET ? Forget(request) : BatchForget(request);
    return 0;
  }
  FuseAnswer answer(buffers);
  const Operation* operation = Operations::Find(header.opcode);
  int error = 0;
  if (!fits) {
    error = EINVAL;
  } else if (is_long) {
    error = E2BIG;
  } else if (operation == nullptr) {
    error = ENOSYS;
  } else if (!is_begun_ && header.opcode != FUSE_INIT) {
    error = EIO;
  } else if (operation->changes && options_.read_only) {
    error = EROFS;
  } else {
    error = (this->*operation->serve)(request, answer);
  }
  return answer.Send(header.unique, error);
}

void ShareServer::EndSession() {
  is_begun_ = false;
  files_.Clear();
  inodes_.Clear();
}

int ShareServer::Init(FuseRequest& request, FuseAnswer& answer) {
  // Before version 7.36 it ended behind the flags.
  struct {
    uint32_t major, minor, max_readahead, flags;
  } in;
  if (!request.arguments.Take(in)) return EINVAL;
  if (in.major < FUSE_KERNEL_VERSION) return EPROTO;
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = FUSE_KERNEL_MINOR_VERSION;
  if (in.major > FUSE_KERNEL_VERSION) {  // the client shall ask again, in our words
    answer.Put(out);
    return 0;
  }
  if (in.minor < kOldestMinor) return EPROTO;
  EndSession();
  constexpr uint32_t kFlags = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
                              FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
                              FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
                              FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2;
  uint32_t flags = kFlags;
  // What may be believed for no time at all need not be told beforehand.
  if (options_.cache == ShareCache::kNone) {
    flags &= ~uint32_t{FUSE_CACHE_SYMLINKS | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO};
  }
  out.minor = std::min<uint32_t>(in.minor, out.minor);
  out.max_readahead = in.max_readahead;
  out.flags = in.flags & flags;
  out.max_background = 64;
  out.congestion_threshold = 48;
  out.max_write = kMaxWrite;
  out.max_pages = kMaxPages;
  out.time_gran = 1;
  answer.Put(out);
  is_begun_ = true;
  return 0;
}

int ShareServer::Destroy(FuseRequest&, FuseAnswer&) {
  is_begun_ = false;  // what others still work at ends as it may
  files_.Clear();
  inodes_.Clear();
  return 0;
}

void ShareServer::Forget(FuseRequest& request) {
  fuse_forget_in in;
  if (request.arguments.Take(in)) inodes_.Forget(request.header.nodeid, in.nlookup);
}

void ShareServer::BatchForget(FuseRequest& request) {
  fuse_batch_forget_in in;
  if (!request.arguments.Take(in)) return;
  fuse_forget_one one;
  for (uint32_t i = 0; i < in.count && request.arguments.Take(one); ++i) {
    inodes_.Forget(one.nodeid, one.nlookup);
  }
}

int ShareServer::StatFs(FuseRequest& request, FuseAnswer& answer) {
  const auto fd = inodes_.Open(request.header.nodeid);
  if (!fd) return fd.error();
  struct statfs status{};
  if (fstatfs((*fd)->get(), &status) != 0) return errno;
  fuse_statfs_out out{};
  out.st.blocks = status.f_blocks;
  out.st.bfree = status.f_bfree;
  out.st.bavail = status.f_bavail;
  out.st.files = status.f_files;
  out.st.ffree = status.f_ffree;
  out.st.bsize = static_cast<uint32_t>(status.f_bsize);
  out.st.namelen = static_cast<uint32_t>(status.f_namelen);
  out.st.frsize = static_cast<uint32_t>(status.f_frsize);
  answer.Put(out);
  return 0;
}

int ShareServer::SyncFs(FuseRequest&, FuseAnswer&) {
  if (options_.read_only) return 0;
  const auto fd = host_.Reopen(host_.root()->get(), O_RDONLY | O_DIRECTORY);
  if (!fd) return fd.error();
  return syncfs(fd->get()) == 0 ? 0 : errno;
}

// --- What all share. ---

// Of another file system below the directory numbers may be the same as in ours.
uint64_t ShareServer::NumberFor(const struct statx& status) const {
  const InodeKey key = host_.KeyOf(status);
  if (key.device == 0) return key.number;
  return (key.number ^ key.device * 0x9E3779B97F4A7C15) | uint64_t{1} << 63;
}

fuse_attr ShareServer::AttributesOf(const struct statx& status) const {
  fuse_attr attr{};
  attr.ino = NumberFor(status);
  attr.size = status.stx_size;
  attr.blocks = status.stx_blocks;
  attr.atime = static_cast<uint64_t>(status.stx_atime.tv_sec);
  attr.mtime = static_cast<uint64_t>(status.stx_mtime.tv_sec);
  attr.ctime = static_cast<uint64_t>(status.stx_ctime.tv_sec);
  attr.atimensec = status.stx_atime.tv_nsec;
  attr.mtimensec = status.stx_mtime.tv_nsec;
  attr.ctimensec = status.stx_ctime.tv_nsec;
  attr.mode = status.stx_mode;
  attr.nlink = status.stx_nlink;
  attr.uid = users_.ToGuest(status.stx_uid);
  attr.gid = groups_.ToGuest(status.stx_gid);
  // As Linux encodes it for users: [makedev(3)] with 12 and 20 bits
  attr.rdev = (status.stx_rdev_minor & 0xFF) | (status.stx_rdev_major & 0xFFF) << 8 |
              (status.stx_rdev_minor & ~0xFFu) << 12;
  attr.blksize = status.stx_blksize;
  return attr;
}

void ShareServer::SetValidity(uint64_t& seconds) const {
  seconds = options_.cache == ShareCache::kNone    ? 0
            : options_.cache == ShareCache::kShort ? 1
                                                   : kLongSeconds;
}

uint32_t ShareServer::OpenFlags(int flags) const {
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  return (options_.cache == ShareCache::kLong ? FOPEN_KEEP_CACHE : 0) |
         (writes ? 0 : FOPEN_NOFLUSH);
}

bool ShareServer::MayHaveMode(uint32_t mode) const {
  return options_.setuid || S_ISDIR(mode) || (mode & (S_ISUID | S_ISGID)) == 0;
}

void ShareServer::GiveMode(int fd, uint32_t mode) const {
  constexpr mode_t kPermissions = 0777;
  if ((mode & umask_ & kPermissions) == 0) return;
  const auto status = HostInodes::Stat(fd);
  // A default ACL takes the umask's place.
  if (!status || S_ISLNK(status->stx_mode) ||
      (status->stx_mode & kPermissions) != (mode & ~umask_ & kPermissions)) {
    return;
  }
  static_cast<void>(host_.ChangeMode(fd, (status->stx_mode & 07777) | (mode & kPermissions)));
}

OrErrno<int> ShareServer::FdOf(OpenFile& file) {
  // A machine may have been resumed with its directory shared otherwise.
  if (options_.read_only && (file.flags & O_ACCMODE) != O_RDONLY) return Errno(EROFS);
  return file.Fd([&]() -> OrErrno<UniqueFd> {
    const auto inode = inodes_.Open(file.inode);
    if (!inode) return Errno(inode.error());
    return host_.Reopen((*inode)->get(), file.flags);
  });
}

OrErrno<std::pair<std::shared_ptr<OpenFile>, int>> ShareServer::FileOf(uint64_t handle,
                                                                       bool is_directory) {
  auto file = files_.Find(handle, is_directory);
  if (!file) return Errno(file.error());
  const auto fd = FdOf(**file);
  if (!fd) return Errno(fd.error());
  return std::pair(std::move(*file), *fd);
}

}  // namespace vmm
