// CUDA's driver for the client: found by dlopen, in declarations of our own, as the client is
// built where there is no CUDA.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st* CUcontext;
typedef struct CUstream_st* CUstream;
typedef struct CUgraph_st* CUgraph;

enum { kNotReady = 600 };

// The functions that the client uses; all return a CUresult.
extern struct Cuda {
  int (*init)(unsigned flags);
  int (*retain)(CUcontext* context, int device);
  int (*set_current)(CUcontext context);
  int (*allocate)(CUdeviceptr* address, size_t bytes);
  int (*fill)(CUdeviceptr into, unsigned char value, size_t bytes);
  int (*upload)(CUdeviceptr into, const void* from, size_t bytes);
  int (*download)(void* into, CUdeviceptr from, size_t bytes);
  int (*copy_async)(CUdeviceptr into, CUdeviceptr from, size_t bytes, CUstream stream);
  int (*fill_async)(CUdeviceptr into, unsigned char value, size_t bytes, CUstream stream);
  int (*make_stream)(CUstream* stream, unsigned flags);
  int (*query)(CUstream stream);
  int (*begin_capture)(CUstream stream, unsigned mode);
  int (*end_capture)(CUstream stream, CUgraph* graph);
  int (*destroy_graph)(CUgraph graph);
} cuda;

void load_cuda(void);
// Ends the process if a call of the driver failed.
void must_cuda(int result, const char* what);
#define CUDA(call) must_cuda(cuda.call, #call)
