// Marks what libslimccl.so exports; everything else is hidden.
#pragma once

#define SLIMCCL_EXPORT extern "C" __attribute__((visibility("default")))

// Before the definition of ncclNAME: exports pncclNAME, another name of the same code, and makes
// ncclNAME weak, as NCCL has it: a tool puts its own ncclNAME in front and calls pncclNAME.
#define SLIMCCL_TWIN(NAME)                                          \
  extern "C" __attribute__((weak)) decltype(nccl##NAME) nccl##NAME; \
  SLIMCCL_EXPORT __attribute__((alias("nccl" #NAME))) decltype(nccl##NAME) pnccl##NAME
