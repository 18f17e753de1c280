// Ranks for the conformance suite: all on one thread, a thread each, or a forked process each; what
// they need to find each other; and waiting that always ends.
#pragma once

#include <sys/types.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "transport/transport.h"

namespace slimccl::transport {

// Stands in for the bootstrap, between threads or forked processes (anonymous shared memory).
// Throws after 20 s.
class Gather {
 public:
  explicit Gather(int ranks);
  ~Gather();
  Gather(const Gather&) = delete;
  Gather& operator=(const Gather&) = delete;
  std::vector<std::vector<std::byte>> all_gather(int rank, ConstBytes mine);
  void barrier(int rank) { all_gather(rank, {}); }
  // Once: waits until `count` ranks have come here (the others may be dead).
  void meet(int count);
  // When something happened (by now_s(), which all processes share), for the others to read; 0
  // before.
  void note_time();
  [[nodiscard]] double noted_time() const;

 private:
  struct Slot;
  Slot& slot(uint32_t round, int rank);
  const int ranks_;
  Slot* slots_;
  std::vector<uint32_t> rounds_;  // by rank; each rank's own
};

// Makes one rank's transport; called by all ranks at once.
using MakeRank = std::function<std::unique_ptr<Transport>(Gather&, int rank, int ranks)>;
// One kind of transport under test. `begin` is called once per set of ranks (and before any fork).
struct Maker {
  std::string name;
  std::function<MakeRank(int ranks)> begin;
};
std::ostream& operator<<(std::ostream& out, const Maker& maker);

// One rank with the messages it has under way, and their buffers.
class Party {
 public:
  struct Message {
    bool is_send;
    int peer;
    uint64_t tag;
    std::vector<std::byte> data;
    Ticket ticket;
    Progress state;
  };

  Party(int rank, std::unique_ptr<Transport> transport);
  // Contents follow from (sender, receiver, tag, size): the receiver knows what must come.
  Message& send(int peer, uint64_t tag, size_t bytes);
  Message& recv(int peer, uint64_t tag, size_t bytes);
  // Progresses, polls; true if anything moved.
  bool step();
  [[nodiscard]] bool settled() const { return pending_ == 0; }
  // Every message kDone and every received byte right; forgets them.
  void expect_delivered();
  [[nodiscard]] Transport& transport() const { return *transport_; }
  void destroy() { transport_.reset(); }
  [[nodiscard]] bool alive() const { return transport_ != nullptr; }
  [[nodiscard]] int rank() const { return rank_; }
  std::deque<Message> messages;

 private:
  const int rank_;
  size_t pending_ = 0;
  std::unique_ptr<Transport> transport_;
};

// Steps the parties until `holds`, sleeping by arm() and wait_fd() when there is nothing to do.
// False when `seconds` have passed first: never hangs.
[[nodiscard]] bool run_until(const std::vector<Party*>& parties, const std::function<bool()>& holds,
                             double seconds);

// All ranks in this process.
class World {
 public:
  World(const Maker& maker, int ranks, bool threads);
  ~World();  // all leave at once, as in a job
  // Calls `act`, which may block, while all other ranks go on.
  void while_others_go_on(Party& actor, const std::function<void()>& act);
  void destroy(int rank) {
    while_others_go_on(at(rank), [&] { at(rank).destroy(); });
  }
  [[nodiscard]] Party& at(int rank) { return *parties_[static_cast<size_t>(rank)]; }
  [[nodiscard]] std::vector<Party*> all();
  [[nodiscard]] int ranks() const { return static_cast<int>(parties_.size()); }
  // Runs `post` for each rank, on its thread if they have threads, then drives all until every
  // message has settled. Adds a test failure after `seconds`.
  void round(const std::function<void(Party&)>& post, double seconds = 20);
  // round, then everything must have been delivered.
  void deliver(const std::function<void(Party&)>& post, double seconds = 20);

 private:
  Gather gather_;
  MakeRank make_;
  const bool threads_;
  std::vector<std::unique_ptr<Party>> parties_;
};

// Runs `body` in one forked process per rank and returns how each ended: its exit status (1 if it
// had test failures), or minus the signal that killed it. Kills what is left after `seconds`.
std::vector<int> run_forked(const Maker& maker, int ranks,
                            const std::function<void(Party&, Gather&)>& body, double seconds);

[[nodiscard]] double now_s();
void fill(std::vector<std::byte>& data, int sender, int receiver, uint64_t tag);

}  // namespace slimccl::transport
