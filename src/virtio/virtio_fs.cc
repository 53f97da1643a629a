#include "virtio/virtio_fs.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"

namespace virtio {

// A chain as the server sees it. 5.11.6.1
class VirtioFs::Buffers final : public vmm::FuseBuffers {
 public:
  Buffers(const DescriptorChain& chain, vmm::HostWriteListener& writes)
      : chain_(chain), writes_(writes) {}

  uint64_t request_size() const override { return chain_.readable.length(); }
  void Read(uint64_t offset, std::span<uint8_t> out) const override {
    chain_.readable.Read(offset, out);
  }
  void GatherRequest(uint64_t offset, uint64_t length, std::vector<iovec>& out) const override {
    chain_.readable.AppendTo(out, offset, length);
  }
  uint64_t answer_size() const override { return chain_.writable.length(); }
  void Write(uint64_t offset, std::span<const uint8_t> bytes) override {
    chain_.writable.Write(offset, bytes, writes_);
  }
  void GatherAnswer(uint64_t offset, uint64_t length, std::vector<iovec>& out) const override {
    chain_.writable.AppendTo(out, offset, length);
  }
  void TellWritten(uint64_t offset, uint64_t length) override {
    chain_.writable.TellWritten(offset, length, writes_);
  }

 private:
  const DescriptorChain& chain_;
  vmm::HostWriteListener& writes_;
};

namespace {

std::vector<uint16_t> QueueSizes(unsigned request_queues) {
  std::vector<uint16_t> sizes(fs::kFirstRequest + request_queues, VirtioFs::kQueueSize);
  sizes[fs::kHighPriority] = VirtioFs::kHighPrioritySize;
  return sizes;
}

}  // namespace

VirtioFs::VirtioFs(std::string name, vmm::ShareServer& server, const Options& options,
                   const Host& host, std::function<void()> ring)
    : VirtioDevice(std::move(name), 0, QueueSizes(options.request_queues), host),
      server_(server),
      ring_(std::move(ring)) {
  CHECK(!options.tag.empty() && options.tag.size() <= fs::kTagSize && options.request_queues != 0);
  std::ranges::copy(options.tag, config_.begin());
  vmm::StoreLittleEndian(
      std::span(config_).subspan(static_cast<size_t>(fs::Config::num_request_queues), 4),
      options.request_queues);
}

VirtioFs::~VirtioFs() {
  CHECK(serving_ == 0 && waiting_.empty());
}

void VirtioFs::ReadConfig(uint64_t offset, std::span<uint8_t> data) const {
  for (uint8_t& byte : data) {
    byte = offset < config_.size() ? config_[offset] : 0;
    ++offset;
  }
}

void VirtioFs::OnKick(unsigned queue) {
  kicked_.fetch_or(1u << queue);
  ring_();
}

// Nothing is under way. What the driver before knew is forgotten before anything of the next one is
// taken.
void VirtioFs::OnReset() {
  was_reset_ = true;
  ring_();
}

void VirtioFs::TakeAll() {
  if (was_reset_.exchange(false)) server_.EndSession();
  if (is_paused_) return;
  const uint32_t kicked = kicked_.exchange(0);
  for (unsigned queue = 0; queue < queue_count(); ++queue) {
    while ((kicked >> queue & 1) != 0) {
      if (free_.empty()) free_.push_back(std::make_unique<Request>());
      Request& request = *free_.back();
      if (!Take(queue, request.chain)) break;
      request.queue = queue;
      waiting_.push_back(std::move(free_.back()));
      free_.pop_back();
    }
  }
}

std::unique_ptr<VirtioFs::Request> VirtioFs::Next() {
  std::unique_ptr<Request> request;
  bool is_more = false;
  {
    const std::lock_guard lock(work_mutex_);
    TakeAll();
    if (waiting_.empty()) return nullptr;
    request = std::move(waiting_.front());
    waiting_.pop_front();
    ++serving_;
    is_more = !waiting_.empty();
  }
  if (is_more) ring_();
  return request;
}

void VirtioFs::Serve(Request& request) {
  Buffers buffers(request.chain, writes());
  const auto written = server_.Serve(buffers);
  if (written) {
    Return(request.queue, request.chain.head, static_cast<uint32_t>(*written));
  } else {
    Reject(request.queue, "a request has no header, or no room for its answer");
  }
}

void VirtioFs::End(std::unique_ptr<Request> request) {
  const std::lock_guard lock(work_mutex_);
  free_.push_back(std::move(request));
  if (--serving_ == 0 && waiting_.empty()) all_ended_.notify_all();
}

void VirtioFs::Work() {
  while (auto request = Next()) {
    Serve(*request);
    End(std::move(request));
  }
}

void VirtioFs::Pause() {
  std::unique_lock lock(work_mutex_);
  is_paused_ = true;
  all_ended_.wait(lock, [&] { return serving_ == 0 && waiting_.empty(); });
  if (was_reset_.exchange(false)) server_.EndSession();
}

void VirtioFs::Resume() {
  {
    const std::lock_guard lock(work_mutex_);
    is_paused_ = false;
  }
  KickAll();
}

VirtioFsState VirtioFs::SaveFs() const {
  VirtioFsState state;
  std::copy_n(config_.begin(), fs::kTagSize, state.tag.begin());
  state.request_queues = queue_count() - fs::kFirstRequest;
  return state;
}

vmm::Result<void> VirtioFs::LoadFs(const VirtioFsState& state) {
  if (!(state == SaveFs())) {
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     fmt::format("{}: the guest was told another tag or number of queues", name()));
  }
  return {};
}

}  // namespace virtio
