#include "vmm/core/share/fuse_message.h"

#include <algorithm>
#include <cerrno>

namespace vmm {

bool FuseArguments::TakeText(std::string_view& out) {
  const auto end = std::ranges::find(bytes_, uint8_t{0});
  if (end == bytes_.end()) return false;
  const auto length = static_cast<size_t>(end - bytes_.begin());
  out = {reinterpret_cast<const char*>(bytes_.data()), length};
  bytes_ = bytes_.subspan(length + 1);
  return true;
}

bool FuseArguments::TakeName(std::string_view& out) {
  return TakeText(out) && !out.empty() && out != "." && out != ".." &&
         out.find('/') == std::string_view::npos;
}

uint64_t FuseAnswer::Send(uint64_t unique, int error) {
  if (error == 0 && body_.size() > room()) error = EINVAL;  // the client asked for no such answer
  const uint64_t body = error != 0 ? 0 : data_ + body_.size();
  fuse_out_header header{};
  header.len = static_cast<uint32_t>(sizeof header + body);
  header.error = -error;
  header.unique = unique;
  if (error == 0 && !body_.empty()) buffers_.Write(sizeof header, body_);
  buffers_.Write(0, {reinterpret_cast<const uint8_t*>(&header), sizeof header});
  return header.len;
}

}  // namespace vmm
