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

#ifdef __cplusplus
}
#endif
