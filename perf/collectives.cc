#include "collectives.h"

#include <algorithm>

#include "elements.h"

namespace slimccl::perf {
namespace {

double once(double) { return 1; }
double all_but_own(double ranks) { return (ranks - 1) / ranks; }
double there_and_back(double ranks) { return 2 * (ranks - 1) / ranks; }

int before(const Case& test, int rank) { return (rank + test.ranks - 1) % test.ranks; }
int after(const Case& test, int rank) { return (rank + 1) % test.ranks; }

constexpr Collective kCollectives[] = {
    {.name = "all_gather",
     .has_root = false,
     .reduces = false,
     .send = Side::kOne,
     .recv = Side::kAll,
     .in_place = InPlace::kSendInRecv,
     .replicas = Replicas::kForeignSlots,
     .bus_factor = all_but_own,
     .origin =
         [](const Case&, int, int slot) {
           return Origin{slot, 0};
         },
     .call =
         [](const Arguments& with) {
           return ncclAllGather(with.send, with.recv, with.test.count, with.test.type, with.comm,
                                with.stream);
         }},
    {.name = "reduce_scatter",
     .has_root = false,
     .reduces = true,
     .send = Side::kAll,
     .recv = Side::kOne,
     .in_place = InPlace::kRecvInSend,
     .replicas = Replicas::kNone,
     .bus_factor = all_but_own,
     .origin =
         [](const Case&, int rank, int) {
           return Origin{Origin::kReduced, rank};
         },
     .call =
         [](const Arguments& with) {
           return ncclReduceScatter(with.send, with.recv, with.test.count, with.test.type, with.op,
                                    with.comm, with.stream);
         }},
    {.name = "all_reduce",
     .has_root = false,
     .reduces = true,
     .send = Side::kOne,
     .recv = Side::kOne,
     .in_place = InPlace::kSame,
     .replicas = Replicas::kWhole,
     .bus_factor = there_and_back,
     .origin =
         [](const Case&, int, int) {
           return Origin{Origin::kReduced, 0};
         },
     .call =
         [](const Arguments& with) {
           return ncclAllReduce(with.send, with.recv, with.test.count, with.test.type, with.op,
                                with.comm, with.stream);
         }},
    {.name = "broadcast",
     .has_root = true,
     .reduces = false,
     .send = Side::kOneAtRoot,
     .recv = Side::kOne,
     .in_place = InPlace::kSame,
     .replicas = Replicas::kWhole,
     .bus_factor = once,
     .origin =
         [](const Case& test, int, int) {
           return Origin{test.root, 0};
         },
     .call =
         [](const Arguments& with) {
           return ncclBroadcast(with.send, with.recv, with.test.count, with.test.type,
                                with.test.root, with.comm, with.stream);
         }},
    {.name = "reduce",
     .has_root = true,
     .reduces = true,
     .send = Side::kOne,
     .recv = Side::kOneAtRoot,
     .in_place = InPlace::kSame,
     .replicas = Replicas::kNone,
     .bus_factor = once,
     .origin =
         [](const Case&, int, int) {
           return Origin{Origin::kReduced, 0};
         },
     .call =
         [](const Arguments& with) {
           return ncclReduce(with.send, with.recv, with.test.count, with.test.type, with.op,
                             with.test.root, with.comm, with.stream);
         }},
    {.name = "alltoall",
     .has_root = false,
     .reduces = false,
     .send = Side::kAll,
     .recv = Side::kAll,
     .in_place = InPlace::kNone,
     .replicas = Replicas::kNone,
     .bus_factor = all_but_own,
     .origin =
         [](const Case&, int rank, int slot) {
           return Origin{slot, rank};
         },
     .call =
         [](const Arguments& with) {
           return ncclAlltoAll(with.send, with.recv, with.test.count, with.test.type, with.comm,
                               with.stream);
         }},
    {.name = "gather",
     .has_root = true,
     .reduces = false,
     .send = Side::kOne,
     .recv = Side::kAllAtRoot,
     .in_place = InPlace::kSendInRecv,
     .replicas = Replicas::kNone,
     .bus_factor = all_but_own,
     .origin =
         [](const Case&, int, int slot) {
           return Origin{slot, 0};
         },
     .call =
         [](const Arguments& with) {
           return ncclGather(with.send, with.recv, with.test.count, with.test.type, with.test.root,
                             with.comm, with.stream);
         }},
    {.name = "scatter",
     .has_root = true,
     .reduces = false,
     .send = Side::kAllAtRoot,
     .recv = Side::kOne,
     .in_place = InPlace::kRecvInSend,
     .replicas = Replicas::kNone,
     .bus_factor = all_but_own,
     .origin =
         [](const Case& test, int rank, int) {
           return Origin{test.root, rank};
         },
     .call =
         [](const Arguments& with) {
           return ncclScatter(with.send, with.recv, with.test.count, with.test.type, with.test.root,
                              with.comm, with.stream);
         }},
    {.name = "sendrecv",  // round the ring of ranks
     .has_root = false,
     .reduces = false,
     .send = Side::kOne,
     .recv = Side::kOne,
     .in_place = InPlace::kNone,
     .replicas = Replicas::kNone,
     .bus_factor = once,
     .origin =
         [](const Case& test, int rank, int) {
           return Origin{before(test, rank), 0};
         },
     .call =
         [](const Arguments& with) {
           const Case& test = with.test;
           (void)ncclGroupStart();
           (void)ncclSend(with.send, test.count, test.type, after(test, with.rank), with.comm,
                          with.stream);
           (void)ncclRecv(with.recv, test.count, test.type, before(test, with.rank), with.comm,
                          with.stream);
           return ncclGroupEnd();  // the first error of the three
         }},
};

uint64_t slots(Side side, const Case& test, int rank) {
  const bool at_root = side == Side::kOneAtRoot || side == Side::kAllAtRoot;
  if (at_root && rank != test.root) return 0;
  const bool all = side == Side::kAll || side == Side::kAllAtRoot;
  return all ? static_cast<uint64_t>(test.ranks) : 1;
}

bool has_slots(const Collective& collective) {
  const auto all = [](Side side) { return side == Side::kAll || side == Side::kAllAtRoot; };
  return all(collective.send) || all(collective.recv);
}

}  // namespace

const char* name(Reduction reduction) {
  constexpr const char* kNames[] = {"none", "sum", "prod", "max", "min", "avg", "mulsum"};
  return kNames[static_cast<size_t>(reduction)];
}

uint64_t Case::send_slots(int rank) const { return slots(collective->send, *this, rank); }
uint64_t Case::recv_slots(int rank) const { return slots(collective->recv, *this, rank); }

uint64_t Case::size_bytes() const {
  const uint64_t of_count = has_slots(*collective) ? static_cast<uint64_t>(ranks) : 1;
  return of_count * count * element_bytes(type);
}

double Case::bus_factor() const { return collective->bus_factor(ranks); }

uint64_t Collective::count_for(uint64_t bytes, ncclDataType_t type, int ranks) const {
  const uint64_t elems = bytes / element_bytes(type);
  if (!has_slots(*this)) return elems;
  const uint64_t multiple = 16 / element_bytes(type);
  return elems / static_cast<uint64_t>(ranks) / multiple * multiple;
}

std::span<const Collective> collectives() { return kCollectives; }

const Collective* find_collective(std::string_view name) {
  const auto* found = std::ranges::find(kCollectives, name, &Collective::name);
  return found == std::end(kCollectives) ? nullptr : found;
}

}  // namespace slimccl::perf
