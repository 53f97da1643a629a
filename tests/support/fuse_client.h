// A FUSE client for tests: requests in plain memory, as the guest's kernel would make them, and
// others.
#pragma once

#include <linux/fuse.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/share/share_server.h"

namespace vmm {

class MemoryBuffers final : public FuseBuffers {
 public:
  MemoryBuffers(std::vector<uint8_t> request, size_t room)
      : request_(std::move(request)), answer_(room) {}

  uint64_t request_size() const override { return request_.size(); }
  void Read(uint64_t offset, std::span<uint8_t> out) const override {
    for (uint8_t& byte : out) {
      if (offset < request_.size()) byte = request_[offset];
      ++offset;
    }
  }
  void GatherRequest(uint64_t offset, uint64_t length, std::vector<iovec>& out) const override {
    Gather(const_cast<std::vector<uint8_t>&>(request_), offset, length, out);
  }
  uint64_t answer_size() const override { return answer_.size(); }
  void Write(uint64_t offset, std::span<const uint8_t> bytes) override {
    for (const uint8_t byte : bytes) {
      if (offset < answer_.size()) answer_[offset] = byte;
      ++offset;
    }
  }
  void GatherAnswer(uint64_t offset, uint64_t length, std::vector<iovec>& out) const override {
    Gather(const_cast<std::vector<uint8_t>&>(answer_), offset, length, out);
  }
  void TellWritten(uint64_t, uint64_t) override {}

  const std::vector<uint8_t>& answer() const { return answer_; }

 private:
  // In two pieces, as a guest's buffers lie anywhere.
  static void Gather(std::vector<uint8_t>& bytes, uint64_t offset, uint64_t length,
                     std::vector<iovec>& out) {
    if (offset >= bytes.size()) return;
    length = std::min<uint64_t>(length, bytes.size() - offset);
    const uint64_t first = length / 3;
    if (first != 0) out.push_back({bytes.data() + offset, first});
    if (length != first) out.push_back({bytes.data() + offset + first, length - first});
  }
  std::vector<uint8_t> request_, answer_;
};

struct FuseReply {
  int error = 0;  // positive
  std::vector<uint8_t> body;

  template <class T>
  T As(size_t offset = 0) const {
    T value{};
    if (offset + sizeof value <= body.size()) {
      std::memcpy(&value, body.data() + offset, sizeof value);
    }
    return value;
  }
  std::string text() const { return {body.begin(), body.end()}; }
};

class FuseClient {
 public:
  explicit FuseClient(ShareServer& server) : server_(server) {}

  uint32_t uid = 0, gid = 0;  // of the next requests

  // Bytes of several arguments one after another; text gets its zero.
  static void Append(std::vector<uint8_t>& out, std::string_view text) {
    out.insert(out.end(), text.begin(), text.end());
    out.push_back(0);
  }
  static void Append(std::vector<uint8_t>& out, const std::vector<uint8_t>& bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  template <class T>
    requires std::is_trivially_copyable_v<T> && (!std::is_convertible_v<T, std::string_view>)
  static void Append(std::vector<uint8_t>& out, const T& value) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    out.insert(out.end(), bytes, bytes + sizeof value);
  }

  template <class... Arguments>
  FuseReply Call(uint32_t opcode, uint64_t node, const Arguments&... arguments) {
    std::vector<uint8_t> body;
    (Append(body, arguments), ...);
    return CallBytes(opcode, node, body);
  }
  FuseReply CallBytes(uint32_t opcode, uint64_t node, const std::vector<uint8_t>& body,
                      size_t room = size_t{1} << 17) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof header + body.size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = node;
    header.uid = uid;
    header.gid = gid;
    std::vector<uint8_t> request;
    Append(request, header);
    Append(request, body);
    MemoryBuffers buffers(std::move(request), room);
    const auto written = server_.Serve(buffers);
    FuseReply reply;
    reply.error = -1;
    if (!written || *written < sizeof(fuse_out_header)) return reply;
    fuse_out_header out;
    std::memcpy(&out, buffers.answer().data(), sizeof out);
    reply.error = -out.error;
    if (out.unique != unique_ || out.len != *written || *written > buffers.answer().size()) {
      reply.error = -2;  // no good answer
      return reply;
    }
    reply.body.assign(buffers.answer().begin() + sizeof out,
                      buffers.answer().begin() + static_cast<ptrdiff_t>(*written));
    return reply;
  }

  // --- What tests do all the time; errors are negative, or 0 for a number. ---
  FuseReply Begin(uint32_t minor = 38, uint32_t flags = UINT32_MAX & ~FUSE_INIT_EXT) {
    fuse_init_in in{};
    in.major = 7;
    in.minor = minor;
    in.max_readahead = 1 << 17;
    in.flags = flags;
    return Call(FUSE_INIT, 0, in);
  }
  FuseReply Lookup(uint64_t node, std::string_view name) { return Call(FUSE_LOOKUP, node, name); }
  uint64_t Node(uint64_t node, std::string_view name) {
    return Lookup(node, name).As<fuse_entry_out>().nodeid;
  }
  FuseReply GetAttr(uint64_t node) { return Call(FUSE_GETATTR, node, fuse_getattr_in{}); }
  fuse_attr Attr(uint64_t node) { return GetAttr(node).As<fuse_attr_out>().attr; }
  FuseReply Open(uint64_t node, uint32_t flags) {
    fuse_open_in in{};
    in.flags = flags;
    return Call(FUSE_OPEN, node, in);
  }
  FuseReply Create(uint64_t node, std::string_view name, uint32_t flags, uint32_t mode = 0644) {
    fuse_create_in in{};
    in.flags = flags;
    in.mode = S_IFREG | mode;
    return Call(FUSE_CREATE, node, in, name);
  }
  static uint64_t CreatedHandle(const FuseReply& reply) {
    return reply.As<fuse_open_out>(sizeof(fuse_entry_out)).fh;
  }
  FuseReply Read(uint64_t handle, uint64_t offset, uint32_t size) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = size;
    return Call(FUSE_READ, 0, in);
  }
  FuseReply Write(uint64_t handle, uint64_t offset, std::string_view text, uint32_t flags = 0) {
    fuse_write_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = static_cast<uint32_t>(text.size());
    in.flags = flags;
    return Call(FUSE_WRITE, 0, in, std::vector<uint8_t>(text.begin(), text.end()));
  }
  FuseReply MkDir(uint64_t node, std::string_view name, uint32_t mode = 0755) {
    fuse_mkdir_in in{};
    in.mode = mode;
    return Call(FUSE_MKDIR, node, in, name);
  }
  FuseReply SetAttr(uint64_t node, const fuse_setattr_in& in) {
    return Call(FUSE_SETATTR, node, in);
  }
  FuseReply ChangeMode(uint64_t node, uint32_t mode) {
    fuse_setattr_in in{};
    in.valid = FATTR_MODE;
    in.mode = mode;
    return SetAttr(node, in);
  }
  FuseReply Truncate(uint64_t node, uint64_t size, uint32_t more = 0) {
    fuse_setattr_in in{};
    in.valid = FATTR_SIZE | more;
    in.size = size;
    return SetAttr(node, in);
  }
  FuseReply Rename(uint64_t from, std::string_view name, uint64_t to, std::string_view new_name,
                   uint32_t flags = 0) {
    fuse_rename2_in in{};
    in.newdir = to;
    in.flags = flags;
    return Call(FUSE_RENAME2, from, in, name, new_name);
  }
  void Forget(uint64_t node, uint64_t count) {
    fuse_forget_in in{};
    in.nlookup = count;
    Call(FUSE_FORGET, node, in);
  }
  uint64_t OpenDir(uint64_t node) {
    return Call(FUSE_OPENDIR, node, fuse_open_in{}).As<fuse_open_out>().fh;
  }
  FuseReply ReadDir(uint64_t handle, uint64_t offset, uint32_t size, bool plus = false) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = size;
    return Call(plus ? FUSE_READDIRPLUS : FUSE_READDIR, 0, in);
  }

 private:
  ShareServer& server_;
  uint64_t unique_ = 0;
};

}  // namespace vmm
