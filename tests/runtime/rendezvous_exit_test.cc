// What still calls the rendezvous while the process ends: destructors and other threads.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "base/error.h"
#include "runtime/rendezvous.h"

namespace slimccl::runtime {
namespace {

// The one file-wide object: what is registered with atexit() takes no arguments.
ncclUniqueId made;

ncclUniqueId make() {
  Config config;
  config.address = "127.0.0.1";
  return make_process_id(config, wire::Id::Kind::kPlain);
}

// Registered before the rendezvous, so it runs after its end.
void late() {
  const wire::Id id = wire::parse_id(made);
  if (process_hosts(id.server)) _exit(3);
  withdraw_process_id(id);
  try {
    (void)make();
    _exit(4);
  } catch (const Error&) {
  }
  _exit(0);
}

TEST(RendezvousExit, LateCallersAreRefused) {
  EXPECT_EXIT(
      {
        std::atexit(late);
        made = make();
        std::exit(5);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace slimccl::runtime
