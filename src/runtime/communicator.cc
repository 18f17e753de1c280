#include "runtime/communicator.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/variant.h"
#include "runtime/in_place.h"

namespace slimccl::runtime {
namespace {

using collectives::Collective;
using collectives::Shape;

Shape shape_of(const Call& call) {
  return {.op = call.op,
          .type = call.type,
          .count = call.count,
          .scaling = call.how.scaling,
          .reduction = call.how.reduction,
          .divides = call.how.divides,
          .root = call.root};
}

// The exchange of signatures ahead of a checked call.
Operation check_operation(const Signature& mine, std::vector<Signature>& all) {
  const Shape shape{.op = Collective::kAllGather, .type = ncclUint8, .count = sizeof mine};
  return {shape,
          {&collectives::find_row(shape.op, "direct"), {}, "", ""},
          reinterpret_cast<const std::byte*>(&mine),
          reinterpret_cast<std::byte*>(all.data()),
          collectives::Alias::none(),
          false};
}

}  // namespace

Communicator::Communicator(Agreement agreement, int rank, std::string name,
                           std::unique_ptr<Bootstrap> bootstrap)
    : agreement_(std::move(agreement)),
      rank_(rank),
      name_(std::move(name)),
      timeout_(config().timeout_s),
      setup_timeout_s_(config().setup_timeout_s),
      bootstrap_(std::move(bootstrap)) {}

Communicator::~Communicator() { withdraw_id(agreement_.families[static_cast<size_t>(rank_)]); }

void Communicator::adopt(std::unique_ptr<Router> router) {
  router_ = std::move(router);
  executor_ = std::make_unique<ProgressExecutor>(
      agreement_.topology, rank_, *router_,
      ExecutorLimits{agreement_.segment_elems, agreement_.window, kArenaBytes});
  transfers_ =
      std::make_unique<TransferExecutor>(agreement_.topology, rank_, *router_, agreement_.checks,
                                         variant().sends_wait_for_receives && !agreement_.checks);
  signatures_.resize(agreement_.checks ? static_cast<size_t>(ranks()) : 0);
  bootstrap_->on_question([this] { return doing(); });
}

collectives::Choice Communicator::choice_for(const Shape& shape, bool paused) {
  constexpr size_t kKept = 64;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find_if(decided_, [&](const Decided& each) {
      return each.shape == shape && each.paused == paused;
    });
    if (found != decided_.end()) return found->choice;
  }
  collectives::Choice choice = select(shape, agreement_.topology, agreement_.policy, paused);
  if (config().explain)
    log::notice("SLIMCCL_EXPLAIN on rank ", rank_, ": ", explain(shape, paused));
  const std::lock_guard lock(mutex_);
  if (decided_.size() == kKept) decided_.erase(decided_.begin());
  decided_.push_back({shape, paused, choice});
  return choice;
}

std::optional<Operation> Communicator::decide(const Call& call, bool paused) {
  const BufferLayout layout = layout_of(call, ranks(), rank_);
  if (call.count == 0 && !agreement_.checks) return std::nullopt;
  const Shape shape = shape_of(call);
  const collectives::Choice choice = choice_for(shape, paused);
  return Operation{cut_by(*choice.row, shape),
                   choice,
                   static_cast<const std::byte*>(call.input),
                   static_cast<std::byte*>(call.output),
                   layout.alias,
                   layout.in_place,
                   call.how.scale,
                   call.how.device_scalar};
}

void Communicator::check_process() const {
  check(lease_.engine().alive_here(), ncclInvalidUsage,
        "this communicator was made before a fork: only the parent process can use it");
}

void Communicator::submit(Work work) {
  check_process();
  {
    const std::lock_guard lock(mutex_);
    check(async_error_ == ncclSuccess, async_error_, async_text_,
          "; abort this communicator and make a new one");
    check(!closed_, ncclInvalidArgument, "the communicator has been destroyed or aborted");
    check(!revoked_, ncclInvalidUsage,
          "the communicator has been revoked: split, shrink, destroy or abort it");
    check(!finalized_, ncclInvalidUsage, "the communicator has been finalized: destroy it");
    queue_.push_back(std::move(work));
    ++unfinished_;
  }
  Engine::instance().wake();
}

// Takes the next work if what it waits for is done.
bool Communicator::start_next() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty()) return false;
  const auto done = [](const auto& completion) { return completion->done(); };
  const Work& next = queue_.front();
  if (!std::ranges::all_of(next.after, done)) return false;
  if (next.ready && !next.ready->done()) return false;
  if (next.ready) next.ready->check_success();
  current_ = std::move(queue_.front());
  queue_.pop_front();
  next_collective_ = 0;
  last_progress_ = Clock::now();
  const collectives::WireBytes before = transfers_->sent();
  transfers_->start(current_->transfers);
  stats_.transfers += current_->transfers.size();
  stats_.bytes_in_node += transfers_->sent().in_node - before.in_node;
  const uint64_t across = transfers_->sent().between_nodes - before.between_nodes;
  stats_.bytes_between_nodes += across;
  stats_.exact_bytes_between_nodes += across;
  return true;
}

void Communicator::begin(const Operation& operation) {
  checking_ = false;
  sent_before_ = executor_->sent();
  executor_->start(operation);
}

void Communicator::begin_check(const Operation& operation) {
  checking_ = true;
  signature_ = signature_of(operation.shape, calls_begun_);
  executor_->start(check_operation(signature_, signatures_));
}

// False: the ranks disagree. All of them find the same, but whoever is told first may leave before
// the others have its word: so they are told, too. Where messages are under way in the caller's
// buffers, the transports must let go of those first.
bool Communicator::checked() {
  const std::string difference = disagreement(signatures_);
  if (difference.empty()) return true;
  const std::string text = concat("SLIMCCL_CHECK: the ranks make different calls: ", difference);
  bootstrap_->report({-1, text});
  if (!transfers_->idle()) {
    fail(ncclInvalidUsage, text);
    return false;
  }
  draining_ = true;
  end_all(ncclInvalidUsage, text);
  return false;
}

// The executor is idle: what comes next in the work under way?
bool Communicator::go_on() {
  auto& calls = current_->collectives;
  if (running_) {
    running_ = false;
    if (checking_) {
      if (!checked()) return true;
      running_ = true;
      begin(calls[next_collective_ - 1]);
      return true;
    }
    count_finished(calls[next_collective_ - 1]);
    if (!current_->gates.empty())
      current_->gates[next_collective_ - 1].done->finish_part(ncclSuccess, "");
  }
  if (next_collective_ < calls.size()) {
    if (!gate_open()) return false;
    const Operation& operation = calls[next_collective_++];
    running_ = true;
    ++calls_begun_;
    agreement_.checks ? begin_check(operation) : begin(operation);
    return true;
  }
  if (!transfers_->idle()) return false;
  finish_current(ncclSuccess, "");
  return true;
}

// Is what the next collective works on there? Its stream may take its time: that is no standstill.
bool Communicator::gate_open() {
  if (current_->gates.empty()) return true;
  const Completion& ready = *current_->gates[next_collective_].ready;
  last_progress_ = Clock::now();
  if (!ready.done()) return false;
  ready.check_success();
  return true;
}

void Communicator::count_finished(const Operation& operation) {
  const std::lock_guard lock(mutex_);
  const auto& sent = executor_->sent();
  const uint64_t across = sent.between_nodes - sent_before_.between_nodes;
  const bool lossy = operation.choice.row->lossy;
  ++stats_.calls;
  ++stats_.calls_by_kind[operation.choice.kind];
  stats_.compressed_calls += lossy ? 1 : 0;
  stats_.bytes_between_nodes += across;
  stats_.bytes_in_node += sent.in_node - sent_before_.in_node;
  stats_.exact_bytes_between_nodes +=
      lossy ? rank_out_bytes(operation.shape, agreement_.topology, {}, rank_) : across;
}

void Communicator::finish_current(ncclResult_t code, const std::string& text) {
  const Work finished = std::move(*current_);
  current_.reset();
  const std::lock_guard lock(mutex_);
  --unfinished_;
  finish(finished, code, text);
  changed_.notify_all();
}

// Whoever waits for one of its collectives hears of it, too.
void Communicator::finish(const Work& work, ncclResult_t code, const std::string& text) {
  for (const Gate& gate : work.gates) {
    if (!gate.done->done()) gate.done->finish_part(code, text);
  }
  work.completion->finish_part(code, text);
}

// Every work under way or waiting, and every later one, ends with this.
void Communicator::end_all(ncclResult_t code, const std::string& text) {
  running_ = false;
  // The reason is there before a caller hears of its work: it will ask for it at once.
  if (async_error_ == ncclSuccess) {
    const std::lock_guard lock(mutex_);
    async_text_ = text;
    async_error_ = code;
    log::warn("rank ", rank_, " of ", ranks(), name_.empty() ? "" : " of ", name_, ": ", text);
  }
  if (current_) finish_current(code, text);
  const std::lock_guard lock(mutex_);
  for (const Work& work : queue_) finish(work, code, text);
  unfinished_ -= queue_.size();
  queue_.clear();
  changed_.notify_all();
}

bool Communicator::progress() noexcept {
  try {
    look_at_bootstrap();
    if (async_error_ != ncclSuccess) return draining_ && router_->progress();
    bool moved = router_->progress();
    if (!current_) moved |= start_next();
    if (current_) {
      // What the router moves may be keepalives or another communicator's: no sign of life here.
      const bool advanced = static_cast<int>(executor_->progress()) | transfers_->progress();
      if (advanced) last_progress_ = Clock::now();
      moved |= advanced;
      const auto& failure = executor_->failure() ? executor_->failure() : transfers_->failure();
      if (failure) {
        see_failure(*failure);
      } else if (!transfers_->mismatch().empty()) {
        fail_here(ncclInvalidUsage, concat("SLIMCCL_CHECK: ", transfers_->mismatch()));
      } else if (executor_->idle()) {
        moved |= go_on();
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

bool Communicator::arm() noexcept {
  return (async_error_ != ncclSuccess && !draining_) || router_->arm();
}

void Communicator::add_wait_fds(std::vector<int>& fds) const {
  if (async_error_ != ncclSuccess && !draining_) return;
  router_->add_wait_fds(fds);
  if (bootstrap_->wait_fd() >= 0) fds.push_back(bootstrap_->wait_fd());
}

}  // namespace slimccl::runtime
