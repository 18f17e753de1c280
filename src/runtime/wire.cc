#include "runtime/wire.h"

#include <netinet/in.h>
#include <sys/random.h>

#include <cerrno>
#include <utility>

namespace slimccl::runtime::wire {
namespace {

constexpr std::array<char, 8> kIdMagic = {'S', 'L', 'I', 'M', 'C', 'C', 'L', '\0'};
constexpr size_t kReadBytes = 256 * 1024;

// The start of an id; the rest is zero.
struct PackedId {
  std::array<char, 8> magic;
  uint16_t version;
  uint16_t port;
  uint16_t v6;
  Id::Kind kind;
  std::array<char, 16> ip;
  uint64_t number;
  Secret secret;
  uint64_t branch;
};
static_assert(sizeof(PackedId) == 64 && sizeof(PackedId) <= sizeof(ncclUniqueId));

}  // namespace

bool equal_secrets(const Secret& a, const Secret& b) noexcept {
  volatile unsigned char difference = 0;  // volatile: the loop may not end early
  for (size_t i = 0; i < a.size(); ++i) {
    difference = static_cast<unsigned char>(difference | static_cast<unsigned char>(a[i] ^ b[i]));
  }
  return difference == 0;
}

Secret random_secret() {
  Secret secret;
  check(getrandom(secret.data(), secret.size(), 0) == static_cast<ssize_t>(secret.size()),
        ncclSystemError, "the system gave no random bytes: ", std::strerror(errno));
  return secret;
}

ncclUniqueId to_unique_id(const Id& id) {
  PackedId packed{};
  packed.magic = kIdMagic;
  packed.version = kVersion;
  packed.port = id.server.port();
  packed.v6 = static_cast<uint16_t>(id.server.v6());
  if (id.server.v6()) {
    std::memcpy(packed.ip.data(),
                &reinterpret_cast<const sockaddr_in6*>(&id.server.storage)->sin6_addr, 16);
  } else {
    std::memcpy(packed.ip.data(),
                &reinterpret_cast<const sockaddr_in*>(&id.server.storage)->sin_addr, 4);
  }
  packed.kind = id.kind;
  packed.number = id.number;
  packed.secret = id.secret;
  packed.branch = id.branch;
  ncclUniqueId result{};
  std::memcpy(result.internal, &packed, sizeof packed);
  return result;
}

Id parse_id(const ncclUniqueId& unique_id) {
  PackedId packed;
  std::memcpy(&packed, unique_id.internal, sizeof packed);
  check(
      packed.magic == kIdMagic, ncclInvalidArgument,
      "this unique id was not made by SlimCCL's ncclGetUniqueId: use one that was, and carry all ",
      sizeof(ncclUniqueId), " bytes of it to every rank");
  check(packed.version == kVersion, ncclInvalidArgument, "this unique id is of bootstrap version ",
        packed.version, ", this process speaks version ", kVersion,
        ": use the same SlimCCL release on all ranks");
  check(packed.kind <= Id::Kind::kBranch, ncclInvalidArgument, "this unique id is of kind ",
        static_cast<int>(packed.kind), ", which does not exist: was it overwritten?");
  Id id;
  id.server.storage.ss_family = packed.v6 != 0 ? AF_INET6 : AF_INET;
  if (packed.v6 != 0) {
    auto* address = reinterpret_cast<sockaddr_in6*>(&id.server.storage);
    std::memcpy(&address->sin6_addr, packed.ip.data(), 16);
    address->sin6_port = htons(packed.port);
    id.server.bytes = sizeof *address;
  } else {
    auto* address = reinterpret_cast<sockaddr_in*>(&id.server.storage);
    std::memcpy(&address->sin_addr, packed.ip.data(), 4);
    address->sin_port = htons(packed.port);
    id.server.bytes = sizeof *address;
  }
  id.number = packed.number;
  id.secret = packed.secret;
  id.kind = packed.kind;
  id.branch = packed.branch;
  return id;
}

// The length, the header's last field, is for finish(). (Not by put(): g++ 12 then warns of an
// overflow at -O3.)
std::vector<std::byte> Writer::finish() {
  const std::vector<std::byte> payload = payload_.finish();
  check(payload.size() <= kMaxPayloadBytes, ncclInvalidArgument, "a bootstrap message of ",
        payload.size(), " bytes is over the limit of ", kMaxPayloadBytes);
  ByteWriter frame;
  frame.put(kMagic).put(kVersion).put(type_).put(static_cast<uint32_t>(payload.size()));
  return frame.put_raw(payload).finish();
}

int Inbox::read(int fd) {
  if (begin_ > 0) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(begin_));
    begin_ = 0;
  }
  char any = 0;  // most looks find nothing: they must not cost the clearing of a buffer
  const ssize_t there = recv(fd, &any, 1, MSG_PEEK | MSG_DONTWAIT);
  if (there < 0) return errno == EAGAIN || errno == EINTR ? 0 : errno;
  const size_t old = buffer_.size();
  // Before the peer is known it gets no more memory than its hello needs.
  buffer_.resize(old + std::min(kReadBytes, max_payload_bytes_ + kHeaderBytes));
  const ssize_t got = recv(fd, buffer_.data() + old, buffer_.size() - old, 0);
  const int error = got == 0 ? ENODATA : got < 0 ? errno : 0;
  buffer_.resize(old + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  return error == EAGAIN || error == EINTR ? 0 : error;
}

std::optional<Frame> Inbox::next() {
  const ConstBytes have = ConstBytes(buffer_).subspan(begin_);
  if (have.size() < kHeaderBytes) return std::nullopt;
  ByteReader header = parse(have.first(kHeaderBytes));
  check(header.get<uint32_t>() == kMagic, ncclSystemError, "it does not speak SlimCCL");
  const auto version = header.get<uint16_t>();
  check(version == kVersion, ncclSystemError, "it speaks bootstrap version ", version,
        ", this process version ", kVersion);
  const auto type = header.get<Type>();
  const auto length = header.get<uint32_t>();
  check(length <= max_payload_bytes_, ncclSystemError, "it announced a message of ", length,
        " bytes where at most ", max_payload_bytes_, " are allowed");
  if (have.size() - kHeaderBytes < length) return std::nullopt;
  const ConstBytes payload = have.subspan(kHeaderBytes, length);
  begin_ += kHeaderBytes + length;
  return Frame{type, {payload.begin(), payload.end()}};
}

int Outbox::flush(int fd) noexcept {
  while (!queue_.empty()) {
    const std::vector<std::byte>& first = *queue_.front();
    const ssize_t sent = send(fd, first.data() + sent_, first.size() - sent_, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR ? 0 : errno;
    sent_ += static_cast<size_t>(sent);
    if (sent_ < first.size()) return 0;
    queue_.pop_front();
    sent_ = 0;
  }
  return 0;
}

}  // namespace slimccl::runtime::wire
