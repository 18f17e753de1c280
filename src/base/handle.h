// Owning wrappers for C handles: Handle<H, destroy> is a unique_ptr whose deleter calls destroy(h).
#pragma once

#include <unistd.h>

#include <memory>
#include <type_traits>
#include <utility>

namespace slimccl {

template <auto Destroy, class H>
struct Destroyer {
  using pointer = H;
  void operator()(H handle) const noexcept { Destroy(handle); }
};
template <class H, auto Destroy>
using Handle = std::unique_ptr<std::remove_pointer_t<H>, Destroyer<Destroy, H>>;

// Owns a file descriptor; -1 is "none".
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  void reset() noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

}  // namespace slimccl
