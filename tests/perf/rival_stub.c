// rival_stub SOCKET FAULT: ranks of a library that needs no network, because everybody knows
// everybody's input; with one fault, for the tests of protocol.h and its driver. FAULT: none,
// last_element, swapped_shards, forgotten_rank, or, from the second call on, exit or hang.
#include "rivals/protocol.h"

typedef struct Stub {
  int rank, ranks, calls;
  const char* fault;
} Stub;

static int faulty(const Stub* stub, const char* fault) { return strcmp(stub->fault, fault) == 0; }

static int call(void* context, Operation operation, const float* input, float* output,
                uint64_t elems) {
  Stub* stub = context;
  const uint64_t shard = elems / (uint64_t)stub->ranks;
  const uint64_t first = operation == kReduceScatter ? shard * (uint64_t)stub->rank : 0;
  const uint64_t end = operation == kReduceScatter ? shard : elems;
  if (stub->calls++ > 0 && stub->rank == 1) {
    if (faulty(stub, "exit")) rival_fail("the stub", "exits as told");
    while (faulty(stub, "hang")) pause();
  }
  (void)input;
  for (uint64_t i = 0; i < end; ++i) {
    if (operation == kAllGather) {
      const int owner = (int)(i / shard) ^ (faulty(stub, "swapped_shards") ? 1 : 0);
      output[i] = input_value(owner, i % shard);
      continue;
    }
    output[i] = 0;
    for (int rank = faulty(stub, "forgotten_rank") ? 1 : 0; rank < stub->ranks; ++rank) {
      output[i] += input_value(rank, first + i);
    }
  }
  if (faulty(stub, "last_element") && stub->rank == 2) output[end - 1] += 1;
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) rival_fail("usage", "rival_stub SOCKET FAULT");
  Stub stub = {atoi(getenv("RANK")), atoi(getenv("WORLD_SIZE")), 0, argv[2]};
  char id[3] = {0, (char)0xfe, 7};
  Driver driver = driver_connect(argv[1], stub.rank, id, stub.rank == 0 ? sizeof id : 0);
  memset(id, 1, sizeof id);
  driver_receive_id(&driver, id, sizeof id);
  if (id[0] != 0 || id[1] != (char)0xfe || id[2] != 7) rival_fail("the id", "came otherwise");
  const Rival rival = {"Stub   1.0\nand more", stub.rank, stub.ranks, &stub, call};
  rival_serve(&driver, &rival);
  return 0;
}
