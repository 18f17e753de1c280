#include "soak/chain.h"

#include <algorithm>
#include <map>

#include "soak/buffer.h"

namespace soak {
namespace {

enum class Link { kSum, kSumApart, kBroadcast, kShift, kScatterAndGather, kReduceAndBroadcast };

using Numbers = std::vector<uint32_t>;

struct Plan {
  const Team* team;
  cudaStream_t stream;
  Link link;
  int root, step;
};

// What every rank has, by rank of the world, before and after a link.
void simulate(const Plan& plan, std::map<int, Numbers>& state) {
  const auto& members = plan.team->members;
  const size_t count = state.at(members.front()).size();
  if (plan.link == Link::kShift) {
    const auto before = state;
    for (size_t place = 0; place < members.size(); ++place) {
      const size_t from =
          (place + members.size() - static_cast<size_t>(plan.step)) % members.size();
      state[members[place]] = before.at(members[from]);
    }
    return;
  }
  Numbers result(count, 0);
  if (plan.link == Link::kBroadcast) {
    result = state.at(members[static_cast<size_t>(plan.root)]);
  } else {
    for (const int member : members) {
      const Numbers& summand = state.at(member);
      for (size_t i = 0; i < count; ++i) result[i] += summand[i];
    }
  }
  for (const int member : members) state[member] = result;
}

// One rank's two buffers; the links go back and forth between them.
class Queue {
 public:
  Queue(Context& context, const Numbers& first)
      : context_(context), count_(first.size()), x_(4 * count_, 4), y_(4 * count_, 0) {
    std::memcpy(x_.data(), first.data(), 4 * count_);
  }

  void put(const Plan& plan) {
    const ncclComm_t comm = plan.team->comm;
    const cudaStream_t stream = plan.stream;
    std::byte* const x = from_x_ ? x_.data() : y_.data();
    std::byte* const y = from_x_ ? y_.data() : x_.data();
    const auto u32 = ncclUint32;
    const int ranks = plan.team->size(), me = plan.team->place(context_.rank);
    const auto expect = [&](ncclResult_t result) { context_.expect_done(result, {comm}); };
    switch (plan.link) {
      case Link::kSum:
        return expect(ncclAllReduce(x, x, count_, u32, ncclSum, comm, stream));
      case Link::kSumApart:
        from_x_ = !from_x_;
        return expect(ncclAllReduce(x, y, count_, u32, ncclSum, comm, stream));
      case Link::kBroadcast:
        return expect(ncclBroadcast(x, x, count_, u32, plan.root, comm, stream));
      case Link::kShift:
        from_x_ = !from_x_;
        expect(ncclGroupStart());
        expect(ncclSend(x, count_, u32, (me + plan.step) % ranks, comm, stream));
        expect(ncclRecv(y, count_, u32, (me + ranks - plan.step) % ranks, comm, stream));
        return expect(ncclGroupEnd());
      case Link::kScatterAndGather: {
        const size_t slice = count_ / static_cast<size_t>(ranks);
        std::byte* const own = x + 4 * slice * static_cast<size_t>(me);
        expect(ncclReduceScatter(x, own, slice, u32, ncclSum, comm, stream));
        return expect(ncclAllGather(own, x, slice, u32, comm, stream));
      }
      case Link::kReduceAndBroadcast:
        from_x_ = !from_x_;
        expect(ncclReduce(x, y, count_, u32, ncclSum, plan.root, comm, stream));
        return expect(ncclBcast(y, count_, u32, plan.root, comm, stream));
    }
  }

  void verify(const Numbers& expected) {
    Buffer& buffer = from_x_ ? x_ : y_;
    std::memcpy(buffer.expected(), expected.data(), 4 * count_);
    const std::string difference = buffer.difference(4);
    if (!difference.empty()) context_.fail("wrong at the end: " + difference);
  }

 private:
  Context& context_;
  size_t count_;
  Buffer x_, y_;
  bool from_x_ = true;
};

bool same_members(const Team& a, const Team& b) {
  return std::ranges::is_permutation(a.members, b.members);
}

std::string text_of(const std::vector<Plan>& plans, size_t count) {
  static constexpr const char* kNames[] = {"sum",   "sum apart",          "broadcast",
                                           "shift", "scatter and gather", "reduce and broadcast"};
  std::string text = std::to_string(count) + " elements";
  for (const Plan& plan : plans) {
    text += std::string("; ") + kNames[static_cast<int>(plan.link)] + " on communicator " +
            std::to_string(plan.team->id) + ", stream " +
            std::to_string(reinterpret_cast<uintptr_t>(plan.stream) & 0xffff);
  }
  return text;
}

std::vector<Plan> random_plans(const Team& first, const Teams& teams,
                               const std::vector<cudaStream_t>& streams, Random& random) {
  std::vector<const Team*> alike;
  for (const Team& team : teams.all()) {
    if (same_members(team, first)) alike.push_back(&team);
  }
  std::vector<Plan> plans;
  for (int links = 2 + random.below(8); links > 0; --links) {
    const Team* const team = random.pick(alike);
    cudaStream_t stream = random.chance(10) ? nullptr : random.pick(streams);
    // Only a stream makes one communicator wait for the other.
    const bool changes = !plans.empty() && plans.back().team != team;
    if (changes && plans.back().stream != nullptr) stream = plans.back().stream;
    plans.push_back({team, stream, static_cast<Link>(random.below(6)), random.below(team->size()),
                     random.below(team->size())});
  }
  return plans;
}

}  // namespace

void chain(Context& context, const Teams& teams, const std::vector<cudaStream_t>& streams,
           Random& random, const std::string& where) {
  const Team& first = random.pick(teams.all());
  const std::vector<Plan> plans = random_plans(first, teams, streams, random);
  const size_t count = static_cast<size_t>(first.size()) * (1 + random.below(size_t{10'000}));
  const uint64_t seed = random.next();
  if (first.place(context.rank) < 0) return;
  std::map<int, Numbers> state;
  for (const int member : first.members) {
    Numbers& numbers = state[member];
    for (size_t i = 0; i < count; ++i)
      numbers.push_back(static_cast<uint32_t>(mix(seed + static_cast<uint64_t>(member), i)));
  }
  context.note(where + ", " + first.text() + ": " + text_of(plans, count));
  Queue queue(context, state.at(context.rank));
  for (const Plan& plan : plans) queue.put(plan);
  for (const Plan& plan : plans) simulate(plan, state);
  for (cudaStream_t stream : streams) context.expect_done(slimcclStreamSynchronize(stream), {});
  queue.verify(state.at(context.rank));
}

}  // namespace soak
