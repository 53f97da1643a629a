// The two halves of a FUSE message: arguments that are taken apart, an answer that is put together.
// [FUSE]
#pragma once

#include <linux/fuse.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "vmm/core/share/fuse_buffers.h"

namespace vmm {

// What follows the header of a request, from front to back.
class FuseArguments {
 public:
  explicit FuseArguments(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  // False: there are fewer bytes.
  template <class T>
  bool Take(T& out) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (bytes_.size() < sizeof out) return false;
    std::memcpy(&out, bytes_.data(), sizeof out);
    bytes_ = bytes_.subspan(sizeof out);
    return true;
  }
  // Bytes up to a zero, of which there must be one.
  bool TakeText(std::string_view& out);
  // The same, and it can be an entry of a directory: no path, neither "." nor "..".
  bool TakeName(std::string_view& out);
  std::span<const uint8_t> rest() const { return bytes_; }

 private:
  std::span<const uint8_t> bytes_;
};

class FuseRequest {
 public:
  FuseRequest(const fuse_in_header& header, std::span<const uint8_t> arguments,
              FuseBuffers& buffers)
      : header(header), arguments(arguments), buffers(buffers) {}

  const fuse_in_header header;
  FuseArguments arguments;
  FuseBuffers& buffers;
};

// The body of an answer. Small ones are collected; data goes to the client's memory at once.
class FuseAnswer {
 public:
  explicit FuseAnswer(FuseBuffers& buffers) : buffers_(buffers) {}

  // Bytes that the client has room for behind the header.
  uint64_t room() const { return buffers_.answer_size() - sizeof(fuse_out_header); }

  template <class T>
  void Put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    PutBytes({reinterpret_cast<const uint8_t*>(&value), sizeof value});
  }
  void PutBytes(std::span<const uint8_t> bytes) {
    body_.insert(body_.end(), bytes.begin(), bytes.end());
  }
  size_t size() const { return body_.size(); }

  // Instead: the body is `length` bytes, at most room(), that are written by others into `out`,
  // and HasData() says how many they were.
  void GatherData(uint64_t length, std::vector<iovec>& out) const {
    buffers_.GatherAnswer(sizeof(fuse_out_header), length, out);
  }
  void HasData(uint64_t length) {
    data_ = length;
    buffers_.TellWritten(sizeof(fuse_out_header), length);
  }

  // Header and body into the client's memory; how many bytes they are. `error`: errno, then there
  // is no body.
  uint64_t Send(uint64_t unique, int error);

 private:
  FuseBuffers& buffers_;
  std::vector<uint8_t> body_;
  uint64_t data_ = 0;
};

}  // namespace vmm
