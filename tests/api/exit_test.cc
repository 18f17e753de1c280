// A process that ends while the library works. Shows most when built with AddressSanitizer.
#include <cstdlib>

#include "api/processes.h"

namespace {

using slimccl::testing::Environment;
using slimccl::testing::Processes;

Environment quiet(int) { return {{"SLIMCCL_LOG", "none"}}; }

// Static objects go while the progress thread and the ranks still work.
TEST(Processes, AnExitInTheMiddleOfCallsIsNoCrash) {
  Processes one(1, quiet, [](int, const ncclUniqueId&) -> int {
    ncclComm_t comms[2];
    if (ncclCommInitAll(comms, 2, nullptr) != ncclSuccess) return 1;
    for (ncclComm_t comm : comms) {
      std::thread([comm] {
        std::vector<float> x(1 << 20);
        while (true)
          (void)ncclAllReduce(x.data(), x.data(), x.size(), ncclFloat32, ncclSum, comm, nullptr);
      }).detach();
    }
    usleep(300'000);
    std::exit(0);
  });
  EXPECT_EQ(one.wait(0, 30), 0);
}

}  // namespace
