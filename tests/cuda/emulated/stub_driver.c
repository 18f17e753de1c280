/* A libcuda.so.1 that knows its version and nothing else: of an age that SlimCCL refuses, or broken;
   or with STUB_DRIVER_RESULT not even that, as the CUDA toolkit's stub. */
#ifndef STUB_DRIVER_RESULT
#define STUB_DRIVER_RESULT 0
#endif
__attribute__((visibility("default"))) int cuDriverGetVersion(int* version) {
  if (STUB_DRIVER_RESULT == 0) *version = STUB_DRIVER_VERSION;
  return STUB_DRIVER_RESULT;
}
