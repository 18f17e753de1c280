/* A libcuda.so.1 that knows its version and nothing else: of an age that SlimCCL refuses, or broken. */
__attribute__((visibility("default"))) int cuDriverGetVersion(int* version) {
  *version = STUB_DRIVER_VERSION;
  return 0;
}
