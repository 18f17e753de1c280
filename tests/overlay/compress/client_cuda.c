#include "client_cuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Cuda cuda;

void must_cuda(int result, const char* what) {
  if (result == 0) return;
  printf("FAILED cuda %s: %d\n", what, result);
  exit(3);
}

static void find(void* library, const char* name, void* function) {
  void* found = dlsym(library, name);
  if (found == NULL) {
    printf("FAILED libcuda.so.1 has no %s\n", name);
    exit(3);
  }
  memcpy(function, &found, sizeof found);
}

void load_cuda(void) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == NULL) {
    printf("FAILED %s\n", dlerror());
    exit(3);
  }
  find(library, "cuInit", &cuda.init);
  find(library, "cuDevicePrimaryCtxRetain", &cuda.retain);
  find(library, "cuCtxSetCurrent", &cuda.set_current);
  find(library, "cuMemAlloc_v2", &cuda.allocate);
  find(library, "cuMemsetD8_v2", &cuda.fill);
  find(library, "cuMemcpyHtoD_v2", &cuda.upload);
  find(library, "cuMemcpyDtoH_v2", &cuda.download);
  find(library, "cuMemcpyDtoDAsync_v2", &cuda.copy_async);
  find(library, "cuMemsetD8Async", &cuda.fill_async);
  find(library, "cuStreamCreate", &cuda.make_stream);
  find(library, "cuStreamQuery", &cuda.query);
  find(library, "cuStreamBeginCapture_v2", &cuda.begin_capture);
  find(library, "cuStreamEndCapture", &cuda.end_capture);
  find(library, "cuGraphDestroy", &cuda.destroy_graph);
  CUDA(init(0));
}
