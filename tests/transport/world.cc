#include "transport/world.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.h"

namespace slimccl::transport {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void fill(std::vector<std::byte>& data, int sender, int receiver, uint64_t tag) {
  uint64_t word = (static_cast<uint64_t>(sender) << 48) ^ (static_cast<uint64_t>(receiver) << 40) ^
                  (tag * 0x9e3779b97f4a7c15u) ^ data.size();
  size_t at = 0;
  for (; at + sizeof word <= data.size(); at += sizeof word, word += 0x9e3779b97f4a7c15u) {
    std::memcpy(data.data() + at, &word, sizeof word);
  }
  if (at < data.size()) std::memcpy(data.data() + at, &word, data.size() - at);
}

struct Gather::Slot {
  std::atomic<uint32_t> round;
  std::atomic<int> met;       // the first slot's
  std::atomic<double> noted;  // the first slot's
  uint32_t size;
  std::byte data[8168];
};

Gather::Gather(int ranks) : ranks_(ranks), rounds_(static_cast<size_t>(ranks)) {
  void* memory = mmap(nullptr, 2 * static_cast<size_t>(ranks) * sizeof(Slot),
                      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ensure(memory != MAP_FAILED, "mmap");
  slots_ = static_cast<Slot*>(memory);
}
Gather::~Gather() { munmap(slots_, 2 * static_cast<size_t>(ranks_) * sizeof(Slot)); }

Gather::Slot& Gather::slot(uint32_t round, int rank) {
  return slots_[round % 2 * static_cast<uint32_t>(ranks_) + static_cast<uint32_t>(rank)];
}

std::vector<std::vector<std::byte>> Gather::all_gather(int rank, ConstBytes mine) {
  const uint32_t round = ++rounds_[static_cast<size_t>(rank)];
  Slot& own = slot(round, rank);
  ensure(mine.size() <= sizeof own.data, "address too long for the test's Gather");
  if (!mine.empty()) std::memcpy(own.data, mine.data(), mine.size());
  own.size = static_cast<uint32_t>(mine.size());
  own.round.store(round);
  std::vector<std::vector<std::byte>> all;
  const double limit = now_s() + 20;
  for (int peer = 0; peer < ranks_; ++peer) {
    Slot& other = slot(round, peer);
    while (other.round.load() < round) {
      ensure(now_s() < limit, "rank ", peer, " did not come to the test's Gather");
      usleep(200);
    }
    all.emplace_back(other.data, other.data + other.size);
  }
  return all;
}

void Gather::note_time() { slots_->noted = now_s(); }
double Gather::noted_time() const { return slots_->noted; }

void Gather::meet(int count) {
  ++slots_->met;
  const double limit = now_s() + 20;
  while (slots_->met.load() < count) {
    ensure(now_s() < limit, "fewer than ", count, " ranks met");
    usleep(200);
  }
}

std::ostream& operator<<(std::ostream& out, const Maker& maker) { return out << maker.name; }

Party::Party(int rank, std::unique_ptr<Transport> transport)
    : rank_(rank), transport_(std::move(transport)) {}

Party::Message& Party::send(int peer, uint64_t tag, size_t bytes) {
  Message& message = messages.emplace_back(
      Message{true, peer, tag, std::vector<std::byte>(bytes), 0, Progress::kPending});
  fill(message.data, rank_, peer, tag);
  message.ticket = transport_->send(peer, tag, message.data);
  ++pending_;
  return message;
}

Party::Message& Party::recv(int peer, uint64_t tag, size_t bytes) {
  Message& message = messages.emplace_back(
      Message{false, peer, tag, std::vector<std::byte>(bytes), 0, Progress::kPending});
  message.ticket = transport_->recv(peer, tag, message.data);
  ++pending_;
  return message;
}

bool Party::step() {
  if (!transport_) return false;
  bool moved = transport_->progress();
  for (Message& message : messages) {
    if (message.state != Progress::kPending) continue;
    message.state = transport_->poll(message.ticket);
    if (message.state == Progress::kPending) continue;
    --pending_;
    moved = true;
  }
  return moved;
}

void Party::expect_delivered() {
  for (const Message& message : messages) {
    ASSERT_EQ(message.state, Progress::kDone)
        << "rank " << rank_ << (message.is_send ? " to " : " from ") << message.peer << " tag "
        << message.tag << ": "
        << (transport_ && transport_->failure() ? transport_->failure()->reason
                                                : "no failure known");
    if (message.is_send) continue;
    std::vector<std::byte> expected(message.data.size());
    fill(expected, message.peer, rank_, message.tag);
    ASSERT_TRUE(expected == message.data)
        << "rank " << rank_ << " from " << message.peer << " tag " << message.tag;
  }
  messages.clear();
}

bool run_until(const std::vector<Party*>& parties, const std::function<bool()>& holds,
               double seconds) {
  const double limit = now_s() + seconds;
  while (!holds()) {
    if (now_s() > limit) return false;
    bool moved = false;
    for (Party* party : parties) moved |= party->step();
    if (moved) continue;
    bool armed = true;
    std::vector<pollfd> fds;
    for (Party* party : parties) {
      if (!party->alive()) continue;
      armed = armed && party->transport().arm();
      fds.push_back({party->transport().wait_fd(), POLLIN, 0});
    }
    if (armed)
      poll(fds.data(), fds.size(), 20);  // short: other threads may settle what `holds` looks at
  }
  return true;
}

World::World(const Maker& maker, int ranks, bool threads)
    : gather_(ranks),
      make_(maker.begin(ranks)),
      threads_(threads),
      parties_(static_cast<size_t>(ranks)) {
  std::vector<std::exception_ptr> errors(parties_.size());
  std::vector<std::thread> workers;
  for (int rank = 0; rank < ranks; ++rank) {
    workers.emplace_back([&, rank] {
      try {
        parties_[static_cast<size_t>(rank)] =
            std::make_unique<Party>(rank, make_(gather_, rank, ranks));
      } catch (...) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

World::~World() {
  std::vector<std::thread> workers;
  for (const auto& party : parties_) workers.emplace_back([&party] { party->destroy(); });
  for (std::thread& worker : workers) worker.join();
}

void World::while_others_go_on(Party& actor, const std::function<void()>& act) {
  std::atomic<bool> done = false;
  std::thread thread([&] {
    act();
    done = true;
  });
  std::vector<Party*> others = all();
  std::erase(others, &actor);
  EXPECT_TRUE(run_until(
      others, [&] { return done.load(); }, 10));
  thread.join();
}

std::vector<Party*> World::all() {
  std::vector<Party*> parties;
  for (const auto& party : parties_) parties.push_back(party.get());
  return parties;
}

void World::round(const std::function<void(Party&)>& post, double seconds) {
  if (!threads_) {
    for (Party* party : all()) post(*party);
    const auto settled = [&] {
      for (Party* party : all()) {
        if (!party->settled()) return false;
      }
      return true;
    };
    EXPECT_TRUE(run_until(all(), settled, seconds)) << "not settled after " << seconds << " s";
    return;
  }
  std::atomic<int> settled =
      0;  // a rank goes on progressing until all have settled: what it sent may need it
  std::vector<std::thread> workers;
  for (Party* party : all()) {
    workers.emplace_back([&, party] {
      post(*party);
      const bool in_time = run_until(
          {party}, [&] { return party->settled(); }, seconds);
      EXPECT_TRUE(in_time) << "rank " << party->rank() << " not settled after " << seconds << " s";
      ++settled;
      (void)run_until(
          {party}, [&] { return settled == ranks(); }, seconds);
    });
  }
  for (std::thread& worker : workers) worker.join();
}

void World::deliver(const std::function<void(Party&)>& post, double seconds) {
  round(post, seconds);
  for (Party* party : all()) party->expect_delivered();
}

namespace {

[[noreturn]] void be_child(const MakeRank& make, Gather& gather, int rank, int ranks,
                           const std::function<void(Party&, Gather&)>& body) {
  int status = 0;
  const bool failed_before = testing::Test::HasFailure();  // the parent's, inherited
  try {
    Party party(rank, make(gather, rank, ranks));
    body(party, gather);
    status = testing::Test::HasFailure() && !failed_before ? 1 : 0;
  } catch (const std::exception& error) {
    fprintf(stderr, "rank %d: %s\n", rank, error.what());
    status = 2;
  }
  fflush(stdout);
  _exit(status);
}

}  // namespace

std::vector<int> run_forked(const Maker& maker, int ranks,
                            const std::function<void(Party&, Gather&)>& body, double seconds) {
  Gather gather(ranks);
  const MakeRank make = maker.begin(ranks);
  fflush(stdout);
  std::vector<pid_t> children;
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t child = fork();
    if (child == 0) be_child(make, gather, rank, ranks, body);
    children.push_back(child);
  }
  std::vector<int> ends;
  const double limit = now_s() + seconds;
  for (const pid_t child : children) {
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
      if (now_s() > limit) kill(child, SIGKILL);
      usleep(1000);
    }
    ends.push_back(WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
  }
  return ends;
}

}  // namespace slimccl::transport
