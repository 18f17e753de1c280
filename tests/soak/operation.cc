#include "soak/operation.h"

#include <algorithm>

#include "soak/values.h"

namespace soak {
namespace {

constexpr const char* kNames[] = {"AllGather", "ReduceScatter", "AllReduce", "Reduce",  "Broadcast",
                                  "Bcast",     "AlltoAll",      "Gather",    "Scatter", "Messages"};
constexpr const char* kOps[] = {"sum", "prod", "max", "min", "avg", "PreMulSum"};

bool reduces(Kind kind) {
  return kind == Kind::kReduceScatter || kind == Kind::kAllReduce || kind == Kind::kReduce;
}

// Around what the library cuts at, and odd; rarely large.
size_t random_count(Random& random, size_t element_bytes) {
  const int dice = random.below(100);
  if (dice < 8) return 0;
  if (dice < 16) return 1 + random.below(size_t{3});
  if (dice < 50) return 1 + random.below(size_t{3000});
  if (dice < 65) return 2048 * (1 + random.below(size_t{4})) + random.below(size_t{3}) - 1;
  if (dice < 80) return 1 + random.below(size_t{40'000}) / element_bytes;
  if (dice < 90) return 65'536 * (1 + random.below(size_t{2})) + random.below(size_t{3}) - 1;
  if (dice < 99) return 1 + random.below((size_t{1} << 18) / element_bytes);
  return 1 + random.below((size_t{1} << 21) / element_bytes);
}

std::vector<Message> random_messages(Random& random, int members, size_t element_bytes) {
  std::vector<Message> all;
  const auto count = [&] { return random_count(random, element_bytes) / 4; };
  const int pattern = random.below(4);
  if (pattern == 0) {  // a ring
    const int step = random.below(members);
    const size_t same = count();
    for (int rank = 0; rank < members; ++rank) all.push_back({rank, (rank + step) % members, same});
  } else if (pattern == 1) {  // a permutation, or several
    for (int turns = 1 + random.below(3); turns > 0; --turns) {
      std::vector<int> to;
      for (int rank = 0; rank < members; ++rank) to.push_back(rank);
      random.shuffle(to);
      for (int rank = 0; rank < members; ++rank)
        all.push_back({rank, to[static_cast<size_t>(rank)], count()});
    }
  } else if (pattern == 2) {  // one alone
    const int from = random.below(members);
    all.push_back({from, (from + random.below(members)) % members, count()});
  } else {  // whatever
    for (int messages = 1 + random.below(4 * members); messages > 0; --messages)
      all.push_back({random.below(members), random.below(members), count() / 4});
  }
  return all;
}

}  // namespace

std::string Spec::text() const {
  std::string text = kNames[static_cast<int>(kind)];
  if (kind == Kind::kMessages) {
    text += " " + std::string(info_of(type).name);
    for (const Message& each : messages) {
      text += " " + std::to_string(each.from) + ">" + std::to_string(each.to) + ":" +
              std::to_string(each.count);
    }
    return text;
  }
  text += " " + std::to_string(count) + " x " + info_of(type).name;
  if (reduces(kind)) text += std::string(" ") + kOps[op] + (device_scalar ? " (device)" : "");
  return text + " root " + std::to_string(root);
}

bool Spec::needs_group() const {
  return kind == Kind::kMessages && (messages.size() != 1 || messages[0].from == messages[0].to);
}

Spec random_spec(Random& random, int members) {
  Spec spec{};
  spec.seed = random.next();
  spec.kind = static_cast<Kind>(random.below(random.chance(15) ? 10 : 9));
  if (random.chance(15)) spec.kind = Kind::kMessages;
  spec.type = static_cast<ncclDataType_t>(random.below(static_cast<int>(ncclNumTypes)));
  const size_t bytes = info_of(spec.type).bytes;
  spec.count = random_count(random, bytes);
  const bool many_slices = spec.kind == Kind::kAllGather || spec.kind == Kind::kReduceScatter ||
                           spec.kind == Kind::kAlltoAll || spec.kind == Kind::kGather ||
                           spec.kind == Kind::kScatter;
  if (many_slices && spec.count > 70'000) spec.count /= static_cast<size_t>(members);
  spec.root = random.below(members);
  spec.op = random.below(kPreMulSum + 1);
  if (spec.op == ncclAvg && !can_average(spec.type, members)) spec.op = ncclSum;
  spec.device_scalar = spec.op == kPreMulSum && random.chance(50);
  if (spec.kind == Kind::kMessages) spec.messages = random_messages(random, members, bytes);
  return spec;
}

Part::Part(const Spec& spec, int me, int members)
    : spec_(spec),
      me_(me),
      members_(members),
      element_bytes_(info_of(spec.type).bytes),
      slice_bytes_(spec.count * element_bytes_),
      own_(mix(spec.seed, static_cast<uint64_t>(me))),
      in_place_(own_.chance(40)) {
  prepare();
}

void Part::prepare() {
  switch (spec_.kind) {
    case Kind::kAllGather:
      return prepare_all_gather();
    case Kind::kReduceScatter:
      return prepare_reduce_scatter();
    case Kind::kAllReduce:
    case Kind::kReduce:
      return prepare_all_reduce();
    case Kind::kBroadcast:
    case Kind::kBcast:
      return prepare_broadcast();
    case Kind::kAlltoAll:
      return prepare_all_to_all();
    case Kind::kGather:
      return prepare_gather();
    case Kind::kScatter:
      return prepare_scatter();
    case Kind::kMessages:
      return prepare_messages();
  }
}

Buffer& Part::add(size_t slices) {
  const size_t shift = own_.chance(50) ? 0 : element_bytes_ * own_.below(size_t{17});
  return *buffers_.emplace_back(std::make_unique<Buffer>(slices * slice_bytes_, shift));
}

Part::Place Part::slice(Buffer& buffer, int slot) const {
  const size_t offset = static_cast<size_t>(slot) * slice_bytes_;
  return {buffer.data() + offset, buffer.expected() + offset};
}

void Part::produce(std::byte* into, int member, int slot) const {
  if (reduces(spec_.kind)) {
    const Reduction reduction{spec_.seed, spec_.type, spec_.op};
    for (uint64_t i = 0; i < spec_.count; ++i) {
      const double value = reduction.element(member, static_cast<uint64_t>(slot) * spec_.count + i);
      encode(spec_.type, value, into + i * element_bytes_);
    }
    return;
  }
  const uint64_t seed = mix(spec_.seed, static_cast<uint64_t>(member * 64 + slot));
  for (size_t at = 0; at < slice_bytes_; at += 8) {
    const uint64_t word = mix(seed + at);
    std::memcpy(into + at, &word, std::min<size_t>(8, slice_bytes_ - at));
  }
}

void Part::put(Buffer& buffer, int at, int member, int slot) {
  const Place place = slice(buffer, at);
  produce(place.data, member, slot);
  std::memcpy(place.expected, place.data, slice_bytes_);
}

void Part::expect(Buffer& buffer, int at, int member, int slot) {
  produce(slice(buffer, at).expected, member, slot);
}

void Part::expect_reduced(Buffer& buffer, int at, int slot) {
  const Reduction reduction{spec_.seed, spec_.type, spec_.op};
  std::byte* const into = slice(buffer, at).expected;
  for (uint64_t i = 0; i < spec_.count; ++i) {
    const double value = reduction.result(members_, static_cast<uint64_t>(slot) * spec_.count + i);
    encode(spec_.type, value, into + i * element_bytes_);
  }
}

void Part::prepare_all_gather() {
  Buffer& out = add(static_cast<size_t>(members_));
  if (in_place_) {
    put(out, me_, me_, 0);
    send_ = slice(out, me_).data;
  } else {
    Buffer& in = add(1);
    put(in, 0, me_, 0);
    send_ = in.data();
  }
  for (int member = 0; member < members_; ++member) expect(out, member, member, 0);
  recv_ = out.data();
}

void Part::prepare_reduce_scatter() {
  Buffer& in = add(static_cast<size_t>(members_));
  for (int slot = 0; slot < members_; ++slot) put(in, slot, me_, slot);
  send_ = in.data();
  Buffer& out = in_place_ ? in : add(1);
  expect_reduced(out, in_place_ ? me_ : 0, me_);
  recv_ = slice(out, in_place_ ? me_ : 0).data;
}

void Part::prepare_all_reduce() {
  Buffer& in = add(1);
  put(in, 0, me_, 0);
  send_ = in.data();
  const bool receives = spec_.kind == Kind::kAllReduce || me_ == spec_.root;
  Buffer& out = in_place_ ? in : add(1);
  if (receives) expect_reduced(out, 0, 0);
  recv_ = !receives && own_.chance(50) ? nullptr : out.data();
}

void Part::prepare_broadcast() {
  const bool in_place = in_place_ || spec_.kind == Kind::kBcast;
  Buffer& out = add(1);
  if (me_ == spec_.root) {
    Buffer& in = in_place ? out : add(1);
    put(in, 0, me_, 0);
    send_ = in.data();
  } else {
    send_ = in_place ? out.data() : nullptr;
  }
  expect(out, 0, spec_.root, 0);
  recv_ = out.data();
}

void Part::prepare_all_to_all() {
  Buffer& in = add(static_cast<size_t>(members_));
  Buffer& out = add(static_cast<size_t>(members_));
  for (int peer = 0; peer < members_; ++peer) {
    put(in, peer, me_, peer);
    expect(out, peer, peer, me_);
  }
  send_ = in.data();
  recv_ = out.data();
}

void Part::prepare_gather() {
  if (me_ != spec_.root) {
    Buffer& in = add(1);
    put(in, 0, me_, 0);
    send_ = in.data();
    return;
  }
  prepare_all_gather();
}

void Part::prepare_scatter() {
  if (me_ != spec_.root) {
    Buffer& out = add(1);
    expect(out, 0, spec_.root, me_);
    recv_ = out.data();
    return;
  }
  Buffer& in = add(static_cast<size_t>(members_));
  for (int slot = 0; slot < members_; ++slot) put(in, slot, me_, slot);
  send_ = in.data();
  recv_ = slice(in, me_).data;
  if (in_place_) return;
  Buffer& out = add(1);
  expect(out, 0, me_, me_);
  recv_ = out.data();
}

void Part::prepare_messages() {
  for (size_t i = 0; i < spec_.messages.size(); ++i) {
    const Message& message = spec_.messages[i];
    spec_.count = message.count;
    slice_bytes_ = message.count * element_bytes_;
    for (const bool sends : {true, false}) {
      if ((sends ? message.from : message.to) != me_) continue;
      Buffer& buffer = add(1);
      sends ? put(buffer, 0, message.from, static_cast<int>(i))
            : expect(buffer, 0, message.from, static_cast<int>(i));
      message_data_.push_back(buffer.data());
    }
  }
}

ncclResult_t Part::call_messages(ncclComm_t comm, cudaStream_t stream) {
  size_t next = 0;
  ncclResult_t result = ncclSuccess;
  for (const Message& message : spec_.messages) {
    for (const bool sends : {true, false}) {
      if ((sends ? message.from : message.to) != me_) continue;
      std::byte* const data = message_data_[next++];
      result = sends ? ncclSend(data, message.count, spec_.type, message.to, comm, stream)
                     : ncclRecv(data, message.count, spec_.type, message.from, comm, stream);
      if (result != ncclSuccess && result != ncclInProgress) return result;
    }
  }
  return result;
}

ncclResult_t Part::call_reduction(ncclComm_t comm, cudaStream_t stream) {
  auto op = static_cast<ncclRedOp_t>(spec_.op);
  const bool own = spec_.op == kPreMulSum;
  if (own) {
    encode(spec_.type, Reduction{spec_.seed, spec_.type, spec_.op}.scalar(me_), scalar_);
    const auto residence = spec_.device_scalar ? ncclScalarDevice : ncclScalarHostImmediate;
    const auto made = ncclRedOpCreatePreMulSum(&op, scalar_, spec_.type, residence, comm);
    if (made != ncclSuccess) return made;
  }
  const auto count = spec_.count;
  const ncclResult_t result =
      spec_.kind == Kind::kReduceScatter
          ? ncclReduceScatter(send_, recv_, count, spec_.type, op, comm, stream)
      : spec_.kind == Kind::kAllReduce
          ? ncclAllReduce(send_, recv_, count, spec_.type, op, comm, stream)
          : ncclReduce(send_, recv_, count, spec_.type, op, spec_.root, comm, stream);
  if (!own) return result;
  if (!spec_.device_scalar) std::memset(scalar_, 0xff, sizeof scalar_);  // it was read at once
  const ncclResult_t gone = ncclRedOpDestroy(op, comm);
  return result == ncclSuccess || result == ncclInProgress ? (gone == ncclSuccess ? result : gone)
                                                           : result;
}

ncclResult_t Part::call(ncclComm_t comm, cudaStream_t stream) {
  const auto count = spec_.count;
  switch (spec_.kind) {
    case Kind::kAllGather:
      return ncclAllGather(send_, recv_, count, spec_.type, comm, stream);
    case Kind::kBroadcast:
      return ncclBroadcast(send_, recv_, count, spec_.type, spec_.root, comm, stream);
    case Kind::kBcast:
      return ncclBcast(recv_, count, spec_.type, spec_.root, comm, stream);
    case Kind::kAlltoAll:
      return ncclAlltoAll(send_, recv_, count, spec_.type, comm, stream);
    case Kind::kGather:
      return ncclGather(send_, recv_, count, spec_.type, spec_.root, comm, stream);
    case Kind::kScatter:
      return ncclScatter(send_, recv_, count, spec_.type, spec_.root, comm, stream);
    case Kind::kMessages:
      return call_messages(comm, stream);
    default:
      return call_reduction(comm, stream);
  }
}

std::string Part::difference() const {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const std::string text = buffers_[i]->difference(element_bytes_);
    if (!text.empty())
      return std::string(in_place_ ? "in place, " : "") + "buffer " + std::to_string(i) + ", " +
             text;
  }
  return "";
}

}  // namespace soak
