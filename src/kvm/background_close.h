// Closing a VM costs the host 10-30 ms: nobody needs to wait for it.
#pragma once

#include <memory>

namespace kvm {

// Destroys `object` on a thread of its own. The process waits for these threads when it exits.
void DestroyInBackground(std::shared_ptr<void> object);
// Waits until all that was handed over is gone.
void WaitForBackground();

}  // namespace kvm
