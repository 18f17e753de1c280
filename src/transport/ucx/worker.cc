#include "transport/ucx/worker.h"

#include <dlfcn.h>
#include <signal.h>
#include <ucs/debug/debug.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "base/config.h"
#include "base/error.h"
#include "base/log.h"

// Not part of UCX's stable interface: a later libucs may lack it (and then installs no handlers by
// default).
#pragma weak ucs_debug_disable_signal

namespace slimccl::transport {
namespace ucx {
namespace {

// Before this version a peer's death during large zero-copy sends aborts the survivor (seen
// with 1.13.1, not with 1.22.0; nothing between was tried): copy everything.
constexpr unsigned kFirstSafeZeroCopyMinor = 22;
constexpr std::chrono::seconds kClosing{1};  // at most, for endpoints to be flushed or closed
constexpr std::chrono::milliseconds kQuiet{10};

bool zero_copy_is_safe() {
  unsigned major = 0, minor = 0, release = 0;
  ucp_get_version(&major, &minor, &release);
  return major > 1 || minor >= kFirstSafeZeroCopyMinor;
}

void set_option(ucp_config_t* config, const char* name, const std::string& value) {
  const ucs_status_t status = ucp_config_modify(config, name, value.c_str());
  check(status == UCS_OK, ncclInvalidUsage, "UCX does not accept UCX_", name, "=", value, ": ",
        ucs_status_string(status), "; correct the setting");
}

Handle<ucp_config_t*, ucp_config_release> configure(const UcxOptions& options) {
  ucp_config_t* raw = nullptr;
  check_ucx(ucp_config_read(nullptr, nullptr, &raw),
            "ucp_config_read (are the UCX_* variables right?)");
  Handle<ucp_config_t*, ucp_config_release> config(raw);
  if (!options.tls.empty()) set_option(raw, "TLS", options.tls);
  if (!options.net_devices.empty()) set_option(raw, "NET_DEVICES", options.net_devices);
  if (!environment_variable("UCX_KEEPALIVE_INTERVAL")) {
    set_option(raw, "KEEPALIVE_INTERVAL", options.keepalive_interval);
  }
  if (!zero_copy_is_safe()) {
    set_option(raw, "ZCOPY_THRESH", "inf");
    set_option(raw, "RNDV_THRESH", "inf");
  }
  return config;
}

// Older UCX catches SIGSEGV and friends as soon as it is loaded; they are the application's.
void give_back_signals() {
  if (&ucs_debug_disable_signal == nullptr) return;
  Dl_info ours{}, theirs{};
  if (dladdr(reinterpret_cast<void*>(&ucs_debug_disable_signal), &ours) == 0) return;
  for (const int number : {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGABRT}) {
    struct sigaction action {};
    if (sigaction(number, nullptr, &action) != 0 || (action.sa_flags & SA_SIGINFO) == 0) continue;
    if (dladdr(reinterpret_cast<void*>(action.sa_sigaction), &theirs) == 0) continue;
    if (theirs.dli_fbase == ours.dli_fbase) ucs_debug_disable_signal(number);
  }
}

}  // namespace

void check_ucx(ucs_status_t status, const char* what) {
  check(status == UCS_OK, ncclSystemError, "UCX ", ucx_version(), ": ", what,
        " failed: ", ucs_status_string(status), "; UCX_LOG_LEVEL=info shows more");
}

Worker::Worker(const UcxOptions& options) {
  const auto config = configure(options);
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.mt_workers_shared = 0;
  ucp_context_h context = nullptr;
  check_ucx(ucp_init(&params, config.get(), &context), "ucp_init");
  context_.reset(context);
  give_back_signals();

  ucp_worker_params_t worker_params{};
  worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker_params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  ucp_worker_h worker = nullptr;
  check_ucx(ucp_worker_create(context, &worker_params, &worker), "ucp_worker_create");
  worker_.reset(worker);
  check_ucx(ucp_worker_get_efd(worker, &fd_), "ucp_worker_get_efd");

  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                       UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kMessageId;
  handler.cb = &Worker::on_message;
  handler.arg = this;
  check_ucx(ucp_worker_set_am_recv_handler(worker, &handler), "ucp_worker_set_am_recv_handler");
  log::info("UCX ", ucx_version(),
            zero_copy_is_safe() ? "" : " (copying all messages: zero copy is unsafe in it)");
}

Worker::~Worker() {
  if (!channels_.empty())
    log::warn("a UCX worker is destroyed with ", channels_.size(), " communicators still open");
  settle(true);
  for (const auto& [address, connection] : connections_) close(*connection);
  settle(false);
  for (const ucs_status_ptr_t closing : closing_) ucp_request_free(closing);
}

// Progresses until what is being closed is, and nothing has come for a while. UCX 1.13 fails an
// assertion if its worker is closed while it answers a peer that is just connecting.
void Worker::settle(bool flush) noexcept {
  using Clock = std::chrono::steady_clock;
  if (flush) {
    const ucp_request_param_t param{};
    const ucs_status_ptr_t request = ucp_worker_flush_nbx(handle(), &param);
    if (UCS_PTR_IS_PTR(request)) closing_.push_back(request);
  }
  const auto limit = Clock::now() + kClosing;
  auto last_moved = Clock::now();
  while (Clock::now() < limit && (!closing_.empty() || Clock::now() < last_moved + kQuiet)) {
    if (progress() != 0) {
      last_moved = Clock::now();
    } else {
      usleep(100);
    }
  }
}

void Worker::close_channel(uint32_t number) noexcept {
  const auto found = channels_.find(number);
  if (found == channels_.end()) return;
  const auto is_its = [&](const Connection::User& user) { return user.channel == found->second; };
  for (const auto& [address, connection] : connections_) std::erase_if(connection->users, is_its);
  for (const auto& connection : broken_) std::erase_if(connection->users, is_its);
  channels_.erase(found);
}

std::shared_ptr<Connection> Worker::connect(const std::string& address, Connection::User user,
                                            ucs_status_t& status) {
  std::shared_ptr<Connection>& known = connections_[address];
  if (!known) {
    auto made = std::make_shared<Connection>(Connection{.owner = this, .broken = {}, .users = {}});
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                        UCP_EP_PARAM_FIELD_ERR_HANDLER;
    params.address = reinterpret_cast<const ucp_address_t*>(address.data());
    params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
    params.err_handler.cb = &Worker::on_error;
    params.err_handler.arg = made.get();
    status = ucp_ep_create(handle(), &params, &made->endpoint);
    if (status != UCS_OK) {
      connections_.erase(address);
      return nullptr;
    }
    known = std::move(made);
  }
  known->users.push_back(user);
  return known;
}

void Worker::on_error(void* argument, ucp_ep_h, ucs_status_t status) {
  Connection& connection = *static_cast<Connection*>(argument);
  connection.owner->break_connection(connection, status);
}

void Worker::break_connection(Connection& connection, ucs_status_t status) noexcept {
  if (connection.broken) return;
  connection.broken = status;
  for (auto at = connections_.begin(); at != connections_.end(); ++at) {
    if (at->second.get() != &connection) continue;
    broken_.push_back(
        std::move(at->second));  // no longer found: a new communicator makes a new one
    connections_.erase(at);
    break;
  }
  for (const Connection::User& user : connection.users) user.channel->lost(user.rank, status);
}

// By force: an orderly close waits for the peer's progress, and what it would flush has been
// flushed.
void Worker::close(Connection& connection) noexcept {
  if (connection.endpoint == nullptr) return;
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  const ucs_status_ptr_t request =
      ucp_ep_close_nbx(std::exchange(connection.endpoint, nullptr), &param);
  if (UCS_PTR_IS_PTR(request)) closing_.push_back(request);
}

unsigned Worker::progress() noexcept {
  const unsigned moved = ucp_worker_progress(handle());
  for (const auto& connection : std::exchange(broken_, {})) close(*connection);
  std::erase_if(closing_, [](ucs_status_ptr_t request) {
    if (ucp_request_check_status(request) == UCS_INPROGRESS) return false;
    ucp_request_free(request);
    return true;
  });
  return moved;
}

std::vector<std::byte> Worker::address() const {
  ucp_address_t* address = nullptr;
  size_t bytes = 0;
  check_ucx(ucp_worker_get_address(handle(), &address, &bytes), "ucp_worker_get_address");
  const auto* first = reinterpret_cast<const std::byte*>(address);
  std::vector<std::byte> copy(first, first + bytes);
  ucp_worker_release_address(handle(), address);
  return copy;
}

uint32_t Worker::open_channel(Channel& channel) {
  channels_.emplace(next_channel_, &channel);
  return next_channel_++;
}

ucs_status_t Worker::on_message(void* self, const void* header_data, size_t header_bytes,
                                void* data, size_t bytes, const ucp_am_recv_param_t* param) {
  Worker& worker = *static_cast<Worker*>(self);
  Arrival arrival{};
  if (header_bytes != sizeof arrival.header) return UCS_OK;  // a stranger's: dropped
  std::memcpy(&arrival.header, header_data, sizeof arrival.header);
  if (arrival.header.magic != kMagic) return UCS_OK;
  const auto channel = worker.channels_.find(arrival.header.channel);
  if (channel == worker.channels_.end()) {
    const bool can_answer = (param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) != 0;
    if (arrival.header.kind == Kind::kHello && can_answer)
      worker.answer_left(arrival.header, param->reply_ep);
    return UCS_OK;
  }
  arrival.data = data;
  arrival.bytes = bytes;
  arrival.rendezvous = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  arrival.can_keep = arrival.rendezvous || (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA) != 0;
  return channel->second->arrive(arrival) ? UCS_INPROGRESS : UCS_OK;
}

// Someone wants to talk to a communicator that this process has left already.
void Worker::answer_left(const Header& hello, ucp_ep_h reply_to) noexcept {
  auto answer = std::make_unique<Header>(Header{.magic = kMagic,
                                                .channel = static_cast<uint32_t>(hello.tag),
                                                .sender = static_cast<int32_t>(hello.bytes),
                                                .kind = Kind::kLeft,
                                                .tag = 0,
                                                .bytes = 0});
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.user_data = answer.get();
  param.cb.send = [](void* request, ucs_status_t, void* header) {
    delete static_cast<Header*>(header);
    ucp_request_free(request);
  };
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(reply_to, kMessageId, answer.get(), sizeof *answer, nullptr, 0, &param);
  if (UCS_PTR_IS_PTR(request)) (void)answer.release();  // the callback frees it
}

}  // namespace ucx

std::string ucx_version() {
  unsigned major = 0, minor = 0, release = 0;
  ucp_get_version(&major, &minor, &release);
  return concat(major, ".", minor, ".", release);
}

std::shared_ptr<UcxWorker> UcxWorker::make(const UcxOptions& options) {
  return std::make_shared<ucx::Worker>(options);
}

// A process-wide object in spite of the rule against globals: UCX opens its devices and an event
// thread per context, and one engine thread can sleep on one worker only. It is only a weak
// reference; the communicators own the worker.
std::shared_ptr<UcxWorker> UcxWorker::shared(const UcxOptions& options) {
  static std::mutex mutex;
  static std::weak_ptr<UcxWorker> process_worker;
  const std::lock_guard lock(mutex);
  auto worker = process_worker.lock();
  if (!worker) process_worker = worker = make(options);
  return worker;
}

}  // namespace slimccl::transport
