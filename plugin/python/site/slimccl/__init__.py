"""SlimCCL under a trainer's NCCL: `slimccl-run torchrun ... train.py`. What a program may call:

  with slimccl.pause():     # the calls made inside are exact; every rank, at the same place
      weights = gather_for_evaluation(model)
  slimccl.step()            # an optimizer step has ended that torch's optimizers do not show
  slimccl.is_active()       # does the preloaded file serve in this process?

Without the preloaded file pause() and step() do nothing, and is_active() is False.
"""
from slimccl.overlay import is_active, pause, step

__all__ = ["is_active", "pause", "step"]
__version__ = "0.1.0"
