// One rank's memory for a case, in place or out of place.
#pragma once

#include <cstddef>
#include <cstdint>

#include "collectives.h"
#include "workload.h"

namespace slimccl::perf {

// Host memory with a guard behind it that nobody may write to.
class Memory {
 public:
  struct Style {
    uint64_t misalign;           // the memory starts so many bytes behind a multiple of 64 at least
    ncclComm_t registered_with;  // null: plain memory; otherwise the library's, registered
  };
  Memory(uint64_t bytes, const Style& style);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  void poison();  // with bytes that no result is likely to have
  [[nodiscard]] bool guard_is_intact() const;

 private:
  uint64_t bytes_;
  ncclComm_t comm_;
  void* block_ = nullptr;
  void* handle_ = nullptr;
  std::byte* data_ = nullptr;
};

class Buffers {
 public:
  Buffers(const Case& test, const Inputs& inputs, int rank, bool in_place,
          const Memory::Style& style);

  // Puts the inputs where the call expects them, and poisons what it must write.
  void prepare();
  // Only what an in-place call overwrote; before every timed call.
  void restore();
  [[nodiscard]] const void* send() const { return send_; }
  [[nodiscard]] void* recv() const { return recv_; }
  // After a call: what it must leave alone is as it was. Null, or what is not.
  [[nodiscard]] const char* damage() const;

 private:
  uint64_t send_bytes_, recv_bytes_;
  bool in_place_;
  Memory inputs_, memory_;
  uint64_t hash_;  // of the inputs
  std::byte* send_;
  std::byte* recv_;
};

}  // namespace slimccl::perf
