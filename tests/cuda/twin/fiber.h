// A stack of its own on which a function can stop and go on later: x86-64 only. Sanitizers are told
// of every switch. A fiber belongs to the thread that made it.
#pragma once

#include <cstddef>

namespace slimccl::twin {

// What keeps this build from switching stacks, or null.
const char* fibers_unavailable();

class Fiber {
 public:
  // `body` is called with `argument` at the first resume() and must never return; its last act is
  // finish().
  Fiber(void (*body)(void*), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();  // from outside: runs the fiber until it stops or finishes
  void stop();    // from inside: goes back to resume()'s caller
  void finish();  // from inside, for the last time

 private:
  static void begin();  // the first frame of a new stack

  void (*body_)(void*);
  void* argument_;
  std::byte* memory_;        // a guard page, then the stack
  void* inside_ = nullptr;   // the fiber's stack pointer while it is stopped
  void* outside_ = nullptr;  // its caller's while it runs
  // ASan's state of both stacks.
  void* inside_fake_ = nullptr;
  void* outside_fake_ = nullptr;
  const void* outside_bottom_ = nullptr;
  size_t outside_bytes_ = 0;
};

}  // namespace slimccl::twin
