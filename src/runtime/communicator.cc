#include "runtime/communicator.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace slimccl::runtime {
namespace {

using collectives::Alias;
using collectives::Collective;
using collectives::Shape;
using std::chrono::milliseconds;

// How often the bootstrap's connection is looked at while operations keep the engine busy.
constexpr auto kBootstrapPeriod = milliseconds(2);
constexpr auto kIdleBootstrapPeriod = milliseconds(20);
// How long a transport's bad news waits for the bootstrap's word on who was first to go.
constexpr auto kSuspicion = milliseconds(1000);
// Scratch of one communicator at most; the same on all ranks, since it bounds the segments.
constexpr uint64_t kArenaBytes = uint64_t{256} << 20;

Shape shape_of(const Call& call) {
  return {.op = call.op, .type = call.type, .count = call.count, .scaling = call.scaling};
}

struct Layout {
  Alias alias;
  bool in_place;
};

// NCCL's in-place forms, or no overlap at all; anything else would be undefined behaviour.
Layout layout_of(const Call& call, int ranks, int rank) {
  const auto count = call.count * quant::type_bytes(call.type);
  const auto all = count * static_cast<uint64_t>(ranks);
  const uint64_t input_bytes = call.op == Collective::kReduceScatter ? all : count;
  const uint64_t output_bytes = call.op == Collective::kAllGather ? all : count;
  const auto input = reinterpret_cast<uintptr_t>(call.input),
             output = reinterpret_cast<uintptr_t>(call.output);
  if (count == 0 || input + input_bytes <= output || output + output_bytes <= input)
    return {Alias::none(), false};
  const auto offset = static_cast<int64_t>(output - input);
  const auto slot = static_cast<int64_t>(count * static_cast<uint64_t>(rank));
  const int64_t expected = call.op == Collective::kAllGather       ? -slot
                           : call.op == Collective::kReduceScatter ? slot
                                                                   : 0;
  check(offset == expected, ncclInvalidArgument, name(call.op),
        ": sendbuff and recvbuff overlap, with recvbuff ", offset,
        " bytes after sendbuff; that works only for the in-place form, ", expected,
        " bytes on rank ", rank);
  return {Alias::at(offset), true};
}

}  // namespace

Communicator::Communicator(Agreement agreement, int rank, std::unique_ptr<Bootstrap> bootstrap)
    : agreement_(std::move(agreement)),
      rank_(rank),
      timeout_(config().timeout_s),
      bootstrap_(std::move(bootstrap)) {}

void Communicator::adopt(std::unique_ptr<Router> router) {
  router_ = std::move(router);
  executor_ = std::make_unique<ProgressExecutor>(
      agreement_.topology, rank_, *router_,
      ExecutorLimits{agreement_.segment_elems, agreement_.window, kArenaBytes});
}

collectives::Choice Communicator::choice_for(const Shape& shape) {
  constexpr size_t kKept = 64;
  {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::ranges::find(decided_, shape, [](const auto& entry) { return entry.first; });
    if (found != decided_.end()) return found->second;
  }
  collectives::Choice choice = select(shape, agreement_.topology, agreement_.policy);
  if (config().explain) log::notice("SLIMCCL_EXPLAIN on rank ", rank_, ": ", explain(shape));
  const std::lock_guard lock(mutex_);
  if (decided_.size() == kKept) decided_.erase(decided_.begin());
  decided_.emplace_back(shape, choice);
  return choice;
}

Operation Communicator::decide(const Call& call) {
  const Layout layout = layout_of(call, ranks(), rank_);
  const Shape shape = shape_of(call);
  return {shape,
          choice_for(shape),
          static_cast<const std::byte*>(call.input),
          static_cast<std::byte*>(call.output),
          layout.alias,
          layout.in_place,
          call.scale};
}

void Communicator::check_process() const {
  check(lease_.engine().alive_here(), ncclInvalidUsage,
        "this communicator was made before a fork: only the parent process can use it");
}

void Communicator::run(const Call& call) {
  check_process();
  auto ticket = std::make_shared<Ticket>(Ticket{.operation = decide(call), .message = {}});
  std::unique_lock lock(mutex_);
  check(async_error_ == ncclSuccess, async_error_, async_text_,
        "; abort this communicator and make a new one");
  check(!closed_, ncclInvalidArgument, "the communicator has been destroyed or aborted");
  queue_.push_back(ticket);
  lock.unlock();
  Engine::instance().wake();
  lock.lock();
  changed_.wait(lock, [&] { return ticket->done; });
  check(ticket->code == ncclSuccess, ticket->code, ticket->message);
}

bool Communicator::start_next() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty()) return false;
  current_ = std::move(queue_.front());
  queue_.pop_front();
  sent_before_ = executor_->sent();
  last_progress_ = Clock::now();
  executor_->start(current_->operation);
  return true;
}

void Communicator::finish_current(ncclResult_t code, const std::string& message) {
  const std::lock_guard lock(mutex_);
  current_->code = code;
  current_->message = message;
  current_->done = true;
  current_.reset();
  changed_.notify_all();
}

void Communicator::count_finished(const Operation& operation) {
  const std::lock_guard lock(mutex_);
  const auto& sent = executor_->sent();
  ++stats_.calls;
  ++stats_.calls_by_kind[operation.choice.kind];
  stats_.compressed_calls += operation.choice.row->lossy ? 1 : 0;
  stats_.bytes_between_nodes += sent.between_nodes - sent_before_.between_nodes;
  stats_.bytes_in_node += sent.in_node - sent_before_.in_node;
  stats_.exact_bytes_between_nodes +=
      rank_out_bytes(operation.shape, agreement_.topology, {}, rank_);
}

bool Communicator::progress() noexcept {
  try {
    look_at_bootstrap();
    if (async_error_ != ncclSuccess) return false;
    bool moved = router_->progress();
    if (!current_) moved |= start_next();
    if (current_) {
      // What the router moves may be keepalives or another communicator's: no sign of life here.
      const bool advanced = executor_->progress();
      if (advanced) last_progress_ = Clock::now();
      moved |= advanced;
      if (const auto& failure = executor_->failure()) {
        suspect({failure->rank, failure->reason});
      } else if (executor_->idle()) {
        count_finished(current_->operation);
        finish_current(ncclSuccess, "");
        moved = true;
      }
    }
    if (leaving_) look_at_flush();
    look_at_clock();
    return moved;
  } catch (const Error& error) {
    fail_here(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    fail_here(ncclSystemError, "out of memory");
  } catch (const std::exception& error) {
    fail_here(ncclInternalError, error.what());
  }
  return false;
}

// A failure that began on this rank: nobody else can know of it.
void Communicator::fail_here(ncclResult_t code, const std::string& text) noexcept {
  bootstrap_->report({-1, concat("rank ", rank_, " failed: ", text)});
  fail(code, text);
}

void Communicator::look_at_flush() {
  if (!router_->flushed()) return;
  const std::lock_guard lock(mutex_);
  leaving_ = false;
  changed_.notify_all();
}

void Communicator::suspect(const RankFailure& failure) noexcept {
  if (suspect_) return;
  suspect_ = failure;
  suspect_since_ = Clock::now();
  bootstrap_->report(failure);
}

void Communicator::look_at_bootstrap() {
  const auto now = Clock::now();
  const auto period = current_ ? kBootstrapPeriod : kIdleBootstrapPeriod;
  if (!bootstrap_ || now - last_bootstrap_look_ < period) return;
  last_bootstrap_look_ = now;
  if (async_error_ != ncclSuccess) return;
  auto failure = bootstrap_->check();
  if (!failure && suspect_ && now - suspect_since_ > kSuspicion) failure = suspect_;
  if (!failure) return;
  fail(ncclRemoteError, failure->rank < 0
                            ? failure->reason
                            : concat("rank ", failure->rank, " is lost: ", failure->reason));
}

void Communicator::look_at_clock() {
  if (!current_ || suspect_ || Clock::now() - last_progress_ < timeout_) return;
  const std::string text = concat(
      name(current_->operation.shape.op), " of ", current_->operation.shape.count,
      " elements made no progress for ", timeout_.count(),
      " s (SLIMCCL_TIMEOUT_S); this rank waits ", executor_->waiting_for(),
      ". Do all ranks make the same calls with the same counts and types in the same order?");
  bootstrap_->report({-1, concat("rank ", rank_, " gave up: ", text)});
  fail(ncclRemoteError, text);
}

void Communicator::fail(ncclResult_t code, const std::string& text) noexcept {
  // The transports let go of every buffer before a caller is told that it may have them back.
  router_->abort(text);
  executor_->drop();
  const std::lock_guard lock(mutex_);
  if (async_error_ != ncclSuccess) return;
  async_text_ = text;
  async_error_ = code;
  log::warn("rank ", rank_, " of ", ranks(), ": ", text);
  if (current_) queue_.push_front(std::move(current_));
  current_.reset();
  for (const auto& ticket : queue_) {
    ticket->code = code;
    ticket->message = text;
    ticket->done = true;
  }
  queue_.clear();
  changed_.notify_all();
}

bool Communicator::arm() noexcept { return async_error_ != ncclSuccess || router_->arm(); }

void Communicator::add_wait_fds(std::vector<int>& fds) const {
  if (async_error_ != ncclSuccess) return;
  router_->add_wait_fds(fds);
  if (bootstrap_->wait_fd() >= 0) fds.push_back(bootstrap_->wait_fd());
}

void Communicator::close(const std::function<void(Bootstrap&)>& farewell) {
  Engine& engine = Engine::instance();
  engine.remove(this);
  engine.run([&] {
    farewell(*bootstrap_);
    executor_.reset();
    router_.reset();
    bootstrap_.reset();
  });
}

void Communicator::destroy() {
  check_process();
  {
    std::unique_lock lock(mutex_);
    check(!closed_, ncclInvalidArgument, "the communicator has been destroyed or aborted already");
    closed_ = true;  // nothing new comes in any more
    changed_.wait(lock, [&] { return queue_.empty() && !current_; });
    leaving_ = async_error_ == ncclSuccess;
  }
  Engine::instance().wake();
  {
    // A slow peer may not have taken all of it yet. The engine goes on moving everybody meanwhile.
    std::unique_lock lock(mutex_);
    const auto left = [&] { return !leaving_ || async_error_ != ncclSuccess; };
    if (!changed_.wait_for(lock, timeout_, left)) {
      log::warn("rank ", rank_, " leaves although not all it sent has been taken");
    }
  }
  report_savings();
  close([](Bootstrap& bootstrap) { bootstrap.leave(); });
}

void Communicator::abort() {
  check_process();
  bool destroying = false;
  {
    const std::lock_guard lock(mutex_);
    destroying = std::exchange(closed_, true);
  }
  Engine::instance().run([&] {
    if (!router_) return;  // destroy() was faster
    bootstrap_->abort("its process called ncclCommAbort");
    if (async_error_ == ncclSuccess) {
      fail(ncclInvalidUsage, "this communicator was aborted by ncclCommAbort");
    }
  });
  if (!destroying) close([](Bootstrap&) {});
}

std::string Communicator::async_error_text() const {
  const std::lock_guard lock(mutex_);
  return async_text_;
}

Stats Communicator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

std::string Communicator::explain(const Shape& shape) const {
  const collectives::Choice choice = select(shape, agreement_.topology, agreement_.policy);
  const collectives::Codecs used = choice.row->lossy ? choice.codecs : collectives::Codecs{};
  const uint64_t sent = rank_out_bytes(shape, agreement_.topology, used, rank_);
  const uint64_t exact = rank_out_bytes(shape, agreement_.topology, {}, rank_);
  Shape segment = shape;
  segment.elems = segment_elems(shape, agreement_.topology,
                                {agreement_.segment_elems, agreement_.window, kArenaBytes});
  std::string text =
      concat(name(shape.op), " of ", shape.count, " x ", quant::type_name(shape.type), " on ",
             to_text(agreement_.topology), ": ", choice.row->name, " because ", choice.reason);
  text += concat("\ncodecs: partial sums ", quant::name(used.reduce), ", gathered ",
                 quant::name(used.gather));
  text += concat("\nrank ", rank_, " sends ", sent, " bytes to other nodes, exact ", exact,
                 "\nplan of one segment: ");
  return text +
         to_text(choice.row->plan(segment, agreement_.topology, choice.codecs, rank_, false));
}

void Communicator::report_start() const {
  if (!agreement_.warning.empty() && rank_ == 0) log::warn(agreement_.warning);
  if (rank_ != 0) return;
  const auto& policy = agreement_.policy;
  log::notice(ranks(), " ranks on ", agreement_.topology.nodes(), " node(s) (",
              to_text(agreement_.topology), "), profile ", policy.profile,
              policy.profile == "exact"
                  ? ": nothing is compressed (SLIMCCL_PROFILE=zeropp compresses between nodes)"
                  : concat(": calls of ", policy.floor_elems,
                           " elements per rank and more are compressed between nodes"));
}

void Communicator::report_savings() const {
  const Stats total = stats();
  if (rank_ != 0 || async_error_ != ncclSuccess) return;
  const auto ratio = static_cast<double>(total.exact_bytes_between_nodes) /
                     static_cast<double>(std::max<uint64_t>(1, total.bytes_between_nodes));
  std::string exact;
  for (const auto& [kind, calls] : total.calls_by_kind) {
    if (kind != "compressed") exact += concat(exact.empty() ? "" : ", ", calls, " (", kind, ")");
  }
  log::notice("rank 0: ", total.calls, " calls, ", total.compressed_calls, " compressed",
              exact.empty() ? "" : ", exact: ", exact, "; ", total.bytes_between_nodes,
              " bytes sent to other nodes, exact calls would have sent ",
              total.exact_bytes_between_nodes,
              total.bytes_between_nodes > 0 ? concat(": ", ratio, " times as many") : "");
}

}  // namespace slimccl::runtime
