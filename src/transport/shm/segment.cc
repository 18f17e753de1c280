#include "transport/shm/segment.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/log.h"

namespace slimccl::transport::shm {
namespace {

constexpr int kOpenFlags = O_RDWR | O_CLOEXEC;

[[noreturn]] void fail_open(const std::string& path, const char* verb) {
  const int error = errno;
  throw Error(
      ncclSystemError,
      concat(
          "cannot ", verb, " ", path, ": ", std::strerror(error),
          error == ENOENT
              ? "; ranks taken for one node do not share this directory: give them different "
                "SLIMCCL_NODE_ID"
              : "; check the rights to this directory, and remove the file if a dead job left it"));
}

void allocate(int fd, const std::string& path, uint64_t bytes) {
  int error = EINTR;
  while (error == EINTR) error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (error == 0) return;
  unlink(path.c_str());
  throw Error(ncclSystemError, concat("no room for ", bytes, " bytes of shared memory in ", path,
                                      ": ", std::strerror(error),
                                      "; enlarge /dev/shm (docker: --shm-size, Kubernetes: an "
                                      "emptyDir of medium Memory) or free it"));
}

}  // namespace

Segment::Segment(const std::string& path, int fd, uint64_t bytes) : memory_(nullptr, Unmap{bytes}) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  check(memory != MAP_FAILED, ncclSystemError, "cannot map ", bytes, " bytes of ", path, ": ",
        std::strerror(errno), "; raise the limits on memory (ulimit -v, cgroup)");
  memory_.reset(static_cast<std::byte*>(memory));
}

Segment Segment::create(const std::string& path, uint64_t ring_bytes, uint64_t rings,
                        uint64_t nonce) {
  const Fd fd(::open(path.c_str(), kOpenFlags | O_CREAT | O_EXCL, 0600));
  if (!fd) fail_open(path, "create");
  const uint64_t bytes = ring_offset(rings, ring_bytes);
  allocate(fd.get(), path, bytes);
  Segment segment(path, fd.get(), bytes);  // zero: an empty ring's header, and kOpen
  SegmentHeader& header = segment.header();
  header.magic = kMagic;
  header.nonce = nonce;
  header.ring_bytes = ring_bytes;
  header.rings = rings;
  return segment;
}

Segment Segment::open(const std::string& path, uint64_t ring_bytes, uint64_t rings,
                      uint64_t nonce) {
  const Fd fd(::open(path.c_str(), kOpenFlags));
  if (!fd) fail_open(path, "open");
  const uint64_t bytes = ring_offset(rings, ring_bytes);
  struct stat status {};
  check(fstat(fd.get(), &status) == 0 && static_cast<uint64_t>(status.st_size) == bytes,
        ncclInvalidUsage, path, " has ", status.st_size, " bytes where ", bytes,
        " are expected; use equal settings on all ranks");
  Segment segment(path, fd.get(), bytes);
  const SegmentHeader& header = segment.header();
  check(header.magic == kMagic && header.nonce == nonce && header.ring_bytes == ring_bytes &&
            header.rings == rings,
        ncclInvalidUsage, path,
        " is not the segment that its rank told of: ranks taken for one node do not share this",
        " directory; give them different SLIMCCL_NODE_ID");
  return segment;
}

Bell Bell::create(const std::string& path) {
  if (mkfifo(path.c_str(), 0600) != 0) fail_open(path, "create");
  return open(path);
}

Bell Bell::open(const std::string& path) {
  Bell bell;
  bell.fifo_ = Fd(::open(path.c_str(), kOpenFlags | O_NONBLOCK));
  if (!bell.fifo_) fail_open(path, "open");
  return bell;
}

void Bell::ring() const noexcept {
  const char poke = 1;
  (void)!::write(fifo_.get(), &poke, 1);
}

void Bell::silence() const noexcept {
  char pokes[64];
  while (::read(fifo_.get(), pokes, sizeof pokes) == sizeof pokes) {
  }
}

std::string pid_world() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  struct stat status {};
  if (boot.empty() || stat("/proc/self/ns/pid", &status) != 0) return {};
  return concat(boot, " ", status.st_dev, ":", status.st_ino);
}

Life watch(int pid) {
  const long fd = syscall(SYS_pidfd_open, pid, 0);
  if (fd >= 0) return {false, Fd(static_cast<int>(fd))};
  if (errno == ESRCH) return {true, Fd()};
  log::info("cannot watch process ", pid, ": ", std::strerror(errno),
            "; its death is noticed by the bootstrap only");
  return {};
}

}  // namespace slimccl::transport::shm
