"""DeepSpeed's weights that are still as training gathered them, which may be rounded: a checkpoint
would take them as they are, and GatheredParameters with a modifier_rank write them back."""
from slimccl import everyone, mode

# Of an optimizer: the weights of all ranks, one flat tensor a group, and each rank's part of it.
REPLICAS = (("bit16_groups_flat", "parallel_partitioned_bit16_groups"),  # ZeRO-1, ZeRO-2
            ("bf16_groups_flat", "bf16_partitioned_groups"))  # BF16_Optimizer


def or_tell(gather):
    """In a version of DeepSpeed that we do not know the program goes on."""
    def wrapper(*arguments, **keywords):
        try:
            gather(*arguments, **keywords)
        except (AttributeError, TypeError, IndexError) as error:
            mode.of_rank_0(f"cannot gather DeepSpeed's weights anew in this version "
                           f"({type(error).__name__}: {error}): what is saved may be rounded")
    return wrapper


@or_tell
def gather_replicas(engine, *_arguments, **_keywords):
    """ZeRO-1 and ZeRO-2 gather the weights at the end of each step, in place, and keep them: a
    rank's own part is exact, so that gathering all parts once more makes all of them exact. Their
    masters in 32 bits are left out: a program may have put other weights there, as an average."""
    import torch
    import torch.distributed as dist

    optimizer = getattr(engine, "optimizer", None)
    groups = getattr(optimizer, "real_dp_process_group", [])
    for flats, parts in REPLICAS:
        for flat, own, group in zip(getattr(optimizer, flats, []), getattr(optimizer, parts, []),
                                    groups):
            # No parts: offload_states has taken the weights away.
            if own and dist.get_world_size(group) > 1 and everyone.is_active():
                with torch.no_grad():
                    dist.all_gather_into_tensor(flat, own[dist.get_rank(group)], group=group)


def is_held(parameter):
    """ZeRO-3 has gathered it for some module that is not running now, and still has it."""
    if parameter.ds_status.name != "AVAILABLE" or parameter.ds_tensor is None:
        return False
    owner = getattr(parameter, "_ds_z3_eager_fallback_owner", None)
    return not (parameter.ds_active_sub_modules
                or getattr(parameter, "_ds_z3_gathered_param_context_depth", 0)
                or owner is not None and owner.has_outstanding_graph_claim(parameter))


@or_tell
def let_go(gathered):
    """Of GatheredParameters before they are entered: what is held is gathered anew. After a forward
    without a backward that may be all weights. All ranks hold the same."""
    held = [one for one in gathered.params if is_held(one)] if gathered.enabled else []
    if held and everyone.is_active():
        held[0].partition(param_list=held)
