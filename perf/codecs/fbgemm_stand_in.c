/* Stands in for libtorch_cpu.so, so that FBGEMM's library loads without the 200 MB of PyTorch, of
 * which it uses these four functions only: cpuinfo's answers, here "nothing is known". They steer
 * FBGEMM's front functions; the benchmark calls the kernels behind those. Compiled by
 * tools/dev/bench.sh. */
struct isa {
  char flags[256]; /* cpuinfo's has fewer */
};
struct isa cpuinfo_isa;

int cpuinfo_initialize(void) { return 0; }
unsigned cpuinfo_get_packages_count(void) { return 0; }
const void* cpuinfo_get_packages(void) { return 0; }
