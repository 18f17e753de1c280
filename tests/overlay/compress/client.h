// The client's calls: what its program says, with the buffers that they use. See client.c.
#pragma once

#include <stdint.h>

#include "client_cuda.h"
#include "slimccl/nccl.h"

enum { kMaxLocal = 8, kMaxComms = 4, kStreams = 2, kMaxCalls = 1024 };

typedef enum { kAllGather, kReduceScatter, kAllReduce } Op;

// One collective, and for each of this process's ranks its buffers.
typedef struct {
  int number;
  Op op;
  ncclDataType_t type;
  size_t count, offset;  // in elements; `offset` misaligns the buffers
  char reduction[16];    // sum, avg, max, premul_host or premul_device
  int in_place, stream, comm;
  struct {
    CUdeviceptr memory[2];  // the input's allocation, and the output's: in place the same
    CUdeviceptr input, output, scalar;
    CUdeviceptr source, used, result;  // what goes into the input, and what input and output become
  } at[kMaxLocal];
} Call;

// One host thread of the client: its program, and its streams of each local rank.
typedef struct {
  int number;
  Call* calls;
  int count;
  CUstream streams[kMaxLocal][kStreams];
} Worker;

extern int ranks, locals, local_rank[kMaxLocal];  // global rank of each local one
extern ncclComm_t comms[kMaxComms][kMaxLocal];
extern const char* folder;

void use_device(int local);
// Buffers of all local ranks, with the inputs that the test left in FOLDER/NUMBER.RANK.in.
void prepare(Call* call);
// On the call's stream: fills the input before the call; afterwards keeps what the buffers hold,
// and overwrites them, so that a call which is early or late on its stream is seen.
void before_call(const Call* call, Worker* worker, int local);
void after_call(const Call* call, Worker* worker, int local);
// The call of one local rank.
ncclResult_t make_call(const Call* call, Worker* worker, int local);
// Leaves the outputs in FOLDER/NUMBER.RANK.out; says what else was written to.
void collect(const Call* call);
