// What a call's way to the real NCCL depends on: only what is alike on all ranks, and nothing of
// ours that may fail.
#include "core/forward.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <new>
#include <thread>

#include "core/hooks.h"

namespace {
thread_local bool no_memory = false;
}

void* operator new(size_t bytes) {
  void* memory = no_memory ? nullptr : std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace slimccl::overlay {
namespace {

int calls = 0;

const slimccl_nccl real = [] {
  slimccl_nccl nccl{};
  nccl.path = "/fake/libnccl.so.2";
  nccl.AllReduce = [](const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t,
                      cudaStream_t) { return ++calls, ncclSuccess; };
  nccl.CommUserRank = [](ncclComm_t, int* rank) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // so that first sights meet
    return *rank = 0, ncclSuccess;
  };
  return nccl;
}();

ncclResult_t all_reduce(ncclComm_t comm) {
  return forward(&real, "AllReduce", &slimccl_nccl::AllReduce, comm,
                 {Operation::kAllReduce, 1, ncclFloat}, {}, nullptr, nullptr, size_t{1}, ncclFloat,
                 ncclSum, comm, nullptr);
}

ncclComm_t handle(uintptr_t number) { return reinterpret_cast<ncclComm_t>(number << 12); }

TEST(OverlayForward, TwoThreadsThatSeeOneFirstShareItsEntry) {
  State& state = State::instance();
  const uint64_t before = state.communicators;
  std::array<Entry*, 2> found{};
  std::thread other([&] { found[0] = &state.entry_of(&real, handle(1)); });
  found[1] = &state.entry_of(&real, handle(1));
  other.join();
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(state.communicators, before + 1);
}

TEST(OverlayHooks, APauseAndAStepAreTheStates) {
  State& state = State::instance();
  EXPECT_EQ(hooks::Pause(), ncclSuccess);
  EXPECT_EQ(state.paused, 1);
  EXPECT_EQ(hooks::Resume(), ncclSuccess);
  EXPECT_EQ(hooks::Resume(), ncclInvalidUsage);
  EXPECT_EQ(state.paused, 0);
  const uint64_t steps = state.steps;
  EXPECT_EQ(hooks::Step(), ncclSuccess);
  EXPECT_EQ(state.steps, steps + 1);
}

TEST(OverlayForward, AForkedChildOnlyForwards) {
  State& state = State::instance();
  Entry& checked = state.table.insert(handle(2), nullptr);
  checked.checks = true;
  EXPECT_EQ(all_reduce(handle(2)), ncclInvalidUsage) << "its ranks are not in contact";
  calls = 0;
  state.forked = true;
  EXPECT_EQ(all_reduce(handle(2)), ncclSuccess);
  EXPECT_EQ(all_reduce(handle(3)), ncclSuccess);
  EXPECT_EQ(check_group({{&checked, {Operation::kAllReduce, 1, ncclFloat}}}), ncclSuccess)
      << "begun before the fork";
  state.forked = false;
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(state.table.find(handle(3)), nullptr);
  EXPECT_EQ(checked.counts.all_calls(), 0u);
}

TEST(OverlayForward, WithoutMemoryItStillForwards) {
  calls = 0;
  slimccl_nccl nameless{};
  nameless.path = "";
  (void)all_reduce(handle(4));  // what is made once is there
  no_memory = true;
  const ncclResult_t unseen = all_reduce(handle(5));
  const ncclResult_t missing_text = missing(nameless, "AFunctionOfALongName");
  no_memory = false;
  EXPECT_EQ(unseen, ncclSuccess);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(missing_text, ncclInvalidUsage);
}

}  // namespace
}  // namespace slimccl::overlay
