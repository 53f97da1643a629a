// How a cell's code learns that its vCPU is wanted, and loops pay neither a comparison nor a
// register for it: they write to a page, whatever it may be, which is taken away from the cell.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace bt {

// A memfd of two pages: a word that is 1 when somebody rang, for code that has flags to spare, and
// a page that is gone then, so that writing to it faults. Of one vCPU, as long as that lives.
class Bell {
 public:
  // Null: the host does not let us.
  static std::unique_ptr<Bell> Create();
  ~Bell();
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  int fd() const { return fd_; }
  // Any thread, and handlers of signals. Costs calls of the kernel only if somebody listens.
  void Ring();
  // The vCPU's thread, as long as its cell may run. From its beginning on a ring is not missed.
  class Listener {
   public:
    explicit Listener(Bell& bell) : bell_(bell) { bell_.Listen(); }
    ~Listener() { bell_.listening_.store(false); }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

   private:
    Bell& bell_;
  };
  // Somebody has met no page: it is to be there when somebody listens again.
  void FoundGone() { gone_.store(true); }

 private:
  Bell(int fd, std::atomic<uint32_t>* word) : fd_(fd), word_(word) {}
  void Listen();

  const int fd_;
  std::atomic<uint32_t>* const word_;
  std::atomic<bool> listening_{false};
  // A ring that was overtaken by the next Listen() takes the page away once more: FoundGone().
  std::atomic<bool> gone_{false};
};

}  // namespace bt
