// The FUSE server: one directory of the host, served to one client. [FUSE], [VIRTIO 1.2] 5.11
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/share/fuse_message.h"
#include "vmm/core/share/host_inode.h"
#include "vmm/core/share/inode_table.h"
#include "vmm/core/share/open_files.h"
#include "vmm/core/share/share_options.h"

namespace vmm {

// The client may send any bytes: it reaches nothing but files at or below the directory, opens
// no device and no pipe of the host, and what it can make the server hold is bounded. The host's
// own rules (permissions, quotas) hold as for any program of the user that vmm runs as.
//
// Any threads; those that Serve() wait for the host's file system.
class ShareServer {
 public:
  static constexpr uint32_t kOldestMinor = 31;  // of the protocol's version 7
  static constexpr uint32_t kMaxPages = 256;    // of 4 KiB in a request
  static constexpr uint32_t kMaxWrite = kMaxPages * 4096;
  static constexpr size_t kMaxArguments = 128 << 10;  // bytes, data to write not counted

  // Or why the directory can't be shared, with the exit code.
  static Result<std::unique_ptr<ShareServer>> Open(const ShareOptions& options);
  ShareServer(const ShareServer&) = delete;
  ShareServer& operator=(const ShareServer&) = delete;

  // How many bytes of the answer were written, maybe none. Nothing: it is no request, or has no
  // room for its answer.
  std::optional<uint64_t> Serve(FuseBuffers& buffers);
  // Forgets the client. No request is under way.
  void EndSession();

  // What the client knows and has open, in pieces of a few MiB. No request is under way.
  std::vector<std::vector<uint8_t>> Save() const;
  // False: that can't be; then there is no session.
  bool Load(const std::vector<std::vector<uint8_t>>& pieces);

 private:
  struct Operation;
  friend struct Operations;

  ShareServer(const ShareOptions& options, HostInodes host);

  // Each serves one opcode: 0 or errno.
  int Init(FuseRequest&, FuseAnswer&);
  int Destroy(FuseRequest&, FuseAnswer&);
  int StatFs(FuseRequest&, FuseAnswer&);
  int SyncFs(FuseRequest&, FuseAnswer&);
  void Forget(FuseRequest&);
  void BatchForget(FuseRequest&);
  // share_names.cc
  int Lookup(FuseRequest&, FuseAnswer&);
  int Symlink(FuseRequest&, FuseAnswer&);
  int ReadLink(FuseRequest&, FuseAnswer&);
  int MkNod(FuseRequest&, FuseAnswer&);
  int MkDir(FuseRequest&, FuseAnswer&);
  int Unlink(FuseRequest&, FuseAnswer&);
  int RmDir(FuseRequest&, FuseAnswer&);
  int Rename(FuseRequest&, FuseAnswer&);
  int Rename2(FuseRequest&, FuseAnswer&);
  int Link(FuseRequest&, FuseAnswer&);
  // share_attributes.cc
  int GetAttr(FuseRequest&, FuseAnswer&);
  int SetAttr(FuseRequest&, FuseAnswer&);
  int Access(FuseRequest&, FuseAnswer&);
  int SetXattr(FuseRequest&, FuseAnswer&);
  int GetXattr(FuseRequest&, FuseAnswer&);
  int ListXattr(FuseRequest&, FuseAnswer&);
  int RemoveXattr(FuseRequest&, FuseAnswer&);
  // share_files.cc
  int OpenIt(FuseRequest&, FuseAnswer&);
  int Create(FuseRequest&, FuseAnswer&);
  int Read(FuseRequest&, FuseAnswer&);
  int Write(FuseRequest&, FuseAnswer&);
  int Flush(FuseRequest&, FuseAnswer&);
  int Release(FuseRequest&, FuseAnswer&);
  int FSync(FuseRequest&, FuseAnswer&);
  int FAllocate(FuseRequest&, FuseAnswer&);
  int LSeek(FuseRequest&, FuseAnswer&);
  int CopyFileRange(FuseRequest&, FuseAnswer&);
  // share_directories.cc
  int OpenDir(FuseRequest&, FuseAnswer&);
  int ReadDir(FuseRequest&, FuseAnswer&);
  int ReadDirPlus(FuseRequest&, FuseAnswer&);
  int ReleaseDir(FuseRequest&, FuseAnswer&);
  int FSyncDir(FuseRequest&, FuseAnswer&);

  // Runs `body` as the user of the guest that the request came from, where ids are mapped.
  template <class Body>
  int AsCaller(const FuseRequest& request, const Body& body);
  // The same for what makes `name` in the request's directory, by body(directory): 0 or errno. A
  // `mode` is what the client wants it to have.
  template <class Body>
  int MakeEntry(FuseRequest& request, const std::string& name, uint32_t mode, FuseAnswer& answer,
                const Body& body);
  // Tells the client of an entry that is there.
  OrErrno<fuse_entry_out> EntryAt(uint64_t parent, int directory, const std::string& name,
                                  uint32_t mode = 0);
  fuse_entry_out EntryOf(uint64_t inode, const struct statx& status) const;
  int Remove(FuseRequest& request, bool is_directory);
  int Move(FuseRequest& request, uint64_t to, unsigned flags);
  int List(FuseRequest& request, FuseAnswer& answer, bool plus);

  fuse_attr AttributesOf(const struct statx& status) const;
  uint64_t NumberFor(const struct statx& status) const;
  void SetValidity(uint64_t& seconds) const;
  uint32_t OpenFlags(int flags) const;
  bool MayHaveMode(uint32_t mode) const;
  // The mode that was asked for, where the process's umask took bits away.
  void GiveMode(int fd, uint32_t mode) const;
  OrErrno<int> FdOf(OpenFile& file);
  OrErrno<std::pair<std::shared_ptr<OpenFile>, int>> FileOf(uint64_t handle,
                                                            bool is_directory = false);
  int DropPrivileges(int fd) const;  // of a file that changes: set-user-ID and its like
  int ChangeSize(uint64_t inode, const fuse_setattr_in& in, int path_fd);
  int ChangeOwner(const fuse_setattr_in& in, int path_fd) const;

  const ShareOptions options_;
  const IdMap users_, groups_;
  const bool switches_users_;
  const mode_t umask_;  // of the process, which nobody changes
  HostInodes host_;
  InodeTable inodes_;
  OpenFiles files_;
  std::atomic<bool> is_begun_{false};  // INIT was answered
};

}  // namespace vmm
