// The bootstrap's words on the wire: little-endian frames of header and payload, and the 128-byte
// unique id.
//
//   header   := magic "SLMB" u32 | version u16 | type u16 | payload length u32
//   hello    := number u64 | branched u8 | branch u64 | secret 16 bytes | ranks i32 | rank i32 |
//               hosted u8 | timeout f64 | remaining f64 | name
//   gather   := round u32 | timeout f64 | bytes
//   table    := round u32 | (length u64)*ranks | bytes
//   failure  := code i32 | rank i32 | reason
//   report   := rank i32 | reason
//   abort    := reason
//   host     := rank i32
//   question := rank i32 | number u32             who asks, its how-manieth question
//   answer   := rank i32 | number u32 | text      to the server: who asked; from it: who answers
//   accepted, leave, left := nothing
//
// The last field of a payload reaches to its end. Who sends what, and when: rendezvous_session.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "runtime/serial.h"
#include "runtime/wire_socket.h"
#include "slimccl/nccl.h"

namespace slimccl::runtime::wire {

inline constexpr uint32_t kMagic = 0x424d4c53;
inline constexpr uint16_t kVersion = 2;
inline constexpr size_t kHeaderBytes = 12;
inline constexpr size_t kMaxPayloadBytes = 64 << 20;
inline constexpr size_t kMaxHelloBytes = 512;  // what a connection may send before it is known
inline constexpr size_t kMaxAnswerBytes = 1000;
inline constexpr int kMaxRanks = 1 << 20;

enum class Type : uint16_t {
  kHello = 1,
  kAccepted,
  kHost,
  kGather,
  kTable,
  kReport,
  kAbort,
  kLeave,
  kLeft,
  kFailure,
  kQuestion,
  kAnswer,
};

using Secret = std::array<std::byte, 16>;
// Takes the same time wherever the two differ.
[[nodiscard]] bool equal_secrets(const Secret& a, const Secret& b) noexcept;
[[nodiscard]] Secret random_secret();

// What a unique id says.
struct Id {
  // One meeting; a family of them, itself none; or one meeting of a family.
  enum class Kind : uint16_t { kPlain, kFamily, kBranch };

  Endpoint server;
  uint64_t number = 0;  // of the id or family, among those of its process
  Secret secret{};      // a branch has its family's
  Kind kind = Kind::kPlain;
  uint64_t branch = 0;  // 0 unless a branch
};
[[nodiscard]] ncclUniqueId to_unique_id(const Id& id);
// Throws ncclInvalidArgument if it is not ours or of another version.
[[nodiscard]] Id parse_id(const ncclUniqueId& id);

struct Frame {
  Type type;
  std::vector<std::byte> payload;
};

// Builds one frame, header included.
class Writer {
 public:
  explicit Writer(Type type) : type_(type) {}
  template <WireNumber T>
  Writer& put(const T& value) {
    payload_.put(value);
    return *this;
  }
  Writer& put_bytes(ConstBytes bytes) {
    payload_.put_raw(bytes);
    return *this;
  }
  Writer& put_text(std::string_view text) { return put_bytes(std::as_bytes(std::span(text))); }
  [[nodiscard]] std::vector<std::byte> finish();  // throws if over kMaxPayloadBytes

 private:
  Type type_;
  ByteWriter payload_;
};

// Takes a payload apart.
[[nodiscard]] inline ByteReader parse(ConstBytes payload) {
  return {payload, "a bootstrap message"};
}

// Frames out of a non-blocking socket.
class Inbox {
 public:
  explicit Inbox(size_t max_payload_bytes) : max_payload_bytes_(max_payload_bytes) {}
  void allow(size_t max_payload_bytes) noexcept { max_payload_bytes_ = max_payload_bytes; }

  // Takes in some of what has come. Returns 0, or the errno that ended the connection (ENODATA: an
  // orderly close).
  [[nodiscard]] int read(int fd);
  // The next whole frame; throws Error if what came is none of ours.
  [[nodiscard]] std::optional<Frame> next();

 private:
  size_t max_payload_bytes_;
  std::vector<std::byte> buffer_;
  size_t begin_ = 0;
};

// Shared because one table goes to all ranks, each at its own pace.
using Packet = std::shared_ptr<const std::vector<std::byte>>;
[[nodiscard]] inline Packet packet(Writer& writer) {
  return std::make_shared<const std::vector<std::byte>>(writer.finish());
}

// Frames into a non-blocking socket.
class Outbox {
 public:
  void push(Packet packet) { queue_.push_back(std::move(packet)); }
  [[nodiscard]] bool empty() const noexcept { return queue_.empty(); }
  // Sends what fits. Returns 0, or the errno that ended the connection.
  [[nodiscard]] int flush(int fd) noexcept;

 private:
  std::deque<Packet> queue_;
  size_t sent_ = 0;  // bytes of the first one
};

}  // namespace slimccl::runtime::wire
