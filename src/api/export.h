// Marks what libslimccl.so exports; everything else is hidden.
#pragma once

#define SLIMCCL_EXPORT extern "C" __attribute__((visibility("default")))
