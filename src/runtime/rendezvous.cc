#include "runtime/rendezvous.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "runtime/rendezvous_loop.h"
#include "topology/identity.h"

namespace slimccl::runtime {
namespace {

constexpr int kBacklog = 4096;  // all ranks of a large job may come in the same instant

// The one mutable global of the runtime: ids are made before there is any communicator to own their
// server.
class ProcessServer {
 public:
  static ProcessServer& instance() {
    // Never destroyed: other threads, and destructors that run later, may still call.
    static auto* const self = new ProcessServer;
    return *self;
  }

  ncclUniqueId make_id(const Config& config, wire::Id::Kind kind) {
    const std::lock_guard lock(mutex_);
    check(!closed_, ncclInvalidUsage, "no unique id can be made: this process is ending");
    if (server_ && !server_->alive_here()) abandon();
    if (!server_) server_ = std::make_unique<Rendezvous>(topology::reachable_address(config));
    return server_->make_id(kind);
  }

  bool hosts(const wire::Endpoint& endpoint) noexcept {
    const std::lock_guard lock(mutex_);
    return serves() && server_->endpoint() == endpoint;
  }

  void withdraw(const wire::Id& id) {
    const std::lock_guard lock(mutex_);
    if (serves() && server_->endpoint() == id.server) server_->withdraw(id);
  }

  Holdings holdings() {
    const std::lock_guard lock(mutex_);
    return serves() ? server_->holdings() : Holdings{};
  }

 private:
  // The thread logs until the end: have the log's own statics made first, so that they go last.
  ProcessServer() {
    (void)log::enabled(log::Level::kWarn);
    std::atexit([] { instance().close(); });
  }
  // The process ends: the thread must, before what it uses goes. No lock in a forked child: there
  // it may be held for ever by a thread that the child does not have.
  void close() noexcept {
    if (server_ && !server_->alive_here()) return;
    const std::lock_guard lock(mutex_);
    closed_ = true;
    if (server_) server_->stop();
  }
  [[nodiscard]] bool serves() const noexcept {
    return server_ && server_->alive_here() && !closed_;
  }
  // In a forked child: there is no thread to join, so the copy is left alone.
  void abandon() noexcept { (void)server_.release(); }

  std::mutex mutex_;
  bool closed_ = false;
  std::unique_ptr<Rendezvous> server_;
};

wire::Socket listen_on(const wire::Endpoint& endpoint) {
  wire::Socket listener = wire::Socket::open([&] {
    return socket(endpoint.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  });
  check(listener && bind(listener.get(), endpoint.raw(), endpoint.bytes) == 0 &&
            listen(listener.get(), kBacklog) == 0,
        ncclSystemError, "cannot listen on ", endpoint.ip(), ": ", std::strerror(errno),
        "; set SLIMCCL_ADDRESS to an address of this machine that all ranks can reach");
  return listener;
}

}  // namespace

Rendezvous::Rendezvous(const std::string& ip)
    : process_(getpid()),
      listener_(listen_on(wire::Endpoint::of(ip, 0))),
      endpoint_(wire::Endpoint::of(ip, 0)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  check(static_cast<bool>(wake_), ncclSystemError, "no eventfd: ", std::strerror(errno));
  socklen_t bytes = sizeof endpoint_.storage;
  check(getsockname(listener_.get(), endpoint_.raw(), &bytes) == 0, ncclSystemError,
        "a listening socket has no name: ", std::strerror(errno));
  // The application's signals are not for our thread: it inherits the mask of this moment.
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  try {
    thread_ = std::thread([this] { RendezvousLoop(*this).run(); });
  } catch (const std::exception& error) {
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    throw Error(ncclSystemError, concat("cannot start the rendezvous thread: ", error.what()));
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

Rendezvous::~Rendezvous() { stop(); }

void Rendezvous::stop() noexcept {
  if (!thread_.joinable()) return;
  stopping_ = true;
  wake();
  thread_.join();
}

bool Rendezvous::alive_here() const noexcept { return process_ == getpid(); }

ncclUniqueId Rendezvous::make_id(wire::Id::Kind kind) {
  wire::Id id{endpoint_, 0, wire::random_secret(), kind};
  const std::lock_guard lock(mutex_);
  id.number = next_number_++;
  known_[id.number] = {id.secret, kind == wire::Id::Kind::kFamily};
  return wire::to_unique_id(id);
}

void Rendezvous::withdraw(const wire::Id& id) {
  if (id.kind == wire::Id::Kind::kBranch) return;  // its family has others
  const std::lock_guard lock(mutex_);
  const auto found = known_.find(id.number);
  if (found == known_.end() || !wire::equal_secrets(found->second.secret, id.secret)) return;
  known_.erase(found);
  wake();  // what it kept for those who come late is to go
}

Holdings Rendezvous::holdings() const {
  const std::lock_guard lock(mutex_);
  return {known_.size(), meetings_};
}

bool Rendezvous::recognises(const Hello& hello) const {
  const std::lock_guard lock(mutex_);
  const auto found = known_.find(hello.number);
  return found != known_.end() && wire::equal_secrets(found->second.secret, hello.secret) &&
         found->second.family == hello.branch.has_value();
}

bool Rendezvous::knows(uint64_t number) const {
  const std::lock_guard lock(mutex_);
  return known_.contains(number);
}

void Rendezvous::forget(uint64_t number) {
  const std::lock_guard lock(mutex_);
  known_.erase(number);
}

void Rendezvous::wake() const noexcept {
  const uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof one);  // full means it is awake
}

ncclUniqueId make_process_id(const Config& config, wire::Id::Kind kind) {
  return ProcessServer::instance().make_id(config, kind);
}

void withdraw_process_id(const wire::Id& id) { ProcessServer::instance().withdraw(id); }

Holdings process_holdings() { return ProcessServer::instance().holdings(); }

bool process_hosts(const wire::Endpoint& endpoint) noexcept {
  return ProcessServer::instance().hosts(endpoint);
}

}  // namespace slimccl::runtime
