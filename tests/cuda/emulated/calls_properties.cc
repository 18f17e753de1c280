// What the emulated driver says of its devices, and which of them reach each other.
#include <cstdio>
#include <cstring>

#include "cuda/emulated/attributes.h"
#include "cuda/emulated/exported.h"
#include "cuda/emulated/settings.h"
#include "cuda/emulated/state.h"

namespace slimccl::device {

using namespace slimccl::emulated;

namespace {

constexpr auto kPciBusId = static_cast<CUconstant>(33);  // the one that differs between devices

int attribute_value(CUconstant attribute, CUdevice device) {
  if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) return settings().capability / 10;
  if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) return settings().capability % 10;
  if (attribute == kPciBusId) return device + 1;
#define SLIMCCL_VALUE_IF(name, number, value) \
  if (attribute == static_cast<CUconstant>(number)) return value;
  SLIMCCL_EMULATED_ATTRIBUTES(SLIMCCL_VALUE_IF)
#undef SLIMCCL_VALUE_IF
  throw Refused{CUDA_ERROR_INVALID_VALUE};
}

}  // namespace

CUresult cuDeviceGetCount(int* count) {
  return call(__func__, [&] { *count = settings().devices; });
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return call(__func__, [&] { *device = context_of_device(ordinal).device; });
}

CUresult cuDeviceGetAttribute(int* value, CUconstant attribute, CUdevice device) {
  return call(__func__,
              [&] { *value = attribute_value(attribute, context_of_device(device).device); });
}

CUresult cuDeviceGetName(char* name, int bytes, CUdevice device) {
  return call(__func__, [&] {
    require(bytes > 0, CUDA_ERROR_INVALID_VALUE);
    std::snprintf(name, static_cast<size_t>(bytes), "Emulated CUDA device %d",
                  context_of_device(device).device);
  });
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  return call(__func__, [&] {
    std::memset(uuid, 0, sizeof(*uuid));
    uuid->bytes[0] = static_cast<char>(context_of_device(device).device + 1);
  });
}

CUresult cuDeviceGetPCIBusId(char* id, int bytes, CUdevice device) {
  return call(__func__, [&] {
    require(bytes > 0, CUDA_ERROR_INVALID_VALUE);
    std::snprintf(id, static_cast<size_t>(bytes), "0000:%02x:00.0",
                  static_cast<unsigned>(context_of_device(device).device + 1));
  });
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return call(__func__, [&] {
    (void)context_of_device(device);
    *bytes = settings().device_bytes;
  });
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  return call(__func__, [&] {
    const Context& context = context_of_device(device);
    const std::lock_guard lock(state().mutex);
    *flags = 0;
    *active = context.retained > 0 ? 1 : 0;
  });
}

// Copies reach every device, as they do on a GPU. Kernels do not: no twin runs across devices, so
// no device says that it can reach another.
CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  return call(__func__, [&] {
    (void)context_of_device(device);
    (void)context_of_device(peer);
    *can = 0;
  });
}

CUresult cuCtxEnablePeerAccess(CUcontext, unsigned) {
  return call(__func__, [&] { throw Refused{CUDA_ERROR_PEER_ACCESS_UNSUPPORTED}; });
}

}  // namespace slimccl::device
