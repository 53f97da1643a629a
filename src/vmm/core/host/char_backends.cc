#include "vmm/core/host/char_backends.h"

#include <utility>

#include "vmm/core/base/check.h"
#include "vmm/core/host/char_file.h"
#include "vmm/core/host/char_pty.h"
#include "vmm/core/host/char_socket.h"
#include "vmm/core/host/char_stdio.h"
#include "vmm/core/host/char_unix.h"

namespace vmm {
namespace {

class CharNull final : public CharBackend {
 public:
  void Write(std::span<const uint8_t>) override {}
  void ResumeInput() override {}
  void SetReceiver(CharReceiver*) override {}
};

template <class T>
Result<std::unique_ptr<CharBackend>> Upcast(Result<std::unique_ptr<T>> opened) {
  if (!opened) return tl::unexpected(std::move(opened.error()));
  return std::unique_ptr<CharBackend>(std::move(*opened));
}

}  // namespace

Result<std::unique_ptr<CharBackend>> OpenCharBackend(const CharBackendSpec& spec, EventLoop& loop) {
  switch (spec.kind) {
    case CharBackendSpec::Kind::kNull:
      return std::make_unique<CharNull>();
    case CharBackendSpec::Kind::kStdio:
      return Upcast(CharStdio::Open(loop, spec.name));
    case CharBackendSpec::Kind::kPty:
      return Upcast(CharPty::Open(loop, spec.name));
    case CharBackendSpec::Kind::kUnix:
      return Upcast(CharUnix::Open(loop, spec.path, spec.name));
    case CharBackendSpec::Kind::kFile:
      return Upcast(CharFile::Open(loop, {spec.path, spec.truncate, spec.limit, spec.name}));
    case CharBackendSpec::Kind::kSocket:
      return Upcast(CharSocket::Open(loop, spec.fd));
  }
  CHECK(false);
  return std::make_unique<CharNull>();
}

}  // namespace vmm
