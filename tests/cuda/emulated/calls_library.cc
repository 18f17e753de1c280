// The emulated driver's calls about libraries of kernels, and their launch.
#include <algorithm>
#include <cstring>

#include "cuda/emulated/exported.h"
#include "cuda/emulated/kernel.h"
#include "cuda/emulated/settings.h"
#include "cuda/emulated/state.h"

namespace slimccl::device {

using namespace slimccl::emulated;

namespace {

// What the kernel is in the image that the current device runs.
const KernelInfo& code_of(const Kernel& kernel) {
  const Image* image = choose_image(kernel.library->images, settings().capability);
  require(image != nullptr, CUDA_ERROR_NO_BINARY_FOR_GPU);
  const auto found = image->kernels.find(kernel.name);
  require(found != image->kernels.end(), CUDA_ERROR_NOT_FOUND);
  return found->second;
}

std::shared_ptr<Kernel> kernel_of(CUfunction function) {
  return state().kernels.get(reinterpret_cast<CUkernel>(function));
}

void check_limits(const LaunchShape& shape, const KernelInfo& info, unsigned shared_bytes) {
  constexpr unsigned kLargestGrid[] = {0x7fffffff, 65535, 65535};
  constexpr unsigned kLargestBlock[] = {1024, 1024, 64};
  uint64_t threads = 1;
  for (int i = 0; i < 3; ++i) {
    require(shape.grid[i] > 0 && shape.grid[i] <= kLargestGrid[i], CUDA_ERROR_INVALID_VALUE);
    require(shape.block[i] > 0 && shape.block[i] <= kLargestBlock[i], CUDA_ERROR_INVALID_VALUE);
    threads *= shape.block[i];
  }
  require(threads <= info.max_threads, CUDA_ERROR_INVALID_VALUE);
  require(shared_bytes <= 48 << 10, CUDA_ERROR_INVALID_VALUE);
}

}  // namespace

CUresult cuLibraryLoadData(CUlibrary* handle, const void* image, void*, void**,
                           unsigned option_count, void*, void**, unsigned library_option_count) {
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    require(image != nullptr && option_count == 0 && library_option_count == 0,
            CUDA_ERROR_INVALID_VALUE);
    try {
      *handle = state().libraries.add(std::make_shared<Library>(Library{read_fatbin(image)}));
    } catch (const BadImage&) {
      throw Refused{CUDA_ERROR_INVALID_IMAGE};
    }
  });
}

CUresult cuLibraryUnload(CUlibrary handle) {
  return call(__func__, [&] { (void)state().libraries.take(handle); });
}

CUresult cuLibraryGetKernel(CUkernel* handle, CUlibrary library_handle, const char* name) {
  return call(__func__, [&] {
    const std::shared_ptr<Library> library = state().libraries.get(library_handle);
    // Strict: every image must have it, whichever device is there today.
    for (const Image& image : library->images) {
      require(image.kernels.contains(name), CUDA_ERROR_NOT_FOUND);
    }
    *handle = state().kernels.add(std::make_shared<Kernel>(Kernel{library, name}));
  });
}

CUresult cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
  return call(__func__, [&] {
    (void)current();
    (void)code_of(*state().kernels.get(kernel));
    *function = reinterpret_cast<CUfunction>(kernel);
  });
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                        CUstream handle, void** parameters, void** extra) {
  return call(__func__, [&] {
    const std::shared_ptr<Stream> stream = own_stream_of(handle);
    const std::shared_ptr<Kernel> kernel = kernel_of(function);
    const KernelInfo& info = code_of(*kernel);
    const LaunchShape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}};
    check_limits(shape, info, shared_bytes);
    require(parameters != nullptr && extra == nullptr, CUDA_ERROR_INVALID_VALUE);
    if (info.parameter_bytes != twin_parameter_bytes()) {
      fault("kernel " + kernel->name + " takes " + std::to_string(info.parameter_bytes) +
            " bytes of parameters in the fatbin, its source twin " +
            std::to_string(twin_parameter_bytes()));
    }
    check_twin(kernel->name, shape, parameters[0]);
    const auto* first = static_cast<const std::byte*>(parameters[0]);
    const int device = stream->context.device;
    enqueue(
        *stream, kernel->name,
        [kernel, device, copied = std::vector(first, first + info.parameter_bytes)](
            std::mt19937& random) { run_kernel_on(device, kernel->name, copied.data(), random); });
  });
}

}  // namespace slimccl::device
