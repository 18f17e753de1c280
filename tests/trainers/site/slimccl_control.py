"""The control of the loss measurement: gradients as DeepSpeed's INT4 rule (qgZ) would deliver them.

Every rank's values go through the rule before the exact sum in the node, every node's sums before
the exact sum of nodes. tests/quant/deepspeed.h states the rule. It moves more bytes, not fewer.
DeepSpeed leaves vectors exact, a hundredth of a model; in the flat gradients of here they are not.
"""
import os


def through_ds4(slices, size):
    """What the receivers of the slices, a row each, decode, in fp32: `size` elements under one scale,
    the last group of a row filled up."""
    import torch

    values = slices.detach().float()
    length = values.shape[1]
    groups = torch.nn.functional.pad(values, (0, -length % size)).view(-1, size)
    largest = groups.abs().amax(1, keepdim=True)
    scale = torch.where(largest == 0, torch.ones_like(largest), 8 / largest)
    decoded = (groups * scale).round().clamp(-8, 7) / scale
    return decoded.view(len(values), -1)[:, :length].contiguous()


class Nodes:
    """The group of this rank's node, made by all ranks at the first use."""

    group = None

    @classmethod
    def of_this_rank(cls):
        import torch.distributed as dist

        if cls.group is None:
            local = int(os.environ["LOCAL_WORLD_SIZE"])
            for first in range(0, dist.get_world_size(), local):
                group = dist.new_group(range(first, first + local))
                if first <= dist.get_rank() < first + local:
                    cls.group = group
        return cls.group


def start(size):
    """Puts the rule, in groups of `size` elements, into torch.distributed.reduce_scatter_tensor."""
    import torch.distributed as dist

    exact = dist.reduce_scatter_tensor

    def reduce_scatter_tensor(output, input, op=dist.ReduceOp.SUM, group=None, async_op=False):
        ranks = dist.get_world_size()
        if dist.get_world_size(group) != ranks:
            raise RuntimeError("the control is for reduce-scatters of all ranks")
        average = op == dist.ReduceOp.AVG
        if not average and op != dist.ReduceOp.SUM:
            raise RuntimeError(f"the control is for sums and averages, not for {op}")
        slices = input.view(ranks, -1)  # one a destination: each is a message of its own
        sums = through_ds4(slices.float() / ranks if average else slices, size)
        dist.all_reduce(sums, group=Nodes.of_this_rank())
        sums = through_ds4(sums, size)
        if int(os.environ["LOCAL_RANK"]) != 0:
            sums.zero_()  # one rank speaks for its node
        summed = sums.new_empty(output.shape)
        exact(summed, sums.view(-1))
        output.copy_(summed)
        # Again, for something that the caller can wait for.
        return exact(summed, sums.view(-1), async_op=True) if async_op else None

    dist.reduce_scatter_tensor = reduce_scatter_tensor
