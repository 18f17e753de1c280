"""Puts CPU kernels behind torch's CUDA operators when torch is imported on emulated devices.

torch calls start() through the entry point beside this file ([torch.backends]), so a trainer
imports nothing of ours. Without TRAINERS_FALLBACK in the environment it does nothing.
"""
import contextlib
import ctypes
import os


@contextlib.contextmanager
def stderr_to(path):
    """torch warns of every kernel that is replaced, from C++."""
    saved = os.dup(2)
    target = os.open(path, os.O_WRONLY)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def start():
    path = os.environ.get("TRAINERS_FALLBACK")
    if not path:
        return
    import torch

    with stderr_to(os.devnull):
        operators = ctypes.CDLL(path).slimccl_fallback_install()
    if operators == 0:
        raise RuntimeError("TRAINERS_FALLBACK is set, but this process has no emulated CUDA: "
                           "is its folder first in LD_LIBRARY_PATH?")
    # These have no CPU kernel; without them torch takes the formula, operator by operator.
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cudnn.enabled = False
    if os.environ.get("TRAINERS_DS4_GROUP"):
        import slimccl_control

        slimccl_control.start(int(os.environ["TRAINERS_DS4_GROUP"]))
