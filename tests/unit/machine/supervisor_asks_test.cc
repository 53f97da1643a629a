#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "supervisor_rig.h"

namespace vmm::test {

TEST_CASE("Who asks hears when it is done, or why it can't be", "[threads]") {
  std::vector<std::string> heard;
  SupervisorRig* rig = nullptr;
  SupervisorRig machine({Idle});
  rig = &machine;
  const auto note = [&](std::string what) -> Supervisor::Done {
    return [&heard, &rig, what](Result<void> done) {
      CHECK(rig->loop->OnIoThread());
      heard.push_back(what + (rig->supervisor->is_paused() ? " paused " : " running ") +
                      (done ? "done" : done.error().message));
    };
  };
  machine.loop->Post([&] {
    Supervisor& supervisor = *rig->supervisor;
    CHECK(supervisor.WhileParked([&] { return rig->vcpus.held(); }));
    supervisor.Pause(note("pause"));
    supervisor.Reset(note("reset"));
    supervisor.Move("somebody", note("move"));
    supervisor.Suspend("somebody", note("suspend"));
    supervisor.Resume(note("resume"));
    rig->loop->Post([&] {
      rig->supervisor->StopNow("somebody");
      rig->supervisor->Pause(note("late"));
      rig->supervisor->Reset(note("late"));
    });
  });
  CHECK(machine.RunForCode() == 87);
  machine.loop->RunPending();
  // To suspend takes one more turn, so that what the guest has done comes before.
  CHECK(heard == std::vector<std::string>{
                     "pause paused done", "reset paused done", "move paused there is no other",
                     "resume running done",
                     "suspend running the guest is not suspended and goes on: no file to suspend "
                     "to is named; use --suspend-to FILE",
                     "late running the run is over", "late running the run is over"});
  CHECK(machine.resets == 1);
}

}  // namespace vmm::test
