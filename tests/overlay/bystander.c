// A library that has nothing to do with NCCL.
int bystander(void) { return 0; }
