"""FSDP1's weights that are still gathered: after a forward without a backward, as in an evaluation,
those of the root (with SHARD_GRAD_OP: all) stay so as training gathers them, which may be rounded.
A state dict would take them as they are, and summon_full_params write them back."""
from slimccl import everyone, mode


def let_go(module):
    """They will be gathered anew, exactly if paused. All ranks hold the same."""
    try:
        from torch.distributed.fsdp import FullyShardedDataParallel
        from torch.distributed.fsdp._runtime_utils import _reshard

        held = []
        for fsdp in FullyShardedDataParallel.fsdp_modules(module):
            handle = getattr(fsdp, "_handle", None)
            if handle is None or fsdp._is_root is None or not handle.uses_sharded_strategy:
                continue  # nothing is sharded, or nothing has been gathered yet
            if handle._training_state.name == "IDLE" and not handle.needs_unshard():
                held.append((fsdp, handle))
        if held and everyone.is_active():
            for fsdp, handle in held:
                _reshard(fsdp, handle, True)
    except (ImportError, AttributeError, TypeError) as error:
        mode.of_rank_0(f"cannot reshard FSDP1 in this version ({type(error).__name__}: {error}): "
                       "a checkpoint right after an evaluation may hold rounded weights")


def let_go_first(*arguments, **keywords):
    """Of what takes a module first."""
    let_go(arguments[0] if arguments else keywords.get("module", keywords.get("self")))
