// What the halves of the FUSE server share.
#pragma once

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/core/share/share_server.h"

namespace vmm {

// Of what the guest's open(2) says; the rest is the guest's own business.
inline constexpr int kKeptOpenFlags = O_ACCMODE | O_SYNC | O_DSYNC;

// This thread acts on files as another user of the host, until it ends. [setfsuid(2)]
class ActingUser {
 public:
  ActingUser(uid_t user, gid_t group) {
    static thread_local bool has_groups = true;  // those of the program
    if (has_groups && syscall(SYS_setgroups, 0, nullptr) == 0) has_groups = false;
    group_before_ = static_cast<gid_t>(setfsgid(group));
    user_before_ = static_cast<uid_t>(setfsuid(user));
    // The calls tell nothing but who it was before.
    good_ = !has_groups && static_cast<gid_t>(setfsgid(group)) == group &&
            static_cast<uid_t>(setfsuid(user)) == user;
  }
  ~ActingUser() {
    setfsuid(user_before_);
    setfsgid(group_before_);
  }
  ActingUser(const ActingUser&) = delete;
  ActingUser& operator=(const ActingUser&) = delete;

  bool good() const { return good_; }

 private:
  uid_t user_before_;
  gid_t group_before_;
  bool good_;
};

template <class Body>
int ShareServer::AsCaller(const FuseRequest& request, const Body& body) {
  if (!switches_users_) return body();
  const auto user = users_.ToHost(request.header.uid), group = groups_.ToHost(request.header.gid);
  if (!user || !group) return EOVERFLOW;  // as in a user namespace
  const ActingUser acting(*user, *group);
  return acting.good() ? body() : EPERM;
}

}  // namespace vmm
