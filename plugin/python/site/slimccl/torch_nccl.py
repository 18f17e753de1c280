"""Does torch call NCCL through the dynamic linker, where LD_PRELOAD can stand in front?"""
import os

from slimccl import elf

STATIC = ("torch has NCCL linked into it ({path} asks for no libnccl.so.2): LD_PRELOAD cannot "
          "reach its calls, so that nothing would be compressed. PyPI's wheels of torch load NCCL "
          "as a library; a torch built from source does with USE_SYSTEM_NCCL=1 and without "
          "USE_STATIC_NCCL")


def problem(torch_folder):
    """Why NCCL in this torch cannot be reached, or None: also when that cannot be told, and for a
    torch without CUDA, which has no NCCL at all."""
    path = os.path.join(torch_folder, "lib", "libtorch_cuda.so")
    try:
        libraries = elf.needed_libraries(path)
    except (OSError, ValueError):
        return None
    if any(name.startswith("libnccl.so") for name in libraries):
        return None
    return STATIC.format(path=path)
