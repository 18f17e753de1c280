#include "cuda/twin/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace slimccl::twin {
namespace {

constexpr size_t kPage = 4096, kStackBytes = 256 << 10;

thread_local Fiber* starting = nullptr;  // whose first frame begins

#if defined(__x86_64__)
// Saves the registers that a called function keeps, and continues on another stack.
asm(R"(
.text
.type slimccl_twin_switch, @function
slimccl_twin_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size slimccl_twin_switch, . - slimccl_twin_switch
)");
extern "C" void slimccl_twin_switch(void** save_stack, void* load_stack);
constexpr size_t kSavedRegisters = 6;
#else
void slimccl_twin_switch(void**, void*) { std::abort(); }
constexpr size_t kSavedRegisters = 0;
#endif

void starts_switch([[maybe_unused]] void** save_fake, [[maybe_unused]] const void* bottom,
                   [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(save_fake, bottom, bytes);
#endif
}

void finishes_switch([[maybe_unused]] void* fake, [[maybe_unused]] const void** old_bottom,
                     [[maybe_unused]] size_t* old_bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, old_bottom, old_bytes);
#endif
}

}  // namespace

const char* fibers_unavailable() {
#if defined(__SANITIZE_THREAD__)
  return "the CUDA twin's fibers are not made known to ThreadSanitizer";
#elif !defined(__x86_64__)
  return "the CUDA twin switches stacks in x86-64 assembly";
#else
  return nullptr;
#endif
}

Fiber::Fiber(void (*body)(void*), void* argument) : body_(body), argument_(argument) {
  void* memory = mmap(nullptr, kPage + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) {
    std::perror("cuda twin: no memory for a fiber's stack");
    std::abort();
  }
  memory_ = static_cast<std::byte*>(memory);
  // As slimccl_twin_switch leaves a stack: saved registers below the address to return to. The
  // place above stands for a caller's return address, so that begin() finds its stack aligned.
  auto* top = reinterpret_cast<void**>(memory_ + kPage + kStackBytes);
  top[-2] = reinterpret_cast<void*>(&Fiber::begin);
  inside_ = top - 2 - kSavedRegisters;
}

Fiber::~Fiber() { munmap(memory_, kPage + kStackBytes); }

void Fiber::resume() {
  starting = this;
  starts_switch(&outside_fake_, memory_ + kPage, kStackBytes);
  slimccl_twin_switch(&outside_, inside_);
  finishes_switch(outside_fake_, nullptr, nullptr);
}

void Fiber::begin() {
  Fiber* self = starting;
  finishes_switch(nullptr, &self->outside_bottom_, &self->outside_bytes_);
  self->body_(self->argument_);
  std::fputs("cuda twin: a fiber's body returned\n", stderr);
  std::abort();
}

void Fiber::stop() {
  starts_switch(&inside_fake_, outside_bottom_, outside_bytes_);
  slimccl_twin_switch(&inside_, outside_);
  finishes_switch(inside_fake_, &outside_bottom_, &outside_bytes_);
}

void Fiber::finish() {
  starts_switch(nullptr, outside_bottom_, outside_bytes_);  // ASan lets go of the stack's state
  slimccl_twin_switch(&inside_, outside_);
  std::abort();
}

}  // namespace slimccl::twin
