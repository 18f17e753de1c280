// The core over a fake NCCL that only counts: what is forwarded where, what is counted, whose error
// is told, what is written into an id. argv[1] is the core's file.
#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>

#include "overlay.h"

namespace {

using testing::HasSubstr;

std::string core_file;

struct Fake {
  int calls = 0, ends = 0;
  ncclResult_t result = ncclSuccess;
};
Fake fake;

ncclComm_t handle(uintptr_t number) { return reinterpret_cast<ncclComm_t>(number << 12); }

// A real NCCL of few functions.
slimccl_nccl fake_nccl() {
  slimccl_nccl real{};
  real.path = "/fake/libnccl.so.2";
  real.GetVersion = [](int* version) { return *version = 22809, ncclSuccess; };
  real.GetUniqueId = [](ncclUniqueId* id) { return *id = {}, ncclSuccess; };
  real.AllReduce = [](const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t,
                      cudaStream_t) { return ++fake.calls, fake.result; };
  real.GetLastError = [](ncclComm_t) { return "the real text"; };
  real.CommCount = [](ncclComm_t, int* count) { return *count = 4, ncclSuccess; };
  real.CommUserRank = [](ncclComm_t, int* rank) { return *rank = 0, ncclSuccess; };
  real.CommInitAll = [](ncclComm_t* comms, int count, const int*) {
    for (int i = 0; i < count; ++i) comms[i] = handle(static_cast<uintptr_t>(i) + 1);
    return ncclSuccess;
  };
  real.CommInitRank = [](ncclComm_t* comm, int, ncclUniqueId, int) {
    return *comm = handle(99), fake.result;
  };
  real.CommDestroy = [](ncclComm_t) { return ++fake.ends, ncclSuccess; };
  real.CommAbort = [](ncclComm_t) { return ++fake.ends, ncclSuccess; };
  real.GroupStart = [] { return ncclSuccess; };
  real.GroupEnd = [] { return fake.result; };
  return real;
}

const slimccl_overlay* open_core(const char** why, const char* version = "0.1.0",
                                 uint32_t abi = SLIMCCL_OVERLAY_ABI) {
  void* core = dlopen(core_file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (core == nullptr) return *why = dlerror(), nullptr;
  const auto open = reinterpret_cast<slimccl_overlay_open_fn*>(dlsym(core, "slimccl_overlay_open"));
  return open(abi, version, why);
}

// Runs `body` in a process of its own, for the core reads its settings once; returns what it wrote.
template <class Body>
std::string in_process(Body&& body, int* status = nullptr) {
  int pipes[2];
  EXPECT_EQ(pipe(pipes), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipes[1], STDERR_FILENO);
    close(pipes[0]);
    close(pipes[1]);
    body();
    exit(testing::Test::HasFailure() ? 1 : 0);
  }
  close(pipes[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = read(pipes[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(got));
  close(pipes[0]);
  int own = 0;
  waitpid(child, &own, 0);
  if (status != nullptr) {
    *status = own;
  } else {
    EXPECT_EQ(own, 0) << text;
  }
  return text;
}

struct Core {
  slimccl_nccl real = fake_nccl();
  const char* why = "";
  const slimccl_overlay* hooks = open_core(&why);

  ncclResult_t all_reduce(ncclComm_t comm) const {
    return hooks->AllReduce(&real, nullptr, nullptr, 8, ncclFloat, ncclSum, comm, nullptr);
  }
};

TEST(OverlayHooks, RefuseAStubOfAnotherBuild) {
  in_process([] {
    const char* why = nullptr;
    EXPECT_EQ(open_core(&why, "9.9"), nullptr);
    EXPECT_THAT(why, HasSubstr("install both from one build"));
    EXPECT_EQ(open_core(&why, "0.1.0", 77), nullptr);
  });
}

TEST(OverlayHooks, RefuseABadSettingByName) {
  in_process([] {
    setenv("SLIMCCL_PROFILE", "fast", 1);
    const char* why = nullptr;
    EXPECT_EQ(open_core(&why), nullptr);
    EXPECT_THAT(why, HasSubstr("SLIMCCL_PROFILE"));
  });
}

TEST(OverlayHooks, SayNothingWithoutACommunicator) {
  EXPECT_EQ(in_process([] {
              const Core core;
              ncclUniqueId id;
              EXPECT_EQ(core.hooks->GetUniqueId(&core.real, &id), ncclSuccess);
            }),
            "");
}

// As long as the real call refuses it, the list may be anything.
TEST(OverlayHooks, PassOnAShrinkThatIsRefused) {
  in_process([] {
    Core core;
    core.real.CommShrink = [](ncclComm_t, int*, int, ncclComm_t*, ncclConfig_t*, int) {
      return ncclInvalidArgument;
    };
    ncclComm_t child = nullptr;
    for (const int count : {3, 1 << 30}) {
      EXPECT_EQ(core.hooks->CommShrink(&core.real, handle(5), nullptr, count, &child, nullptr, 0),
                ncclInvalidArgument);
    }
  });
}

TEST(OverlayHooks, CountACommunicatorWhoseMakingWasNotSeen) {
  const std::string text = in_process([] {
    setenv("SLIMCCL_PROFILE", "audit", 1);
    const Core core;
    for (int i = 0; i < 3; ++i) EXPECT_EQ(core.all_reduce(handle(5)), ncclSuccess);
    EXPECT_EQ(fake.calls, 3);
    EXPECT_EQ(getenv("NCCL_LAUNCH_ORDER_IMPLICIT"), nullptr) << "nothing is changed";
  });
  EXPECT_THAT(text, HasSubstr("NOTICE overlay 0.1.0 over NCCL 2.28.9 (/fake/libnccl.so.2): "
                              "profile audit, every call is forwarded"));
  EXPECT_THAT(text, HasSubstr("forwarded 3 calls: all_reduce 3 (24 elements, 96 bytes); "
                              "exact: 3 (its making was not seen)"));
}

TEST(OverlayHooks, ForwardToTheCopyThatMadeIt) {
  in_process([] {
    const Core core;
    ncclComm_t comms[2];
    EXPECT_EQ(core.hooks->CommInitAll(&core.real, comms, 2, nullptr), ncclSuccess);
    slimccl_nccl other = fake_nccl();
    other.AllReduce = nullptr;
    EXPECT_EQ(
        core.hooks->AllReduce(&other, nullptr, nullptr, 1, ncclFloat, ncclSum, comms[0], nullptr),
        ncclSuccess);
    EXPECT_EQ(fake.calls, 1);
  });
}

TEST(OverlayHooks, TellTheLastErrorOfWhoFailed) {
  in_process([] {
    const Core core;
    ncclComm_t comms[1];
    EXPECT_EQ(core.hooks->CommInitAll(&core.real, comms, 1, nullptr), ncclSuccess);
    EXPECT_EQ(core.hooks->AllGather(&core.real, nullptr, nullptr, 1, ncclFloat, comms[0], nullptr),
              ncclInvalidUsage);
    EXPECT_THAT(core.hooks->GetLastError(&core.real, nullptr), HasSubstr("has no ncclAllGather"));
    EXPECT_EQ(core.all_reduce(comms[0]), ncclSuccess);
    EXPECT_THAT(core.hooks->GetLastError(&core.real, nullptr), HasSubstr("has no ncclAllGather"));
    fake.result = ncclSystemError;
    EXPECT_EQ(core.all_reduce(comms[0]), ncclSystemError);
    EXPECT_STREQ(core.hooks->GetLastError(&core.real, nullptr), "the real text");
  });
}

TEST(OverlayHooks, ResumeWithoutPauseIsAnErrorThatSaysSo) {
  in_process([] {
    const Core core;
    EXPECT_EQ(core.hooks->Pause(), ncclSuccess);
    EXPECT_EQ(core.hooks->Pause(), ncclSuccess);
    EXPECT_EQ(core.hooks->Step(), ncclSuccess);
    EXPECT_EQ(core.hooks->Resume(), ncclSuccess);
    EXPECT_EQ(core.hooks->Resume(), ncclSuccess);
    EXPECT_EQ(core.hooks->Resume(), ncclInvalidUsage);
    EXPECT_THAT(core.hooks->GetLastError(&core.real, nullptr),
                HasSubstr("slimcclResume: nothing is paused"));
  });
}

TEST(OverlayHooks, AnIdWithoutATagIsExactAtOnce) {
  const std::string text = in_process([] {
    const Core core;
    ncclComm_t comm = nullptr;
    EXPECT_EQ(core.hooks->CommInitRank(&core.real, &comm, 4, {}, 0), ncclSuccess);
    EXPECT_EQ(core.all_reduce(comm), ncclSuccess);
    EXPECT_EQ(core.hooks->CommDestroy(&core.real, comm), ncclSuccess);
    EXPECT_EQ(fake.ends, 1);
  });
  EXPECT_THAT(text, HasSubstr("WARN overlay: 4 ranks: the unique id has no tag of SlimCCL"));
}

TEST(OverlayHooks, AnIdWithoutATagIsToldOnceByProcessesThatHaveNoRank0) {
  const std::string text = in_process([] {
    const Core core;
    for (int i = 0; i < 2; ++i) {
      ncclComm_t comm = nullptr;
      EXPECT_EQ(core.hooks->CommInitRank(&core.real, &comm, 4, {}, 2), ncclSuccess);
      EXPECT_EQ(core.hooks->CommDestroy(&core.real, comm), ncclSuccess);
    }
  });
  const std::string_view warning = "WARN overlay: 4 ranks: the unique id has no tag of SlimCCL";
  const size_t first = text.find(warning);
  ASSERT_NE(first, std::string::npos) << text;
  EXPECT_EQ(text.find(warning, first + 1), std::string::npos) << text;
}

TEST(OverlayHooks, AFailedInitLeavesNothing) {
  in_process([] {
    const Core core;
    ncclComm_t comm = nullptr;
    fake.result = ncclSystemError;
    EXPECT_EQ(core.hooks->CommInitRank(&core.real, &comm, 4, {}, 0), ncclSystemError);
    EXPECT_EQ(core.hooks->GroupStart(&core.real), ncclSuccess);
    fake.result = ncclSuccess;
    EXPECT_EQ(core.hooks->CommInitRank(&core.real, &comm, 4, {}, 0), ncclSuccess);
    fake.result = ncclInternalError;
    EXPECT_EQ(core.hooks->GroupEnd(&core.real), ncclInternalError);
  });
}

TEST(OverlayHooks, AnAbortedHandleMayStillBeInUse) {
  in_process([] {
    const Core core;
    ncclComm_t comms[1];
    EXPECT_EQ(core.hooks->CommInitAll(&core.real, comms, 1, nullptr), ncclSuccess);
    EXPECT_EQ(core.hooks->CommAbort(&core.real, comms[0]), ncclSuccess);
    EXPECT_EQ(core.all_reduce(comms[0]), ncclSuccess) << "the real NCCL decides";
    EXPECT_EQ(core.hooks->CommAbort(&core.real, comms[0]), ncclSuccess);
    EXPECT_EQ(fake.ends, 2) << "and what a second abort is";
  });
}

// While the real NCCL is slow to end one, many others come and go.
TEST(OverlayHooks, ASlowEndTouchesNoOther) {
  const std::string text = in_process([] {
    static Core core;
    core.real.CommDestroy = [](ncclComm_t comm) {
      if (comm != handle(1)) return ncclSuccess;
      for (uintptr_t i = 100; i < 200; ++i) (void)core.all_reduce(handle(i));
      for (uintptr_t i = 100; i < 200; ++i) (void)core.hooks->CommDestroy(&core.real, handle(i));
      for (uintptr_t i = 200; i < 300; ++i) (void)core.all_reduce(handle(i));
      return ncclSuccess;
    };
    for (int i = 0; i < 10; ++i) (void)core.all_reduce(handle(1));
    (void)core.hooks->CommDestroy(&core.real, handle(1));
  });
  EXPECT_THAT(text, HasSubstr("201 communicators, forwarded 210 calls: all_reduce 210 "));
}

TEST(OverlayHooks, AForkedChildIsSilent) {
  const std::string text = in_process([] {
    const Core core;
    const pid_t child = fork();
    if (child == 0) {
      const bool fine = core.all_reduce(handle(5)) == ncclSuccess && fake.calls == 1;
      exit(fine ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  });
  EXPECT_EQ(text, "");
}

TEST(OverlayHooks, WriteTheReportAsked) {
  char path[] = "/tmp/slimccl-report-XXXXXX";
  close(mkstemp(path));
  in_process([&] {
    setenv("SLIMCCL_REPORT", path, 1);
    const Core core;
    ncclComm_t comms[2];
    EXPECT_EQ(core.hooks->CommInitAll(&core.real, comms, 2, nullptr), ncclSuccess);
    EXPECT_EQ(core.all_reduce(comms[0]), ncclSuccess);
    EXPECT_EQ(core.hooks->Step(), ncclSuccess);
    for (int pause = 0; pause < 2; ++pause) {
      EXPECT_EQ(core.hooks->Pause(), ncclSuccess);
      EXPECT_EQ(core.hooks->Resume(), ncclSuccess);
    }
    EXPECT_EQ(core.hooks->CommDestroy(&core.real, comms[0]), ncclSuccess);
  });
  FILE* file = fopen(path, "r");
  char text[8192] = "";
  EXPECT_GT(fread(text, 1, sizeof text - 1, file), 0u);
  fclose(file);
  unlink(path);
  EXPECT_THAT(text, HasSubstr("\"made\": 2, \"steps\": 1, \"pauses\": 2"));
  EXPECT_THAT(text, HasSubstr("\"calls\": {\"all_reduce\": {\"profile exact\": 1}}"));
}

TEST(OverlayHooks, SigtermIsReportedAndStillEnds) {
  int status = 0;
  const std::string text = in_process(
      [] {
        const Core core;
        (void)core.all_reduce(handle(3));
        raise(SIGTERM);
      },
      &status);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
  EXPECT_THAT(text, HasSubstr("ended by SIGTERM: forwarded 1 calls: all_reduce 1\n"));
}

TEST(OverlayHooks, SigtermEndsAProcessWhoseStderrIsFull) {
  int status = 0;
  in_process(
      [] {
        const Core core;
        (void)core.all_reduce(handle(3));
        int pipes[2];
        EXPECT_EQ(pipe2(pipes, O_NONBLOCK), 0);
        while (write(pipes[1], "x", 1) == 1) continue;
        fcntl(pipes[1], F_SETFL, 0);
        dup2(pipes[1], STDERR_FILENO);
        alarm(20);  // ends a handler that waits
        raise(SIGTERM);
      },
      &status);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
}

TEST(OverlayHooks, SigtermIsNotReportedUnasked) {
  const auto text_of = [](const char* level, bool communicates) {
    int status = 0;
    return in_process(
        [&] {
          setenv("SLIMCCL_LOG", level, 1);
          const Core core;
          if (communicates) (void)core.all_reduce(handle(3));
          raise(SIGTERM);
        },
        &status);
  };
  EXPECT_EQ(text_of("none", true), "");
  EXPECT_EQ(text_of("warn", true), "");
  EXPECT_EQ(text_of("notice", false), "") << "no communicator was made";
}

TEST(OverlayHooks, AHandlerOfTheProgramsOwnStays) {
  const std::string text = in_process([] {
    signal(SIGTERM, [](int) { _exit(0); });
    const Core core;
    (void)core.all_reduce(handle(3));
    raise(SIGTERM);
  });
  EXPECT_EQ(text.find("SIGTERM"), text.npos);
}

}  // namespace

int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  if (count < 2) return 2;
  core_file = arguments[1];
  setenv("SLIMCCL_LOG", "notice", 1);
  return RUN_ALL_TESTS();
}
