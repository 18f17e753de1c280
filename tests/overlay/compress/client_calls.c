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

// Device memory filled with what a copy of something should replace.
static CUdeviceptr kept(size_t bytes) {
  CUdeviceptr memory;
  CUDA(allocate(&memory, bytes + 1));
  CUDA(fill(memory, kFill, bytes + 1));
  return memory;
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
    const size_t bytes = input_elems(call) * width(call);
    void* data = read_input(call, local_rank[i]);
    call->at[i].source = kept(bytes);
    if (bytes > 0) CUDA(upload(call->at[i].source, data, bytes));
    free(data);
    call->at[i].used = kept(bytes);
    call->at[i].result = kept(output_elems(call) * width(call));
    uint32_t scalar = 0;
    scalar_of(call, local_rank[i], &scalar);
    CUDA(allocate(&call->at[i].scalar, sizeof scalar));
    CUDA(upload(call->at[i].scalar, &scalar, sizeof scalar));
  }
}

void before_call(const Call* call, Worker* worker, int local) {
  const size_t bytes = input_elems(call) * width(call);
  const CUstream stream = worker->streams[local][call->stream];
  if (bytes > 0) CUDA(copy_async(call->at[local].input, call->at[local].source, bytes, stream));
}

static void keep(CUdeviceptr copy, CUdeviceptr of, size_t bytes, CUstream stream) {
  if (bytes == 0) return;
  CUDA(copy_async(copy, of, bytes, stream));
}

static void wipe(CUdeviceptr memory, size_t bytes, CUstream stream) {
  if (bytes > 0) CUDA(fill_async(memory, kFill, bytes, stream));
}

void after_call(const Call* call, Worker* worker, int local) {
  const size_t in = input_elems(call) * width(call), out = output_elems(call) * width(call);
  const CUstream stream = worker->streams[local][call->stream];
  keep(call->at[local].used, call->at[local].input, in, stream);
  keep(call->at[local].result, call->at[local].output, out, stream);
  wipe(call->at[local].input, in, stream);
  wipe(call->at[local].output, out, stream);
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

// One allocation is as it was filled: the margins at first, the rest behind the call.
static void check_fill(const Call* call, int local, int output, size_t elems) {
  const size_t bytes = (elems + kMargin) * width(call);
  unsigned char* data = malloc(bytes);
  CUDA(download(data, call->at[local].memory[output], bytes));
  for (size_t i = 0; i < bytes; ++i) {
    if (data[i] == kFill) continue;
    printf("BROKEN call %d wrote to byte %zd of %zu, beside the %s of rank %d or too late\n",
           call->number, (ssize_t)(i - offset_of(call, output) * width(call)), elems * width(call),
           output ? "output" : "input", local_rank[local]);
    break;
  }
  free(data);
}

static void check_input(const Call* call, int local) {
  const size_t bytes = input_elems(call) * width(call);
  void *data = malloc(bytes + 1), *original = read_input(call, local_rank[local]);
  if (bytes > 0) CUDA(download(data, call->at[local].used, bytes));
  if (memcmp(data, original, bytes) != 0)
    printf("BROKEN call %d changed the input of rank %d\n", call->number, local_rank[local]);
  free(data), free(original);
}

void collect(const Call* call) {
  for (int i = 0; i < locals; ++i) {
    use_device(i);
    check_fill(call, i, 0, call->in_place ? larger(call) : input_elems(call));
    if (!call->in_place) check_fill(call, i, 1, output_elems(call));
    if (!call->in_place) check_input(call, i);
    const size_t bytes = output_elems(call) * width(call);
    void* data = malloc(bytes + 1);
    if (bytes > 0) CUDA(download(data, call->at[i].result, bytes));
    char path[4096];
    path_of(path, sizeof path, call, local_rank[i], "out");
    FILE* file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) exit(4);
    free(data);
  }
}
