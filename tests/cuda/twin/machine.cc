#include "cuda/twin/machine.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>
#include <vector>

#include "cuda/twin/device.h"
#include "cuda/twin/fiber.h"

thread_local TwinIndex threadIdx, blockIdx;

namespace slimccl::twin {
namespace {

enum class State { kReady, kAtBarrier, kAtShuffle, kDone };

// A place in the kernel's source where threads meet.
struct Site {
  const char* file = "";
  int line = 0;
  bool operator==(const Site& other) const {
    return line == other.line && std::strcmp(file, other.file) == 0;
  }
};

class Machine;

struct Thread {
  Thread(Machine* of, uint32_t number) : machine(of), index(number) {}
  Machine* machine;
  uint32_t index;
  State state = State::kDone;
  Site site;          // where it waits
  uint32_t mask = 0;  // of the shuffle that it waits in
  uint32_t step = 0;
  uint32_t value = 0;  // what it gives, then what it gets
  bool quit = false;
  std::unique_ptr<Fiber> fiber;
};

class Machine {
 public:
  ~Machine();
  void run(const char* kernel, uint32_t blocks, uint32_t threads, WarpOrder order,
           const std::function<void()>& body);
  void wait(State state);  // of the running thread
  Thread& running() { return *threads_[threadIdx.x]; }
  bool is_running() const { return kernel_ != nullptr; }
  const char* kernel() const { return kernel_; }

 private:
  static void life_of(void* thread);
  void need_threads(uint32_t threads);
  void resume(Thread& thread);
  void run_block();
  bool run_warp(uint32_t first);
  bool release_shuffles(uint32_t first);
  bool release_barrier();
  [[noreturn]] void report_deadlock();
  Thread& at(uint32_t index) { return *threads_[index]; }

  std::vector<std::unique_ptr<Thread>> threads_;  // kept for the next grid, as are their stacks
  const char* kernel_ = nullptr;                  // null: nothing runs
  const std::function<void()>* body_ = nullptr;
  uint32_t count_ = 0;  // threads of a block
  WarpOrder order_ = WarpOrder::kForward;
};

thread_local Machine machine;

// A fiber lives as long as its machine: it runs the body once for each block.
void Machine::life_of(void* argument) {
  auto* self = static_cast<Thread*>(argument);
  while (!self->quit) {
    (*self->machine->body_)();
    self->state = State::kDone;
    self->fiber->stop();
  }
  self->fiber->finish();
}

Machine::~Machine() {
  for (const auto& thread : threads_) {
    thread->quit = true;
    thread->fiber->resume();
  }
}

void Machine::need_threads(uint32_t threads) {
  const std::function<void()> nothing = [] {};
  body_ = &nothing;
  while (threads_.size() < threads) {
    const auto index = static_cast<uint32_t>(threads_.size());
    threads_.push_back(std::make_unique<Thread>(this, index));
    threads_.back()->fiber = std::make_unique<Fiber>(&Machine::life_of, threads_.back().get());
    resume(*threads_.back());  // once through, so that each one waits in the same place
  }
}

void Machine::resume(Thread& thread) {
  threadIdx.x = thread.index;
  thread.fiber->resume();
}

void Machine::wait(State state) {
  running().state = state;
  running().fiber->stop();
}

bool Machine::run_warp(uint32_t first) {
  bool ran = false;
  for (uint32_t i = first; i < first + kWarp; ++i) {
    if (at(i).state != State::kReady) continue;
    resume(at(i));
    ran = true;
  }
  return ran;
}

// Lets go the lanes of each shuffle at which every lane of its mask has arrived.
bool Machine::release_shuffles(uint32_t first) {
  bool released = false;
  for (uint32_t i = first; i < first + kWarp; ++i) {
    if (at(i).state != State::kAtShuffle) continue;
    bool complete = true;
    for (uint32_t lane = 0; lane < kWarp; ++lane) {
      const Thread& other = at(first + lane);
      complete &=
          (at(i).mask >> lane & 1) == 0 || (other.state == State::kAtShuffle &&
                                            other.mask == at(i).mask && other.site == at(i).site);
    }
    if (!complete) continue;
    uint32_t given[kWarp];
    for (uint32_t lane = 0; lane < kWarp; ++lane) given[lane] = at(first + lane).value;
    const uint32_t mask = at(i).mask;
    for (uint32_t lane = 0; lane < kWarp; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      Thread& thread = at(first + lane);
      thread.value = given[lane ^ thread.step];
      thread.state = State::kReady;
    }
    released = true;
  }
  return released;
}

bool Machine::release_barrier() {
  for (uint32_t i = 0; i < count_; ++i) {
    if (at(i).state != State::kAtBarrier || !(at(i).site == at(0).site)) return false;
  }
  for (uint32_t i = 0; i < count_; ++i) at(i).state = State::kReady;
  return true;
}

void Machine::report_deadlock() {
  std::ostringstream text;
  text << "deadlock, no thread of the block can go on:";
  const State states[] = {State::kAtBarrier, State::kAtShuffle, State::kDone};
  const char* names[] = {"at the barrier", "at the shuffle", "have ended"};
  for (int s = 0; s < 3; ++s) {
    uint32_t first = count_, count = 0;
    for (uint32_t i = 0; i < count_; ++i) {
      if (at(i).state != states[s]) continue;
      if (count++ == 0) first = i;
    }
    if (count == 0) continue;
    text << ' ' << count << ' ' << names[s];
    if (states[s] != State::kDone) text << ' ' << at(first).site.file << ':' << at(first).site.line;
    text << " (the first is thread " << first << ");";
  }
  fail(text.str());
}

void Machine::run_block() {
  for (uint32_t i = 0; i < count_; ++i) at(i).state = State::kReady;
  for (;;) {
    bool ran = false;
    for (uint32_t w = 0; w < count_; w += kWarp) {
      const uint32_t first = order_ == WarpOrder::kForward ? w : count_ - kWarp - w;
      // A warp goes as far as it can before the next one begins: a missing barrier shows.
      while (run_warp(first) || release_shuffles(first)) ran = true;
    }
    uint32_t done = 0;
    for (uint32_t i = 0; i < count_; ++i) done += at(i).state == State::kDone;
    if (done == count_) return;
    if (!release_barrier() && !ran) report_deadlock();
  }
}

void Machine::run(const char* kernel, uint32_t blocks, uint32_t threads, WarpOrder order,
                  const std::function<void()>& body) {
  need_threads(threads);
  kernel_ = kernel, count_ = threads, order_ = order, body_ = &body;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) run_block();
  kernel_ = nullptr, body_ = nullptr;
}

}  // namespace

const char* unavailable() { return fibers_unavailable(); }

void fail(const std::string& what) {
  if (machine.is_running()) {
    std::fprintf(stderr, "cuda twin: %s, block %u, thread %u: %s\n", machine.kernel(), blockIdx.x,
                 threadIdx.x, what.c_str());
  } else {
    std::fprintf(stderr, "cuda twin: %s\n", what.c_str());
  }
  std::abort();
}

void run_grid(const char* kernel, uint32_t blocks, uint32_t threads, WarpOrder order,
              const std::function<void()>& body) {
  if (unavailable() != nullptr) fail(unavailable());
  if (machine.is_running()) fail("a kernel cannot launch another one here");
  if (threads == 0 || threads > kMaxThreads || threads % kWarp != 0) {
    fail("blocks of " + std::to_string(threads) + " threads: give whole warps, " +
         std::to_string(kMaxThreads) + " threads at most");
  }
  machine.run(kernel, blocks, threads, order, body);
}

void barrier(const char* file, int line) {
  machine.running().site = {file, line};
  machine.wait(State::kAtBarrier);
}

uint32_t exchange(uint32_t mask, uint32_t value, uint32_t step, const char* file, int line) {
  Thread& self = machine.running();
  const uint32_t lane = self.index % kWarp;
  if ((mask >> lane & 1) == 0) fail("a lane that is not in its own shuffle's mask");
  if (step >= kWarp || (mask >> (lane ^ step) & 1) == 0) {
    fail("a shuffle reads lane " + std::to_string(lane ^ step) + ", which is not in its mask");
  }
  self.site = {file, line}, self.mask = mask, self.step = step, self.value = value;
  machine.wait(State::kAtShuffle);
  return self.value;
}

}  // namespace slimccl::twin
