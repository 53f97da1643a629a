#include "vmm/machine/vcpu_set.h"

#include "vmm/core/base/check.h"

namespace vmm {

VcpuSet::~VcpuSet() {
  Stop();
}

void VcpuSet::Add(std::unique_ptr<Vcpu> vcpu, VcpuThread::ExitHandler on_exit) {
  vcpus_.push_back(std::move(vcpu));
  threads_.push_back(std::make_unique<VcpuThread>(size(), *vcpus_.back(), std::move(on_exit)));
}

Result<void> VcpuSet::Start() {
  std::lock_guard lock(mutex_);
  ++holds_;
  for (auto& thread : threads_) {
    if (auto started = thread->Start(); !started) return started;
  }
  return {};
}

void VcpuSet::Hold() {
  std::lock_guard lock(mutex_);
  if (holds_++ > 0) return;
  for (auto& thread : threads_) thread->RequestPause();
}

void VcpuSet::Release() {
  std::lock_guard lock(mutex_);
  CHECK(holds_ > 0);
  if (--holds_ > 0 || stopped_) return;
  for (auto& thread : threads_) {
    if (frozen_.empty() || !frozen_[thread->id()]) thread->Resume();
  }
}

void VcpuSet::Freeze(std::vector<bool> frozen) {
  std::lock_guard lock(mutex_);
  CHECK(holds_ > 0 && frozen.size() == threads_.size());
  frozen_ = std::move(frozen);
}

void VcpuSet::WaitParked() {
  for (auto& thread : threads_) thread->WaitPaused();
}

void VcpuSet::Pause() {
  Hold();
  WaitParked();
}

void VcpuSet::Call(unsigned id, const std::function<void(Vcpu&)>& work) {
  threads_.at(id)->Call(work);
}

void VcpuSet::Exchange(std::vector<std::unique_ptr<Vcpu>>& others) {
  std::lock_guard lock(mutex_);  // so that nobody holds or releases meanwhile
  CHECK(holds_ > 0 && others.size() == vcpus_.size());
  vcpus_.swap(others);
  for (size_t id = 0; id < vcpus_.size(); ++id) threads_[id]->Exchange(*vcpus_[id]);
}

void VcpuSet::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    for (auto& thread : threads_) thread->RequestPause();
  }
  for (auto& thread : threads_) thread->Stop();
}

void VcpuSet::Clear() {
  Stop();
  threads_.clear();
  vcpus_.clear();
}

bool VcpuSet::held() const {
  std::lock_guard lock(mutex_);
  return holds_ > 0;
}

std::chrono::nanoseconds VcpuSet::CpuTime() const {
  std::chrono::nanoseconds total{};
  for (const auto& thread : threads_) total += thread->CpuTime();
  return total;
}

}  // namespace vmm
