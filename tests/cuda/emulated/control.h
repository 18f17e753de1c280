/* What tests may ask of the emulated libcuda.so.1 beyond the driver's own calls; found by dlsym. */
#pragma once

#define SLIMCCL_EMULATED_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* The n-th call of `function` (its name in the library) from now on returns `result`; 0: never. */
SLIMCCL_EMULATED_EXPORT void slimccl_emulated_fail(const char* function, int nth, int result);
/* What seeds the random delays: SLIMCCL_EMULATED_SEED repeats them. */
SLIMCCL_EMULATED_EXPORT unsigned slimccl_emulated_seed(void);
/* From a device address to the bytes behind it: one distance for all addresses of a process. For
 * code that stands in for kernels; nothing checks what it touches. */
SLIMCCL_EMULATED_EXPORT long slimccl_emulated_distance(void);
/* What each call of the emulated runtime passes first: 0, or what it returns instead of doing
 * anything, as errors may be injected there too. */
SLIMCCL_EMULATED_EXPORT int slimccl_emulated_admit(const char* function);

#ifdef __cplusplus
}
#endif
