"""Tensor and sequence parallelism across nodes, as Megatron calls it: activations, and their
gradients, by all-gather, reduce-scatter and all-reduce, in counts that look like ZeRO's."""
import gpt
import marks
import torch
import torch.distributed as dist

LENGTH = 128

chosen = gpt.options()
device = gpt.start(chosen)
ranks, rank = dist.get_world_size(), dist.get_rank()
half = ranks // 2
pairs = [dist.new_group([one, one + half], group_desc="tp") for one in range(half)]
everyone = dist.new_group(list(range(ranks)), group_desc="sp")


def layer(group, share):
    """All of a layer's input, and this rank's share of its output: forward, or backward."""
    size = dist.get_world_size(group)
    whole = torch.empty(size * share.shape[0], share.shape[1], dtype=share.dtype, device=device)
    dist.all_gather_into_tensor(whole, share, group=group)
    output = torch.empty_like(share)
    dist.reduce_scatter_tensor(output, whole, group=group)
    dist.all_reduce(whole, group=group)
    return output / (2 * size)


for step in range(chosen.steps):
    for dtype in (torch.bfloat16, torch.float32):
        for group in (pairs[rank % half], everyone):
            share = torch.randn(chosen.batch * LENGTH, chosen.width, device=device).to(dtype)
            with marks.carries("activations"):
                for _ in range(2 * chosen.blocks):  # forward and backward
                    share = layer(group, share)
    with marks.carries("other"):
        gpt.report(step, share.float().mean())
gpt.finish([share])
