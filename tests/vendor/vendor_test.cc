// The vendor's stand-in: it is a libnccl.so.2, it hears its own settings only, and it is as strict
// as it is told to be. Run once for each of its strictnesses.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <memory>
#include <thread>

#include "cuda/gpu_ranks.h"

namespace slimccl::device::testing {
namespace {

void* vendor() {
  static void* const library = [] {
    setenv("SLIMCCL_PROFILE", "no such profile", 1);  // not for the stand-in
    void* opened = dlopen(VENDOR_NCCL, RTLD_NOW | RTLD_LOCAL);
    EXPECT_NE(opened, nullptr) << dlerror();
    return opened;
  }();
  return library;
}
#define VENDOR(name) (reinterpret_cast<decltype(&::name)>(dlsym(vendor(), #name)))

bool sends_wait() { return std::getenv("VENDOR_SLIMCCL_TEST_SENDS_WAIT") != nullptr; }
bool one_slot() { return std::getenv("VENDOR_SLIMCCL_TEST_ONE_SLOT") != nullptr; }
bool in_call_order() { return one_slot() && std::getenv("NCCL_LAUNCH_ORDER_IMPLICIT") != nullptr; }
bool by_arrival() { return one_slot() && !in_call_order(); }

// Long enough for what is not held back, on a busy machine too; what is held back stays so.
bool done_soon(CUstream stream) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  while (std::chrono::steady_clock::now() < limit) {
    if (driver().cuStreamQuery.result(stream) == CUDA_SUCCESS) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

// One device of this thread: where it is current, a stream and some memory.
class Place {
  OnDevice on_;  // before what is made on it
  DeviceMemory memory_{64};

 public:
  explicit Place(int device) : on_(device) {}
  [[nodiscard]] void* word() const { return memory_.pointer(); }
  Stream stream, other_stream;
};

// The communicators of devices 0 and 1, both of this thread; aborted at the end.
class Pair {
 public:
  Pair() {
    const OnDevice any(0);
    EXPECT_EQ(VENDOR(ncclCommInitAll)(comms_, 2, nullptr), ncclSuccess)
        << VENDOR(ncclGetLastError)(nullptr);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  ~Pair() {
    for (ncclComm_t comm : comms_) EXPECT_EQ(VENDOR(ncclCommAbort)(comm), ncclSuccess);
  }
  void reduce(int rank, void* word, CUstream stream) {
    EXPECT_EQ(
        VENDOR(ncclAllReduce)(word, word, 1, ncclInt32, ncclSum, comms_[rank], handle(stream)),
        ncclSuccess)
        << VENDOR(ncclGetLastError)(nullptr);
  }

 private:
  ncclComm_t comms_[2] = {};
};

// Between the processes of the next test.
class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe(ends_), 0); }
  void write(const void* data, size_t bytes) const {
    EXPECT_EQ(::write(ends_[1], data, bytes), static_cast<ssize_t>(bytes));
  }
  void read(void* data, size_t bytes) const {
    EXPECT_EQ(::read(ends_[0], data, bytes), static_cast<ssize_t>(bytes));
  }

 private:
  int ends_[2] = {};
};

// Rank 1: receives once it is told to.
[[noreturn]] void receive(const Pipe& from_sender) {
  alarm(60);
  ncclUniqueId id;
  from_sender.read(&id, sizeof id);
  ncclComm_t comm;
  int32_t word = 0;
  if (VENDOR(ncclCommInitRank)(&comm, 2, id, 1) != ncclSuccess) _exit(1);
  from_sender.read(&word, 1);
  const bool good = VENDOR(ncclRecv)(&word, 1, ncclInt32, 0, comm, nullptr) == ncclSuccess;
  VENDOR(ncclCommDestroy)(comm);
  _exit(good && word == 7 ? 0 : 1);
}

// The strict stand-in holds a send back until the receive is there; else a short one goes out at
// once. Between processes, and the first test, so that the fork finds no thread.
TEST(Vendor, ASendWaitsForItsReceive) {
  const Pipe to_receiver;
  const pid_t child = fork();
  if (child == 0) receive(to_receiver);
  ncclUniqueId id;
  EXPECT_EQ(VENDOR(ncclGetUniqueId)(&id), ncclSuccess);
  to_receiver.write(&id, sizeof id);
  ncclComm_t comm;
  EXPECT_EQ(VENDOR(ncclCommInitRank)(&comm, 2, id, 0), ncclSuccess);
  const int32_t word = 7;
  auto sent = std::async(std::launch::async,
                         [&] { return VENDOR(ncclSend)(&word, 1, ncclInt32, 1, comm, nullptr); });
  const bool at_once = sent.wait_for(std::chrono::seconds(3)) == std::future_status::ready;
  EXPECT_NE(at_once, sends_wait());
  to_receiver.write("!", 1);
  EXPECT_EQ(sent.get(), ncclSuccess);
  EXPECT_EQ(VENDOR(ncclCommDestroy)(comm), ncclSuccess);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Vendor, IsALibraryOfItsOwn) {
  EXPECT_NE(dlsym(vendor(), "pncclAllReduce"), nullptr);
  EXPECT_EQ(dlsym(vendor(), "slimcclVersion"), nullptr);
  EXPECT_EQ(dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD), vendor()) << "its SONAME";
}

// SLIMCCL_PROFILE is bad in this process; and the test's own copy of the library hears of it.
TEST(Vendor, HearsItsOwnSettingsOnly) {
  (void)vendor();
  const Pair pair;
  ncclUniqueId id;
  EXPECT_NE(ncclGetUniqueId(&id), ncclSuccess);
}

// Two communicators of the same devices, and streams of which two are held back. The communicators
// are made first, since that would wait for what is held.
struct TwoPairs {
  std::unique_ptr<Pair> one = std::make_unique<Pair>(), other = std::make_unique<Pair>();

  // Aborts, which releases whatever waits.
  void end(const Place& first, const Place& second) {
    one.reset(), other.reset();
    EXPECT_TRUE(done_soon(first.stream) && done_soon(first.other_stream));
    EXPECT_TRUE(done_soon(second.stream) && done_soon(second.other_stream));
  }
};

// Called in another order on each device: a deadlock where a device runs one call at a time in call
// order, also if the streams would have it otherwise.
TEST(Vendor, CallsOfOneDeviceTakeTurnsInCallOrder) {
  (void)vendor();
  TwoPairs pairs;
  const Place first(0);
  Hold at_first(first.other_stream);
  const Place second(1);
  Hold at_second(second.other_stream);
  pairs.one->reduce(0, first.word(), first.stream);
  pairs.other->reduce(0, first.word(), first.other_stream);
  pairs.other->reduce(1, second.word(), second.other_stream);
  pairs.one->reduce(1, second.word(), second.stream);
  EXPECT_NE(done_soon(first.stream), in_call_order());
  at_first.let_go(), at_second.let_go();
  EXPECT_NE(done_soon(first.other_stream), in_call_order());
  pairs.end(first, second);
}

// Called in one order on both, but computation ahead holds the first call back on one device and
// the second one on the other: a deadlock where calls take turns as their streams reach them.
TEST(Vendor, CallsOfOneDeviceTakeTurnsAsTheyArrive) {
  (void)vendor();
  TwoPairs pairs;
  const Place first(0);
  Hold at_first(first.stream);
  const Place second(1);
  Hold at_second(second.other_stream);
  pairs.one->reduce(0, first.word(), first.stream);
  pairs.other->reduce(0, first.word(), first.other_stream);
  pairs.one->reduce(1, second.word(), second.stream);
  pairs.other->reduce(1, second.word(), second.other_stream);
  EXPECT_FALSE(done_soon(first.other_stream)) << "its peer is held back";
  at_first.let_go(), at_second.let_go();
  EXPECT_NE(done_soon(first.stream), by_arrival());
  EXPECT_NE(done_soon(first.other_stream), by_arrival());
  pairs.end(first, second);
}

}  // namespace
}  // namespace slimccl::device::testing
