#include "runtime/bootstrap.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "runtime/bootstrap_connect.h"
#include "runtime/bootstrap_inquiry.h"
#include "runtime/rendezvous.h"
#include "runtime/rendezvous_session.h"

namespace slimccl::runtime {
namespace {

using wire::Clock;
using wire::Type;
using wire::Writer;

// Time-outs are the server's to call, for it knows who is missing. Only if it says nothing for this
// much longer...
constexpr double kGraceSeconds = 3;
// A farewell waits this long to be heard: until then the end of our process would look like a
// death.
constexpr double kFarewellSeconds = 1;
// ...but somebody waits for the end of one who is cancelled.
constexpr double kHastyFarewellSeconds = 0.03;
constexpr const char* kCancelled = "its process called ncclCommAbort while it was being set up";

Clock::time_point in(double seconds) {
  constexpr double kYear = 365.0 * 86400;
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(
                            std::chrono::duration<double>(std::clamp(seconds, 0.0, kYear)));
}

std::string process_name() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
  return concat(host.data(), ":", getpid());
}

class Star final : public Bootstrap {
 public:
  Star(wire::Socket socket, const wire::Id& id, const Cancel& cancel)
      : socket_(std::move(socket)), server_(id.server), cancel_(cancel) {}

  void enter(const Hello& hello);
  std::vector<std::vector<std::byte>> all_gather(ConstBytes mine, double timeout_s) override;
  [[nodiscard]] int wait_fd() const noexcept override { return socket_.get(); }
  [[nodiscard]] std::optional<RankFailure> check() noexcept override;
  void report(const RankFailure& failure) noexcept override;
  void on_question(std::function<std::string()> answerer) override;
  void ask() noexcept override;
  [[nodiscard]] std::vector<std::optional<std::string>> answers() const override;
  void leave() noexcept override;
  void abort(const std::string& reason) noexcept override;

 private:
  // kOpen until the server is gone, or we have left.
  enum class Link : uint8_t { kOpen, kClosed };

  void push(Writer& writer) { push(wire::packet(writer)); }
  void push(wire::Packet packet);
  void exchange_bytes();
  void pay_answers();
  void handle(const wire::Frame& frame);
  void disconnected(const std::string& how);
  void note(ncclResult_t code, int rank, std::string reason);
  void throw_failure() const;
  void obey_cancel();
  void farewell(Writer& writer, double seconds) noexcept;
  template <class Done>
  bool wait(const Done& done, Clock::time_point deadline);

  wire::Socket socket_;
  wire::Endpoint server_;
  Cancel cancel_;
  wire::Inbox inbox_{wire::kMaxPayloadBytes};
  wire::Outbox outbox_;
  Link link_ = Link::kOpen;
  bool accepted_ = false, left_ = false, heard_ = false;  // heard_: the server knows that we left
  int ranks_ = 0, rank_ = -1;
  std::optional<int>
      host_;  // lowest rank present in the server's process, -1 none; known once all have come
  uint32_t round_ = 0;
  std::optional<wire::Frame> table_;
  std::optional<Failure> failure_;
  Inquiry inquiry_;
  std::optional<RankFailure> unanswered_;  // our own report, until the server's word
};

void Star::push(wire::Packet packet) {
  if (link_ == Link::kOpen) outbox_.push(std::move(packet));
}

// Moves what can be moved without blocking, and acts on what came.
void Star::exchange_bytes() {
  if (link_ == Link::kClosed) return;
  int error = outbox_.flush(socket_.get());
  try {
    // What the server said before the end still counts: read on although the sending failed.
    if (const int read_error = inbox_.read(socket_.get()); read_error != 0) error = read_error;
    while (const std::optional<wire::Frame> frame = inbox_.next()) handle(*frame);
  } catch (const Error& problem) {
    return disconnected(
        concat("the rendezvous at ", server_.text(), " cannot be understood: ", problem.what()));
  }
  if (error == 0) return;
  const bool closed = error == ENODATA || error == ECONNRESET || error == EPIPE;
  disconnected(closed ? "process died (connection closed)"
                      : concat("process or its host died or cannot be reached (",
                               std::strerror(error), ")"));
}

void Star::handle(const wire::Frame& frame) {
  ByteReader parser = wire::parse(frame.payload);
  switch (frame.type) {
    case Type::kAccepted:
      accepted_ = true;
      break;
    case Type::kHost:
      host_ = parser.get<int32_t>();
      break;
    case Type::kTable:
      table_ = frame;
      break;
    case Type::kFailure: {
      const auto code = static_cast<ncclResult_t>(parser.get<int32_t>());
      const int rank = parser.get<int32_t>();
      note(code, rank, parser.rest_text());
      break;
    }
    case Type::kLeft:
      heard_ = true;
      break;
    case Type::kQuestion:
      inquiry_.question(parser);
      break;
    case Type::kAnswer:
      inquiry_.answer(parser);
      break;
    default:
      slimccl::check(false, ncclSystemError, "message of type ", static_cast<int>(frame.type));
  }
}

void Star::note(ncclResult_t code, int rank, std::string reason) {
  if (!failure_) failure_ = {code, rank, std::move(reason)};
}

// The server's connection is no more: a death, if a rank still lived there.
void Star::disconnected(const std::string& how) {
  link_ = Link::kClosed;
  socket_.silence();
  if (left_ || failure_) return;
  if (unanswered_) return note(ncclRemoteError, unanswered_->rank, unanswered_->reason);
  if (!host_) {
    note(ncclSystemError, -1,
         accepted_
             ? concat("the process that made the unique id (at ", server_.text(),
                      ") ended before all ranks had come: it must live until then")
             : concat("the rendezvous at ", server_.text(),
                      " refused this unique id: is it of a communicator that has ended, or of an "
                      "earlier run? Each communicator needs a fresh one"));
  } else if (*host_ >= 0) {
    note(ncclRemoteError, *host_,
         concat(how, "; the rendezvous at ", server_.text(), " ended with it"));
  } else {
    log::info("the rendezvous at ", server_.text(),
              " is gone, and no rank with it: deaths are now told by the transports alone");
  }
}

void Star::throw_failure() const {
  const std::string& reason = failure_->reason;
  const bool named = failure_->rank < 0 || reason.starts_with("rank");
  throw Error(failure_->code, named ? reason : concat("rank ", failure_->rank, ": ", reason));
}

// Until done(), the end of the link (then true), or the deadline; throws when cancelled, unless it
// is a farewell that waits.
template <class Done>
bool Star::wait(const Done& done, Clock::time_point deadline) {
  while (true) {
    exchange_bytes();
    if (done() || link_ == Link::kClosed) return true;
    const auto events = static_cast<short>(POLLIN | (outbox_.empty() ? 0 : POLLOUT));
    const bool ready = left_ ? wire::wait_for(socket_.get(), events, deadline)
                             : cancel_.wait_for(socket_.get(), events, deadline);
    if (!left_) obey_cancel();
    if (!ready) return false;
  }
}

void Star::enter(const Hello& hello) {
  ranks_ = hello.ranks;
  rank_ = hello.rank;
  outbox_.push(hello.pack());
  const bool answered =
      wait([&] { return host_ || failure_; }, in(hello.remaining_s + kGraceSeconds));
  slimccl::check(answered, ncclSystemError, "the rendezvous at ", server_.text(),
                 " does not answer within ", hello.timeout_s,
                 " s: is the process that made the unique id stopped?");
  if (!host_) throw_failure();  // a failure after all had come is for check() to tell, however soon
}

std::vector<std::vector<std::byte>> Star::all_gather(ConstBytes mine, double timeout_s) {
  obey_cancel();
  exchange_bytes();
  if (failure_) throw_failure();
  slimccl::check(!left_, ncclInvalidUsage, "this rank has left the communicator");
  slimccl::check(link_ == Link::kOpen, ncclRemoteError, "the rendezvous at ", server_.text(),
                 " is gone: the process that made the unique id must live as long as its "
                 "communicator sets up");
  Writer gather(Type::kGather);
  push(gather.put(round_).put(timeout_s).put_bytes(mine));
  if (!wait([&] { return table_ || failure_; }, in(timeout_s + kGraceSeconds))) {
    note(ncclRemoteError, host_.value_or(-1),
         concat("the rendezvous at ", server_.text(), " does not answer within ", timeout_s, " s"));
  }
  if (!table_ && !failure_) {
    note(ncclRemoteError, -1,
         concat("the rendezvous at ", server_.text(), " ended during an exchange"));
  }
  if (!table_) throw_failure();
  const wire::Frame table = *std::exchange(table_, std::nullopt);
  ByteReader parser = wire::parse(table.payload);
  ensure(parser.get<uint32_t>() == round_++, "an exchange was answered with another one's table");
  std::vector<uint64_t> lengths(static_cast<size_t>(ranks_));
  for (uint64_t& length : lengths) length = parser.get<uint64_t>();
  std::vector<std::vector<std::byte>> result;
  for (const uint64_t length : lengths) {
    const ConstBytes bytes = parser.take(length);
    result.emplace_back(bytes.begin(), bytes.end());
  }
  return result;
}

std::optional<RankFailure> Star::check() noexcept {
  try {
    exchange_bytes();
    pay_answers();
    if (failure_) return RankFailure{failure_->rank, failure_->reason};
  } catch (const std::exception& error) {
    log::warn("cannot tell whether a rank failed: ", error.what());
  }
  return std::nullopt;
}

void Star::report(const RankFailure& failure) noexcept {
  try {
    exchange_bytes();  // an earlier one goes first, here too
    if (failure_ || left_) return;
    Writer writer(Type::kReport);
    push(writer.put(int32_t{failure.rank}).put_text(failure.reason));
    exchange_bytes();
    unanswered_ = failure;
    // The server answers everybody, us included, with the first report of all; our own counts only
    // where there is no server to ask.
    if (link_ == Link::kClosed) note(ncclRemoteError, failure.rank, failure.reason);
  } catch (const std::exception& error) {
    log::warn("cannot report the failure of rank ", failure.rank, ": ", error.what());
  }
}

// Flushes only: reading more might swallow a question that wait_fd() then would not tell of.
void Star::pay_answers() {
  if (link_ == Link::kClosed) return;
  for (wire::Packet& answer : inquiry_.pay()) push(std::move(answer));
  (void)outbox_.flush(socket_.get());  // an error shows at the next look
}

void Star::on_question(std::function<std::string()> answerer) {
  inquiry_.answer_by(std::move(answerer));
}

void Star::ask() noexcept {
  try {
    push(inquiry_.ask(rank_));
    exchange_bytes();
  } catch (const std::exception& error) {
    log::warn("cannot ask the other ranks what they are doing: ", error.what());
  }
}

std::vector<std::optional<std::string>> Star::answers() const { return inquiry_.answers(ranks_); }

void Star::obey_cancel() {
  if (!cancel_.wished()) return;
  Writer writer(Type::kAbort);
  writer.put_text(kCancelled);
  farewell(writer, kHastyFarewellSeconds);
  Cancel::give_up();
}

void Star::farewell(Writer& writer, double seconds) noexcept {
  if (left_) return;
  left_ = true;
  try {
    push(writer);
    (void)wait([&] { return heard_; }, in(seconds));
  } catch (const std::exception& error) {
    log::warn("cannot leave the communicator in order: ", error.what());
  }
  link_ = Link::kClosed;
  socket_.silence();
}

void Star::leave() noexcept {
  Writer writer(Type::kLeave);
  farewell(writer, kFarewellSeconds);
}

void Star::abort(const std::string& reason) noexcept {
  Writer writer(Type::kAbort);
  writer.put_text(reason);
  farewell(writer, kFarewellSeconds);
}

}  // namespace

ncclUniqueId make_unique_id(const Config& config) {
  return make_process_id(config, wire::Id::Kind::kPlain);
}

ncclUniqueId make_family_id(const Config& config) {
  return make_process_id(config, wire::Id::Kind::kFamily);
}

ncclUniqueId branch_of(const ncclUniqueId& family, uint64_t branch) {
  wire::Id id = wire::parse_id(family);
  id.kind = wire::Id::Kind::kBranch;
  id.branch = branch;
  return wire::to_unique_id(id);
}

void withdraw_id(const ncclUniqueId& id) noexcept {
  try {
    withdraw_process_id(wire::parse_id(id));
  } catch (const std::exception& error) {
    log::warn("cannot withdraw a unique id: ", error.what());
  }
}

std::unique_ptr<Bootstrap> Bootstrap::join(const ncclUniqueId& unique_id, int ranks, int rank,
                                           double timeout_s, const std::atomic<bool>* flag) {
  const Cancel cancel(flag);
  const wire::Id id = wire::parse_id(unique_id);
  slimccl::check(id.kind != wire::Id::Kind::kFamily, ncclInvalidArgument,
                 "this unique id is of a family of meetings: join one of them, made by branch_of");
  const auto start = Clock::now();
  const bool sound = ranks >= 1 && ranks <= wire::kMaxRanks && rank >= 0 && rank < ranks;
  // An unsound rank goes there as well, so that the others need not wait for it; but not for long.
  const double limit_s = sound ? timeout_s : std::min(timeout_s, 3.0);
  Hello hello{id.number, {},      id.secret,     ranks, rank, process_hosts(id.server),
              timeout_s, limit_s, process_name()};
  if (id.kind == wire::Id::Kind::kBranch) hello.branch = id.branch;
  try {
    auto star =
        std::make_unique<Star>(connect_to(id.server, in(limit_s), timeout_s, cancel), id, cancel);
    hello.remaining_s = limit_s - std::chrono::duration<double>(Clock::now() - start).count();
    star->enter(hello);
    return star;
  } catch (const Error& error) {
    slimccl::check(sound || error.code() == ncclInvalidUsage, ncclInvalidUsage, "rank ", rank,
                   " of ", ranks,
                   " ranks is out of range; correct the arguments of ncclCommInitRank");
    throw;
  }
}

}  // namespace slimccl::runtime
