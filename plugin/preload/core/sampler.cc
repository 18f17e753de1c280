#include "core/sampler.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "device/cuda/memory.h"
#include "quant/codec.h"

namespace slimccl::overlay {
namespace {

constexpr uint64_t kRun = 64;  // elements: a block of q8

// Where sample number `number` begins: somewhere else each time, and at the start of a block.
uint64_t begin_of(uint64_t number, uint64_t elems) {
  if (elems <= kSampleElems) return 0;
  const uint64_t places = (elems - kSampleElems) / kRun + 1;
  return (number * 0x9e3779b97f4a7c15ULL >> 32) % places * kRun;
}

}  // namespace

Sampler::Sampler(const device::Driver& driver, device::CUcontext context)
    : driver_(driver), context_(context) {
  const device::CurrentContext current(driver_, context_);
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
  const auto from = device::address_of(data) + begin_of(taken_++, elems) * bytes;
  free_place->kind = kind;
  free_place->type = type;
  free_place->bytes = std::min(elems, kSampleElems) * bytes;
  driver_.cuMemcpyDtoHAsync(free_place->memory, from, free_place->bytes, stream);
  driver_.cuEventRecord(free_place->copied, stream);
  free_place->busy = true;
}

std::vector<Sampler::Sample> Sampler::arrived() {
  std::vector<Sample> samples;
  if (std::ranges::none_of(places_, &Place::busy)) return samples;
  const device::CurrentContext current(driver_, context_);
  for (Place& place : places_) {
    if (!place.busy || driver_.cuEventQuery.result(place.copied) != device::CUDA_SUCCESS) continue;
    place.busy = false;
    samples.push_back({place.kind, content_of(ConstBytes(place.memory, place.bytes), place.type)});
  }
  return samples;
}

}  // namespace slimccl::overlay
