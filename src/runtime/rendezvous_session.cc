#include "runtime/rendezvous_session.h"

#include <algorithm>
#include <utility>

namespace slimccl::runtime {

using wire::Type;
using wire::Writer;

namespace {

constexpr size_t kGatherHeaderBytes = sizeof(uint32_t) + sizeof(double);

wire::Packet failure_packet(const Failure& failure) {
  Writer writer(Type::kFailure);
  writer.put(static_cast<int32_t>(failure.code)).put(int32_t{failure.rank});
  return wire::packet(writer.put_text(failure.reason));
}

Session::Clock::time_point after(Session::Clock::time_point now, double seconds) {
  const double day = 86400;  // a limit, so that no time-out can overflow the clock
  return now + std::chrono::duration_cast<Session::Clock::duration>(
                   std::chrono::duration<double>(std::clamp(seconds, 0.0, 365 * day)));
}

}  // namespace

Hello Hello::parse(const wire::Frame& frame) {
  check(frame.type == Type::kHello, ncclSystemError, "its first message is not a hello");
  ByteReader parser = wire::parse(frame.payload);
  Hello hello;
  hello.number = parser.get<uint64_t>();
  const bool branched = parser.get<uint8_t>() != 0;
  const auto branch = parser.get<uint64_t>();
  if (branched) hello.branch = branch;
  hello.secret = parser.get<wire::Secret>();
  hello.ranks = parser.get<int32_t>();
  hello.rank = parser.get<int32_t>();
  hello.hosted = parser.get<uint8_t>() != 0;
  hello.timeout_s = parser.get<double>();
  hello.remaining_s = parser.get<double>();
  hello.name = parser.rest_text();
  return hello;
}

wire::Packet Hello::pack() const {
  Writer writer(Type::kHello);
  writer.put(number).put(static_cast<uint8_t>(branch.has_value())).put(branch.value_or(0));
  writer.put(secret).put(ranks).put(rank).put(static_cast<uint8_t>(hosted));
  return wire::packet(writer.put(timeout_s).put(remaining_s).put_text(name));
}

std::string list_ranks(const std::vector<int>& ascending) {
  std::string text = ascending.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ascending.size();) {
    size_t last = i;
    while (last + 1 < ascending.size() && ascending[last + 1] == ascending[last] + 1) ++last;
    if (i > 0) text += ", ";
    text += std::to_string(ascending[i]);
    if (last > i) text += (last > i + 1 ? "-" : ", ") + std::to_string(ascending[last]);
    i = last + 1;
  }
  return text;
}

std::optional<Failure> Session::objection(const Hello& hello) const {
  const auto usage = [](std::string text) {
    return Failure{ncclInvalidUsage, -1, std::move(text)};
  };
  const std::string who = concat("rank ", hello.rank, " (", hello.name, ")");
  if (hello.ranks < 1 || hello.ranks > wire::kMaxRanks || hello.rank < 0 ||
      hello.rank >= hello.ranks) {
    return usage(concat(who, " is out of range: it counts ", hello.ranks,
                        " ranks; correct the arguments of its ncclCommInitRank"));
  }
  if (ranks_ == 0) return std::nullopt;
  if (hello.ranks != ranks_) {
    const auto first =
        std::find_if(members_.begin(), members_.end(), [](auto& m) { return m.came; });
    return usage(concat(who, " counts ", hello.ranks, " ranks, rank ", first - members_.begin(),
                        " (", first->name, ") counts ", ranks_,
                        ": pass the same number to ncclCommInitRank on all ranks"));
  }
  const Member& holder = members_[static_cast<size_t>(hello.rank)];
  if (!holder.came) return std::nullopt;
  return usage(concat("rank ", hello.rank, " was taken twice, by ", holder.name, " and by ",
                      hello.name,
                      ": give each process its own rank, and each communicator its own id"));
}

// A latecomer to a communicator that runs is its own problem; before that it is everybody's.
void Session::refuse(Peer& peer, const Hello& hello, const Failure& refusal) {
  peer.send(failure_packet(refusal));
  if (set_up_) return;
  fail(refusal);
  if (hello.rank < 0 || static_cast<size_t>(hello.rank) >= members_.size()) return;
  bool& came = members_[static_cast<size_t>(hello.rank)].came;
  if (!std::exchange(came, true)) ++came_;
}

bool Session::enter(Peer& peer, const Hello& hello, Clock::time_point now) {
  if (!failure_) {
    late_until_ = std::max(late_until_, after(now, hello.remaining_s + hello.timeout_s));
  }
  if (const std::optional<Failure> refusal = failure_ ? failure_ : objection(hello)) {
    refuse(peer, hello, *refusal);
    return false;
  }
  if (ranks_ == 0) {
    ranks_ = hello.ranks;
    members_.resize(static_cast<size_t>(ranks_));
  }
  Member& member = members_[static_cast<size_t>(hello.rank)];
  member.peer = &peer;
  member.came = true;
  member.hosted = hello.hosted;
  member.name = hello.name;
  member.timeout_s = hello.timeout_s;
  member.deadline = after(now, hello.remaining_s);
  ++came_;
  ++present_;
  Writer accepted(Type::kAccepted);
  peer.send(wire::packet(accepted));
  if (came_ == ranks_) {
    set_up_ = true;
    Writer host(Type::kHost);
    send_all(wire::packet(host.put(int32_t{host_rank()})));
  }
  return true;
}

void Session::handle(int rank, wire::Frame frame, Clock::time_point now) {
  check(!members_[static_cast<size_t>(rank)].left, ncclSystemError, "it spoke after it had left");
  ByteReader parser = wire::parse(frame.payload);
  switch (frame.type) {
    case Type::kGather:
      return gather(rank, std::move(frame.payload), now);
    case Type::kReport: {
      const int about = parser.get<int32_t>();
      return fail({ncclRemoteError, about, parser.rest_text()});
    }
    case Type::kQuestion:
      return pass_on_question(rank, frame);
    case Type::kAnswer:
      return pass_on_answer(rank, frame);
    case Type::kAbort:
      fail({ncclRemoteError, rank, concat("rank ", rank, " aborted: ", parser.rest_text())});
      return leave(rank);
    case Type::kLeave:
      return leave(rank);
    default:
      check(false, ncclSystemError, "it sent a message of type ", static_cast<int>(frame.type));
  }
}

void Session::lost(int rank, const std::string& why) {
  Member& member = members_[static_cast<size_t>(rank)];
  member.peer = nullptr;
  if (member.left) return;
  --present_;
  fail({ncclRemoteError, rank, concat(why, "; it was ", member.name)});
}

bool Session::waiting(const Member& member) const noexcept {
  return !failure_ && member.peer != nullptr && !member.left &&
         (set_up_ ? member.given.has_value() : member.came);
}

void Session::expire(Clock::time_point now) {
  const auto late = std::find_if(members_.begin(), members_.end(), [&](const Member& member) {
    return waiting(member) && member.deadline <= now;
  });
  if (late == members_.end()) return;
  std::vector<int> missing;
  for (int rank = 0; rank < ranks_; ++rank) {
    const Member& member = members_[static_cast<size_t>(rank)];
    if (set_up_ ? !member.given.has_value() : !member.came) missing.push_back(rank);
  }
  const std::string who = concat(list_ranks(missing), " of ", ranks_);
  const bool one = missing.size() == 1;
  fail({ncclRemoteError, missing.front(),
        set_up_ ? concat(who, " did not answer within ", late->timeout_s,
                         " s: ", one ? "is it" : "are they", " still running?")
                : concat(who, " did not come within ", late->timeout_s, " s: ",
                         one ? "is it running, and can it reach "
                             : "are they running, and can they reach ",
                         server_, "?")});
}

std::optional<Session::Clock::time_point> Session::next_deadline() const {
  std::optional<Clock::time_point> next;
  for (const Member& member : members_) {
    if (waiting(member) && (!next || member.deadline < *next)) next = member.deadline;
  }
  return next;
}

int Session::host_rank() const noexcept {
  const auto host = std::find_if(members_.begin(), members_.end(), [](const Member& member) {
    return member.hosted && !member.left;
  });
  return host == members_.end() ? -1 : static_cast<int>(host - members_.begin());
}

void Session::send(int rank, const wire::Packet& packet) {
  const Member& member = members_[static_cast<size_t>(rank)];
  if (member.peer != nullptr && !member.left) member.peer->send(packet);
}

void Session::send_all(const wire::Packet& packet) {
  for (int rank = 0; rank < ranks_; ++rank) send(rank, packet);
}

void Session::fail(const Failure& failure) {
  if (failure_) return;
  failure_ = failure;
  send_all(failure_packet(failure));
  for (Member& member : members_) member.given.reset();
  given_ = 0;
}

void Session::gather(int rank, std::vector<std::byte> payload, Clock::time_point now) {
  if (failure_) return;  // it has been told
  Member& member = members_[static_cast<size_t>(rank)];
  ByteReader parser = wire::parse(payload);
  const auto round = parser.get<uint32_t>();
  check(set_up_ && round == round_ && !member.given, ncclSystemError, "it is in exchange ", round,
        " where ", round_, " is under way");
  member.timeout_s = parser.get<double>();
  member.deadline = after(now, member.timeout_s);
  member.given = std::move(payload);
  ++given_;
  const auto gone = std::find_if(members_.begin(), members_.end(), [](auto& m) { return m.left; });
  if (gone != members_.end()) {
    return fail(
        {ncclRemoteError, static_cast<int>(gone - members_.begin()),
         concat("left the communicator before an exchange that rank ", rank, " takes part in")});
  }
  if (given_ == ranks_) send_table();
}

void Session::send_table() {
  Writer table(Type::kTable);
  table.put(round_);
  uint64_t total = 0;
  for (const Member& member : members_) {
    const uint64_t bytes = member.given->size() - kGatherHeaderBytes;
    table.put(bytes);
    total += bytes;
  }
  if (total + (members_.size() + 1) * sizeof total > wire::kMaxPayloadBytes) {
    return fail({ncclInvalidArgument, -1,
                 concat("an exchange of ", total, " bytes in all is over the limit of ",
                        wire::kMaxPayloadBytes)});
  }
  for (Member& member : members_) {
    table.put_bytes(ConstBytes(*member.given).subspan(kGatherHeaderBytes));
    member.given.reset();
  }
  given_ = 0;
  ++round_;
  send_all(wire::packet(table));
}

void Session::pass_on_question(int asker, const wire::Frame& frame) {
  ByteReader parser = wire::parse(frame.payload);
  check(parser.get<int32_t>() == asker, ncclSystemError, "it asked in another rank's name");
  Writer question(Type::kQuestion);
  const wire::Packet packet = wire::packet(question.put_bytes(frame.payload));
  for (int rank = 0; rank < ranks_; ++rank) {
    if (rank != asker) send(rank, packet);
  }
}

void Session::pass_on_answer(int rank, const wire::Frame& frame) {
  ByteReader parser = wire::parse(frame.payload);
  const int asker = parser.get<int32_t>();
  check(asker >= 0 && asker < ranks_, ncclSystemError, "it answered rank ", asker, " of ", ranks_);
  Writer answer(Type::kAnswer);
  send(asker, wire::packet(answer.put(int32_t{rank}).put_bytes(parser.rest())));
}

void Session::leave(int rank) {
  Member& member = members_[static_cast<size_t>(rank)];
  const int old_host = host_rank();
  member.left = true;
  --present_;
  if (exchanging()) {
    fail({ncclRemoteError, rank, "left the communicator during an exchange of the others"});
  }
  // First the others, then this rank: once it knows, its process may end.
  if (set_up_ && host_rank() != old_host) {
    Writer host(Type::kHost);
    send_all(wire::packet(host.put(int32_t{host_rank()})));
  }
  Writer left(Type::kLeft);
  if (member.peer != nullptr) member.peer->send(wire::packet(left));
}

}  // namespace slimccl::runtime
