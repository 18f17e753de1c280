// The messages of ranks that are threads, or devices of one thread, of this process, through pinned
// memory: enqueued on streams, and a rendezvous, as NCCL's are. A send's stream goes on when the
// message has been taken.
#pragma once

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "cuda/gpu.h"
#include "runtime/stream/stream_team.h"

namespace slimccl::device::testing {

// All messages of one communicator. Whoever names a message first makes room for it.
class Mail {
 public:
  struct Message {
    std::byte* data;
    uint32_t *sent, *received;
    uint64_t bytes;
  };

  Mail() : pool_(kBytes) {}

  Message message(int from, int to, uint64_t number, uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto [found, added] = messages_.try_emplace({from, to, number});
    if (added) found->second = make(bytes);
    EXPECT_EQ(found->second.bytes, bytes) << "from rank " << from << " to rank " << to;
    return found->second;
  }

  // Lets all streams go on, whatever they wait for: as an aborted communicator does.
  void give_up() {
    const std::lock_guard lock(mutex_);
    given_up_ = true;
    for (auto& [key, message] : messages_) {
      std::atomic_ref<uint32_t>(*message.sent).store(1);
      std::atomic_ref<uint32_t>(*message.received).store(1);
    }
  }

 private:
  static constexpr uint64_t kBytes = uint64_t{192} << 20;

  Message make(uint64_t bytes) {
    std::byte* words = pool_.as<std::byte>() + used_;
    used_ += 64 + round_up(bytes, 64);
    check(used_ <= kBytes, ncclInternalError, "the test's mail is full");
    Message message{words + 64, reinterpret_cast<uint32_t*>(words),
                    reinterpret_cast<uint32_t*>(words) + 1, bytes};
    *message.sent = *message.received = given_up_ ? 1 : 0;
    return message;
  }

  PinnedMemory pool_;
  uint64_t used_ = 0;
  bool given_up_ = false;
  std::map<std::tuple<int, int, uint64_t>, Message> messages_;
  std::mutex mutex_;
};

class TestLink : public runtime::StreamLink {
 public:
  TestLink(Mail& mail, int rank, int device) : mail_(mail), rank_(rank), device_(device) {}

  void start() override {
    EXPECT_FALSE(open) << "a group within a group";
    open = true;
    ++groups;
  }
  void send(const void* from, uint64_t bytes, int peer, CUstream stream) override {
    ++sends;
    check(sends != fail_at_send, ncclSystemError, "this link fails at send ", fail_at_send);
    add({mail_.message(rank_, peer, sent_[peer]++, bytes), true, address_of(from), stream, {}});
  }
  void recv(void* into, uint64_t bytes, int peer, CUstream stream) override {
    add({mail_.message(peer, rank_, received_[peer]++, bytes),
         false,
         address_of(into),
         stream,
         {}});
  }
  // As messages between the ranks of the node, which must be told.
  void node_gather(const void* from, void* into, uint64_t bytes, CUstream stream) override {
    ++gathers;
    EXPECT_FALSE(node_ranks.empty()) << "a link without a node gathers in it";
    for (size_t local = 0; local < node_ranks.size(); ++local) {
      const int peer = node_ranks[local];
      std::byte* const theirs = static_cast<std::byte*>(into) + local * bytes;
      if (peer == rank_) {
        EXPECT_EQ(from, theirs) << "not in place";
        continue;
      }
      send(from, bytes, peer, stream);
      --sends;
      recv(theirs, bytes, peer, stream);
    }
  }
  void finish() override {
    EXPECT_TRUE(open);
    EXPECT_FALSE(group.empty()) << "a group of no messages";
    for (const Enqueued& each : group) {
      if (each.sends) give(each);
    }
    for (const Enqueued& each : group) {
      if (!each.sends) take(each);
    }
    for (const Enqueued& each : group) {
      if (each.sends) wait_for(each.message.received, each);
    }
    group.clear();
    open = false;
  }
  void cancel() noexcept override {
    group.clear();
    open = false;
    ++cancels;
  }

  int groups = 0, sends = 0, gathers = 0, cancels = 0;
  std::vector<int> node_ranks;  // of this one's node, ascending
  int fail_at_send = 0;         // never

 private:
  struct Enqueued {
    Mail::Message message;
    bool sends;
    CUdeviceptr memory;
    CUstream stream;
    CUcontext context;
  };
  // Of the thread: the links of all its devices share it.
  static inline thread_local std::vector<Enqueued> group;
  static inline thread_local bool open = false;

  void add(Enqueued each) {
    EXPECT_TRUE(open) << "a message outside of a group";
    EXPECT_EQ(current_device(driver()), device_);
    driver().cuCtxGetCurrent(&each.context);
    group.push_back(each);
  }
  static void wait_for(uint32_t* word, const Enqueued& each) {
    const CurrentContext current(driver(), each.context);
    driver().cuStreamWaitValue32(each.stream, address_of(word), 1, CU_STREAM_WAIT_VALUE_EQ);
  }
  static void give(const Enqueued& each) {
    const CurrentContext current(driver(), each.context);
    driver().cuMemcpyDtoHAsync(each.message.data, each.memory, each.message.bytes, each.stream);
    driver().cuStreamWriteValue32(each.stream, address_of(each.message.sent), 1, 0);
  }
  static void take(const Enqueued& each) {
    wait_for(each.message.sent, each);
    const CurrentContext current(driver(), each.context);
    driver().cuMemcpyHtoDAsync(each.memory, each.message.data, each.message.bytes, each.stream);
    driver().cuStreamWriteValue32(each.stream, address_of(each.message.received), 1, 0);
  }

  Mail& mail_;
  const int rank_, device_;
  std::map<int, uint64_t> sent_, received_;  // by peer
};

}  // namespace slimccl::device::testing
