// What the helper gives up before it meets the first byte of the guest.
#pragma once

namespace nat {

// It can start no program, gain no rights, touch no other process, and leaves no core file. What
// the host can't do is left out. Its own session: what is typed at vmm's terminal does not reach
// it.
void Confine();

}  // namespace nat
