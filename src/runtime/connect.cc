// How a communicator comes to be: meet, agree, make endpoints, exchange their addresses, connect,
// confirm. Each exchange also carries whether the step before went well, so that a failure on one
// rank is an error that names it on all ranks.
#include <unistd.h>

#include <array>
#include <map>
#include <mutex>

#include "base/error.h"
#include "base/log.h"
#include "runtime/communicator.h"
#include "runtime/serial.h"
#include "topology/discover.h"
#include "topology/identity.h"
#include "transport/loopback/loopback.h"
#include "transport/shm/endpoint.h"
#include "transport/ucx/endpoint.h"

namespace slimccl::runtime {
namespace {

using transport::LoopbackHub;

// Ranks of one communicator in one process meet by its unique id.
std::shared_ptr<LoopbackHub> hub_of(const ncclUniqueId& id, int ranks) {
  static std::mutex mutex;
  // Never destroyed, as is the machine below: a communicator may be made while the process exits.
  static auto& hubs = *new std::map<std::string, std::weak_ptr<LoopbackHub>>;
  const std::lock_guard lock(mutex);
  std::erase_if(hubs, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<LoopbackHub>& known = hubs[std::string(id.internal, sizeof id.internal)];
  std::shared_ptr<LoopbackHub> hub = known.lock();
  if (!hub) known = hub = transport::make_loopback_hub(ranks);
  return hub;
}

// A misspelt setting would be a silent no-op: said once per process.
void warn_of_unknown_settings() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (const std::string& line : unknown_settings(environment_names())) log::warn(line);
  });
}

Record own_record(const Config& settings) {
  Record record;
  record.version = SLIMCCL_VERSION;
  record.node = topology::node_identity(settings);
  std::array<char, 256> host{};
  (void)gethostname(host.data(), host.size() - 1);
  record.host = host.data();
  record.process = Engine::instance().process_name();
  record.ucx_version = transport::ucx_version();
  record.pid = static_cast<uint64_t>(getpid());
  record.profile = settings.profile == "zeropp" ? "zeropp" : "exact";  // the others are overlay's
  record.overrides = settings.algo;
  record.floor_elems = settings.floor_elems;
  record.segment_elems = settings.segment_elems;
  record.window = settings.window;
  record.net_gbits = settings.net_gbits;
  record.checks = settings.check ? 1 : 0;
  record.staging_mb = settings.staging_mb;
  return record;
}

// What one rank sends the others in an exchange: its addresses, or why it has none.
struct Step {
  std::string error;
  std::vector<std::byte> shm, ucx;
};

std::vector<std::byte> to_bytes(const Step& step) {
  ByteWriter writer;
  writer.put_block(step.error).put_block(ConstBytes(step.shm)).put_block(ConstBytes(step.ucx));
  return writer.finish();
}

Step step_from_bytes(ConstBytes bytes) {
  ByteReader reader(bytes, "a rank's set-up step");
  const auto block = [&] {
    const ConstBytes taken = reader.block();
    return std::vector<std::byte>(taken.begin(), taken.end());
  };
  Step step;
  step.error = reader.text();
  step.shm = block();
  step.ucx = block();
  return step;
}

}  // namespace

// One making of one communicator. Lives on the caller's thread; what touches transports runs on the
// engine's.
class Setup {
 public:
  Setup(const Membership& place, const Options& options)
      : id_(place.id), ranks_(place.ranks), rank_(place.rank), options_(options) {
    // A bad setting is told to all ranks in the record: they would wait for this one otherwise.
    try {
      settings_ = config();
      collectives::check_overrides(settings_.algo);
      family_ = make_family_id(settings_);
    } catch (const Error& error) {
      unsound_ = error.what();
    }
    timeout_s_ = settings_.setup_timeout_s;
  }

  std::shared_ptr<Communicator> run() {
    warn_of_unknown_settings();
    try {
      meet(Bootstrap::join(id_, ranks_, rank_, timeout_s_, options_.cancel));
    } catch (...) {
      if (!communicator_) withdraw_id(family_);  // else it is the communicator's to withdraw
      throw;
    }
    try {
      const std::vector<Step> addresses =
          exchange(attempt([&](Step& mine) { make_endpoints(mine); }));
      Step connected = attempt([&](Step&) { connect(addresses); });
      stage(connected);
      (void)exchange(connected);
      Engine::instance().run([&] { finish_endpoints(); });
    } catch (const std::exception& error) {
      Engine::instance().run([&] { forget(error.what()); });
      throw;
    }
    communicator_->report_start();
    Engine::instance().add(communicator_);
    return communicator_;
  }

 private:
  // All ranks' records, and what follows from them.
  void meet(std::unique_ptr<Bootstrap> bootstrap) {
    std::vector<Record> records;
    Record mine = own_record(settings_);
    mine.error = unsound_;
    mine.device = options_.device;
    mine.family.assign(family_.internal, sizeof family_.internal);
    for (const auto& bytes : bootstrap->all_gather(runtime::to_bytes(mine), timeout_s_)) {
      records.push_back(record_from_bytes(bytes));
    }
    Agreement agreement = agreed(records, *bootstrap);
    communicator_.reset(
        new Communicator(std::move(agreement), rank_, options_.name, std::move(bootstrap)));
    const auto& topology = communicator_->agreement_.topology;
    const Record& own = records[static_cast<size_t>(rank_)];
    for (int peer = 0; peer < ranks_; ++peer) {
      const bool same_node = topology.node_of(peer) == topology.node_of(rank_);
      const bool same_process =
          same_node && records[static_cast<size_t>(peer)].process == own.process;
      (same_process ? in_process_ : same_node ? in_node_ : across_).push_back(peer);
    }
  }

  // Where the records forbid a communicator every rank finds so by itself, and goes in peace.
  static Agreement agreed(std::span<const Record> records, Bootstrap& bootstrap) {
    try {
      return agree(records);
    } catch (...) {
      bootstrap.leave();
      throw;
    }
  }

  // Runs one step on the engine's thread; its failure is a text to be shared, not yet an exception.
  Step attempt(const std::function<void(Step&)>& work) {
    Step mine;
    try {
      Engine::instance().run([&] { work(mine); });
    } catch (const std::exception& error) {
      mine.error = error.what();
    }
    return mine;
  }

  // On the caller's thread: CUDA is never called on the engine's.
  void stage(Step& mine) {
    const uint64_t bytes = communicator_->agreement_.staging_bytes;
    if (bytes == 0 || !options_.stage || !mine.error.empty()) return;
    try {
      options_.stage(bytes);
    } catch (const std::exception& error) {
      mine.error = error.what();
    }
  }

  std::vector<Step> exchange(const Step& mine) {
    std::vector<Step> steps;
    for (const auto& bytes : communicator_->bootstrap_->all_gather(to_bytes(mine), timeout_s_)) {
      steps.push_back(step_from_bytes(bytes));
    }
    for (size_t rank = 0; rank < steps.size(); ++rank) {
      check(steps[rank].error.empty(), ncclSystemError, "rank ", rank,
            " could not be set up: ", steps[rank].error);
    }
    return steps;
  }

  void make_endpoints(Step& mine) {
    if (!in_node_.empty()) {
      const auto& topology = communicator_->agreement_.topology;
      const auto members = topology.members(topology.node_of(rank_));
      shm_ = transport::ShmEndpoint::create({.unique = unique_name()}, rank_,
                                            {members.begin(), members.end()});
      mine.shm = shm_->address();
    }
    if (!across_.empty()) {
      ucx_ = transport::UcxEndpoint::create(transport::UcxWorker::shared({}), rank_);
      mine.ucx = ucx_->address();
    }
  }

  void connect(const std::vector<Step>& steps) {
    auto router = std::make_unique<Router>(ranks_);
    const auto addresses_of = [&](const std::vector<int>& peers,
                                  std::vector<std::byte> Step::*field) {
      std::vector<transport::PeerAddress> addresses;
      for (const int peer : peers)
        addresses.push_back({peer, steps[static_cast<size_t>(peer)].*field});
      return addresses;
    };
    if (in_process_.size() > 1)
      router->add(transport::make_loopback(hub_of(id_, ranks_), rank_), in_process_);
    if (shm_) router->add(shm_->connect(addresses_of(in_node_, &Step::shm)), in_node_);
    if (ucx_) router->add(ucx_->connect(addresses_of(across_, &Step::ucx)), across_);
    communicator_->adopt(std::move(router));
  }

  void finish_endpoints() {
    if (shm_) shm_->unlink_files();
    shm_.reset();
    ucx_.reset();
    use_cores();
  }

  void forget(const std::string& why) {
    communicator_->bootstrap_->abort(why);
    shm_.reset();
    ucx_.reset();
    communicator_->transfers_.reset();
    communicator_->executor_.reset();
    communicator_->router_.reset();
    communicator_->bootstrap_.reset();
  }

  // The engine's thread stays near its rank, and may spin only where nobody else needs the core.
  void use_cores() {
    const auto& topology = communicator_->agreement_.topology;
    const auto local_ranks = static_cast<int>(topology.members(topology.node_of(rank_)).size());
    // It takes milliseconds to find out.
    static const auto& machine = *new topology::Machine(topology::Machine::discover());
    machine.bind_thread_near(topology.local_of(rank_), local_ranks);
    constexpr int kSpins =
        2000;  // research: with a core to itself, spinning a while saves 30 us a message
    Engine::instance().set_spins(2 * local_ranks <= machine.cores_allowed() ? kSpins : 0);
  }

  // In file names: the id's secret part makes it unlike any other communicator's.
  [[nodiscard]] std::string unique_name() const {
    uint64_t hash = 1469598103934665603ULL;
    for (const char byte : id_.internal)
      hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211ULL;
    return concat(std::hex, hash);
  }

  ncclUniqueId id_;
  int ranks_, rank_;
  Options options_;
  ncclUniqueId family_{};
  Config settings_;
  std::string unsound_;
  double timeout_s_ = 0;
  std::shared_ptr<Communicator> communicator_;
  std::vector<int> in_process_, in_node_, across_;
  std::unique_ptr<transport::ShmEndpoint> shm_;
  std::unique_ptr<transport::UcxEndpoint> ucx_;
};

std::shared_ptr<Communicator> Communicator::create(const Membership& place,
                                                   const Options& options) {
  return Setup(place, options).run();
}

}  // namespace slimccl::runtime
