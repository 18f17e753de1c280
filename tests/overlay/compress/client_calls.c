#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

enum { kMargin = 48, kFill = 0xa5 };  // elements beside each buffer, and what is in them

static size_t width(const Call* call) { return call->type == ncclFloat ? 4 : 2; }

static size_t input_elems(const Call* call) {
  return call->count * (size_t)(call->op == kReduceScatter ? ranks : 1);
}

static size_t output_elems(const Call* call) {
  return call->count * (size_t)(call->op == kAllGather ? ranks : 1);
}

static size_t larger(const Call* call) {
  return input_elems(call) > output_elems(call) ? input_elems(call) : output_elems(call);
}

static void path_of(char* path, size_t size, const Call* call, int rank, const char* suffix) {
  snprintf(path, size, "%s/%d.%d.%s", folder, call->number, rank, suffix);
}

static void* read_input(const Call* call, int rank) {
  char path[4096];
  path_of(path, sizeof path, call, rank, "in");
  const size_t bytes = input_elems(call) * width(call);
  void* data = malloc(bytes + 1);
  FILE* file = fopen(path, "rb");
  if (file == NULL || fread(data, 1, bytes + 1, file) != bytes) {
    printf("FAILED %s does not have %zu bytes\n", path, bytes);
    exit(3);
  }
  fclose(file);
  return data;
}

// The output of a call that is not in place is aligned in another way than its input.
static size_t offset_of(const Call* call, int output) {
  return output && !call->in_place ? (call->offset * 5 + 3) % 16 : call->offset;
}

static CUdeviceptr buffer(const Call* call, int output, size_t elems, CUdeviceptr* memory) {
  const size_t bytes = (elems + kMargin) * width(call);
  CUDA(allocate(memory, bytes));
  CUDA(fill(*memory, kFill, bytes));
  return *memory + offset_of(call, output) * width(call);
}

// What ncclRedOpCreatePreMulSum multiplies with: exact in every type.
static void scalar_of(const Call* call, int rank, void* bytes) {
  const float value = 0.5f + 0.25f * (float)rank;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint16_t upper = (uint16_t)(bits >> 16);
  const _Float16 half = (_Float16)value;
  if (call->type == ncclFloat) memcpy(bytes, &bits, sizeof bits);
  if (call->type == ncclBfloat16) memcpy(bytes, &upper, sizeof upper);
  if (call->type == ncclFloat16) memcpy(bytes, &half, sizeof half);
}

void prepare(Call* call) {
  for (int i = 0; i < locals; ++i) {
    use_device(i);
    const size_t slot = (size_t)local_rank[i] * call->count * width(call);
    if (call->in_place) {
      const CUdeviceptr whole = buffer(call, 0, larger(call), &call->at[i].memory[0]);
      call->at[i].memory[1] = call->at[i].memory[0];
      call->at[i].input = whole + (call->op == kAllGather ? slot : 0);
      call->at[i].output = whole + (call->op == kReduceScatter ? slot : 0);
    } else {
      call->at[i].input = buffer(call, 0, input_elems(call), &call->at[i].memory[0]);
      call->at[i].output = buffer(call, 1, output_elems(call), &call->at[i].memory[1]);
    }
    void* data = read_input(call, local_rank[i]);
    if (call->count > 0) CUDA(upload(call->at[i].input, data, input_elems(call) * width(call)));
    free(data);
    uint32_t scalar = 0;
    scalar_of(call, local_rank[i], &scalar);
    CUDA(allocate(&call->at[i].scalar, sizeof scalar));
    CUDA(upload(call->at[i].scalar, &scalar, sizeof scalar));
  }
}

static ncclResult_t enqueue(const Call* call, const void* from, void* into, ncclRedOp_t reduction,
                            ncclComm_t comm, CUstream stream) {
  const cudaStream_t on = (cudaStream_t)stream;
  switch (call->op) {
    case kAllGather:
      return ncclAllGather(from, into, call->count, call->type, comm, on);
    case kReduceScatter:
      return ncclReduceScatter(from, into, call->count, call->type, reduction, comm, on);
    case kAllReduce:
      return ncclAllReduce(from, into, call->count, call->type, reduction, comm, on);
  }
  return ncclInvalidUsage;
}

ncclResult_t make_call(const Call* call, Worker* worker, int local) {
  const ncclComm_t comm = comms[call->comm][local];
  const void* from = (const void*)(uintptr_t)call->at[local].input;
  void* into = (void*)(uintptr_t)call->at[local].output;
  const CUstream stream = worker->streams[local][call->stream];
  const int made = strncmp(call->reduction, "premul", 6) == 0;
  ncclRedOp_t reduction = ncclSum;
  if (strcmp(call->reduction, "avg") == 0) reduction = ncclAvg;
  if (strcmp(call->reduction, "max") == 0) reduction = ncclMax;
  uint32_t scalar = 0;
  if (made) {
    const int on_host = strcmp(call->reduction, "premul_host") == 0;
    scalar_of(call, local_rank[local], &scalar);
    void* place = on_host ? (void*)&scalar : (void*)(uintptr_t)call->at[local].scalar;
    const ncclResult_t result = ncclRedOpCreatePreMulSum(
        &reduction, place, call->type, on_host ? ncclScalarHostImmediate : ncclScalarDevice, comm);
    if (result != ncclSuccess) return result;
  }
  ncclResult_t result = enqueue(call, from, into, reduction, comm, stream);
  // At once, as PyTorch does, though the call may not have run, nor its group ended.
  if (made && result == ncclSuccess) result = ncclRedOpDestroy(reduction, comm);
  return result;
}

// The margins of one allocation are as they were filled.
static void check_margins(const Call* call, int local, int output, size_t elems) {
  const size_t bytes = (elems + kMargin) * width(call);
  const size_t begin = offset_of(call, output) * width(call), end = begin + elems * width(call);
  unsigned char* data = malloc(bytes);
  CUDA(download(data, call->at[local].memory[output], bytes));
  for (size_t i = 0; i < bytes; ++i) {
    if ((i >= begin && i < end) || data[i] == kFill) continue;
    printf("BROKEN call %d wrote to byte %zd beside the %s of rank %d\n", call->number,
           (ssize_t)i - (ssize_t)begin, output ? "output" : "input", local_rank[local]);
    break;
  }
  free(data);
}

static void check_input(const Call* call, int local) {
  const size_t bytes = input_elems(call) * width(call);
  void *data = malloc(bytes + 1), *original = read_input(call, local_rank[local]);
  if (bytes > 0) CUDA(download(data, call->at[local].input, bytes));
  if (memcmp(data, original, bytes) != 0)
    printf("BROKEN call %d changed the input of rank %d\n", call->number, local_rank[local]);
  free(data), free(original);
}

void collect(const Call* call) {
  for (int i = 0; i < locals; ++i) {
    use_device(i);
    check_margins(call, i, 0, call->in_place ? larger(call) : input_elems(call));
    if (!call->in_place) check_margins(call, i, 1, output_elems(call));
    if (!call->in_place) check_input(call, i);
    const size_t bytes = output_elems(call) * width(call);
    void* data = malloc(bytes + 1);
    if (bytes > 0) CUDA(download(data, call->at[i].output, bytes));
    char path[4096];
    path_of(path, sizeof path, call, local_rank[i], "out");
    FILE* file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) exit(4);
    free(data);
  }
}
