// One communicator as the rendezvous sees it: who came, what is being exchanged, who failed first.
// No I/O here: it is told what happened and answers with packets.
//
//   rank says      hello, then gather / report / question / answer / abort / leave, then it closes
//   server says    accepted (this rank), host (all have come; again whenever it changes),
//                  table (to each gather of all), failure (once, ends everything else),
//                  question (passed on to all others), answer (passed on to who asked),
//                  left (to leave and abort)
//
// A branch of a family comes into being at its first hello. A failed set-up tells all who say hello
// later. A rank that has left is told nothing more.
// `host` is the lowest rank still present in the server's own process, or -1: should that process
// be killed, the others know by it whom they lost.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/wire.h"

namespace slimccl::runtime {

struct Hello {
  uint64_t number;  // of the id or family
  std::optional<uint64_t> branch;
  wire::Secret secret;
  int32_t ranks, rank;
  bool hosted;  // this rank lives in the server's process
  double timeout_s, remaining_s;
  std::string name;  // "host:pid"

  [[nodiscard]] static Hello parse(const wire::Frame& frame);
  [[nodiscard]] wire::Packet pack() const;
};

struct Failure {
  ncclResult_t code;
  int rank;  // -1: nobody in particular
  std::string reason;
};

class Session {
 public:
  using Clock = wire::Clock;

  // Where packets for one connection go. Not owned; valid until lost() or the refusal in enter().
  class Peer {
   public:
    virtual void send(const wire::Packet& packet) = 0;

   protected:
    ~Peer() = default;
  };

  explicit Session(std::string server) : server_(std::move(server)) {}

  // False: refused; the failure has been sent, and the peer is none of ours.
  [[nodiscard]] bool enter(Peer& peer, const Hello& hello, Clock::time_point now);
  // Any later frame of a rank that has entered; throws Error if it makes no sense.
  void handle(int rank, wire::Frame frame, Clock::time_point now);
  // The connection of a rank is gone.
  void lost(int rank, const std::string& why);
  // Fails what has waited too long. next_deadline(): when to come back.
  void expire(Clock::time_point now);
  [[nodiscard]] std::optional<Clock::time_point> next_deadline() const;
  // Nobody is here: all who came have left, or are gone.
  [[nodiscard]] bool deserted() const noexcept { return present_ == 0; }
  // ...and nobody is to come any more; or its set-up failed, and every rank has been told.
  [[nodiscard]] bool over() const noexcept {
    return set_up_ ? deserted() : ranks_ > 0 && came_ == ranks_;
  }
  // Until when a rank that knows nothing of a failed set-up may come; meaningful once it failed.
  [[nodiscard]] Clock::time_point late_until() const noexcept { return late_until_; }

 private:
  struct Member {
    Peer* peer = nullptr;
    bool came = false;  // or came late and was told of the failure
    bool left = false, hosted = false;
    std::string name;
    double timeout_s = 0;  // what it waits for now, and until when
    Clock::time_point deadline{};
    std::optional<std::vector<std::byte>> given;  // payload of its gather
  };

  [[nodiscard]] bool exchanging() const noexcept { return given_ > 0; }
  [[nodiscard]] std::optional<Failure> objection(const Hello& hello) const;
  [[nodiscard]] int host_rank() const noexcept;
  [[nodiscard]] bool waiting(const Member& member) const noexcept;
  void send(int rank, const wire::Packet& packet);
  void send_all(const wire::Packet& packet);
  void fail(const Failure& failure);
  void gather(int rank, std::vector<std::byte> payload, Clock::time_point now);
  void send_table();
  void pass_on_question(int asker, const wire::Frame& frame);
  void pass_on_answer(int rank, const wire::Frame& frame);
  void refuse(Peer& peer, const Hello& hello, const Failure& refusal);
  void leave(int rank);

  std::string server_;  // address, for messages
  int ranks_ = 0;       // 0: nobody came yet
  int came_ = 0, present_ = 0, given_ = 0;
  bool set_up_ = false;  // all have come, and none of them too late
  Clock::time_point late_until_{};
  uint32_t round_ = 0;
  std::vector<Member> members_;
  std::optional<Failure> failure_;
};

// "rank 3", "ranks 2, 5", "ranks 0, 4-7".
[[nodiscard]] std::string list_ranks(const std::vector<int>& ascending);

}  // namespace slimccl::runtime
