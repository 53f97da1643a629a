#include "vmm/machine/deterministic_run.h"

namespace vmm {

Result<std::unique_ptr<DeterministicRun>> DeterministicRun::Create(
    const Config& config, const GuestMemory& memory, std::function<void()> press_power_button) {
  std::unique_ptr<DeterministicRun> run(
      new DeterministicRun(config.cpus, std::move(press_power_button)));
  const TraceOptions& trace = config.trace;
  if (!trace.replay.empty()) {
    auto inputs = ReadInputLog(trace.replay);
    if (!inputs) return tl::unexpected(std::move(inputs.error()));
    run->time_.Replay(std::move(*inputs));
  }
  if (!trace.record.empty()) {
    auto record = InputLogWriter::Create(trace.record);
    if (!record) return tl::unexpected(std::move(record.error()));
    run->record_ = std::move(*record);
  }
  if (!trace.state_hash.empty()) {
    auto hash = StateHashWriter::Create(trace.state_hash, trace.state_hash_every, memory);
    if (!hash) return tl::unexpected(std::move(hash.error()));
    run->hash_ = std::move(*hash);
    run->time_.OnStep(trace.state_hash_every, [run = run.get()](uint64_t position) {
      run->hash_->Write(position, run->vcpus_);
    });
  }
  run->time_.OnInput([run = run.get()](const MachineInput& input) { run->OnInput(input); });
  return run;
}

DeterministicRun::Lines DeterministicRun::Gate(const Lines& consoles) {
  Lines gated{};
  for (unsigned line = 0; line < consoles.size(); ++line) {
    gates_[line] = std::make_unique<InputGate>(
        *consoles[line], time_, time_,
        [this, line](std::string bytes) { time_.Post(line, std::move(bytes)); });
    gated[line] = gates_[line].get();
  }
  return gated;
}

Consoles::Ahead DeterministicRun::OnTheWay() const {
  Consoles::Ahead bytes;
  for (unsigned line = 0; line < bytes.size(); ++line) {
    if (gates_[line]) bytes[line] = gates_[line]->waiting() + time_.Posted(line);
  }
  return bytes;
}

void DeterministicRun::OnInput(const MachineInput& input) {
  if (record_) record_->Write(input);
  if (input.source == kPowerButtonInput) {
    press_power_button_();
  } else {
    gates_[input.source]->Deliver(input.bytes);
  }
}

Result<void> DeterministicRun::Finish() {
  return (record_ ? record_->Finish() : Result<void>{}).and_then([this] {
    return hash_ ? hash_->Finish() : Result<void>{};
  });
}

}  // namespace vmm
