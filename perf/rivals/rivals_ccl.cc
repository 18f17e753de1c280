// rivals_ccl SOCKET: oneCCL's collectives on host memory for ./dev bench rivals. Rank and number of
// ranks come from RANK and WORLD_SIZE.
#include <exception>
#include <oneapi/ccl.hpp>
#include <string>

#include "protocol.h"

namespace {

void call(ccl::communicator& comm, Operation operation, const float* input, float* output,
          uint64_t elems) {
  const size_t shard = elems / static_cast<size_t>(comm.size());
  constexpr auto kType = ccl::datatype::float32;
  constexpr auto kSum = ccl::reduction::sum;
  switch (operation) {
    case kAllReduce:
      return ccl::allreduce(input, output, elems, kType, kSum, comm).wait();
    case kAllGather:
      return ccl::allgather(input, output, shard, kType, comm).wait();
    case kReduceScatter:
      return ccl::reduce_scatter(input, output, shard, kType, kSum, comm).wait();
  }
}

int call_from_c(void* context, Operation operation, const float* input, float* output,
                uint64_t elems) {
  call(*static_cast<ccl::communicator*>(context), operation, input, output, elems);
  return 0;
}

void run(const char* socket_path, int rank, int ranks) {
  ccl::init();
  ccl::shared_ptr_class<ccl::kvs> store;
  ccl::kvs::address_type address{};
  if (rank == 0) {
    store = ccl::create_main_kvs();
    address = store->get_address();
  }
  Driver driver = driver_connect(socket_path, rank, address.data(), rank == 0 ? address.size() : 0);
  driver_receive_id(&driver, address.data(), address.size());
  if (rank != 0) store = ccl::create_kvs(address);
  auto comm = ccl::create_communicator(ranks, rank, store);
  const std::string version = std::string("oneCCL ") + ccl::get_library_version().full;
  const Rival rival = {version.c_str(), rank, ranks, &comm, call_from_c};
  rival_serve(&driver, &rival);
}

}  // namespace

int main(int argc, char** argv) {
  const char* rank = std::getenv("RANK");
  const char* ranks = std::getenv("WORLD_SIZE");
  if (argc != 2 || rank == nullptr || ranks == nullptr) {
    rival_fail("usage", "RANK=r WORLD_SIZE=n rivals_ccl SOCKET");
  }
  try {
    run(argv[1], std::atoi(rank), std::atoi(ranks));
  } catch (const std::exception& error) {
    rival_fail("oneCCL", error.what());
  }
  _exit(0);  // its destructors wait for ranks that have gone already
}
