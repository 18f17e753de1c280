#include "core/sampler.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "device/cuda/memory.h"
#include "quant/codec.h"

namespace slimccl::overlay {

Sampler::Sampler(const device::Driver& driver, device::CUcontext context)
    : driver_(driver), context_(context) {
  const device::CurrentContext current(driver_, context_);
  const device::BesideCaptures beside(driver_);
  try {
    for (Place& place : places_) {
      void* memory = nullptr;
      driver_.cuMemHostAlloc(&memory, kSampleElems * sizeof(float), 0);
      place.memory = static_cast<std::byte*>(memory);
      driver_.cuEventCreate(&place.copied, device::CU_EVENT_DISABLE_TIMING);
    }
  } catch (const Error&) {
    free();  // no destructor runs after a throw
    throw;
  }
}

Sampler::~Sampler() {
  try {
    const device::CurrentContext current(driver_, context_);
    const device::BesideCaptures beside(driver_);
    for (const Place& place : places_) {
      if (place.busy) driver_.cuEventSynchronize(place.copied);  // CUDA still writes there
    }
    free();
  } catch (const Error& error) {
    log::warn("overlay: pinned memory for samples is not given back: ", error.what());
  }
}

void Sampler::free() noexcept {
  for (Place& place : places_) {
    if (place.copied != nullptr) (void)driver_.cuEventDestroy.result(place.copied);
    if (place.memory != nullptr) (void)driver_.cuMemFreeHost.result(place.memory);
  }
}

void Sampler::take(size_t kind, const void* data, uint64_t elems, ncclDataType_t type,
                   device::CUstream stream) {
  const auto free_place = std::ranges::find(places_, false, &Place::busy);
  if (free_place == places_.end()) return;
  const device::CurrentContext current(driver_, context_);
  const uint64_t bytes = quant::type_bytes(type);
  free_place->kind = kind;
  free_place->type = type;
  free_place->bytes = 0;
  for (const SampleRun& run : sample_runs(elems)) {
    driver_.cuMemcpyDtoHAsync(free_place->memory + free_place->bytes,
                              device::address_of(data) + run.begin * bytes, run.elems * bytes,
                              stream);
    free_place->bytes += run.elems * bytes;
  }
  driver_.cuEventRecord(free_place->copied, stream);
  free_place->busy = true;
}

std::vector<Sampler::Sample> Sampler::arrived() {
  std::vector<Sample> samples;
  if (std::ranges::none_of(places_, &Place::busy)) return samples;
  const device::CurrentContext current(driver_, context_);
  const device::BesideCaptures beside(driver_);
  for (Place& place : places_) {
    if (!place.busy || driver_.cuEventQuery.result(place.copied) != device::CUDA_SUCCESS) continue;
    place.busy = false;
    samples.push_back({place.kind, content_of(ConstBytes(place.memory, place.bytes), place.type)});
  }
  return samples;
}

}  // namespace slimccl::overlay
