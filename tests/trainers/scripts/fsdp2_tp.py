"""FSDP2 and tensor parallelism, whose groups of two ranks lie across the nodes."""
import gpt
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.parallel import (ColwiseParallel, RowwiseParallel,
                                               parallelize_module)

SPLIT = {"query": ColwiseParallel(), "key": ColwiseParallel(), "value": ColwiseParallel(),
         "out": RowwiseParallel(), "mlp.0": ColwiseParallel(), "mlp.2": RowwiseParallel()}

chosen = gpt.options()
device = gpt.start(chosen)
ranks = dist.get_world_size()
mesh = DeviceMesh("cuda", torch.arange(ranks).view(2, ranks // 2).T, mesh_dim_names=("dp", "tp"))
model = gpt.model_of(chosen).to(device)
policy = MixedPrecisionPolicy()
if chosen.bf16:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=gpt.reduce_dtype(chosen))
for block in model.blocks:
    parallelize_module(block, mesh["tp"], SPLIT)
    fully_shard(block, mesh=mesh["dp"], mp_policy=policy)
fully_shard(model, mesh=mesh["dp"], mp_policy=policy)
optimizer = gpt.optimizer_of(model.parameters())
# Both ranks of a tensor-parallel group see the same text.
for step, words in enumerate(gpt.batches(chosen, device, mesh["dp"])):
    gpt.set_rate(chosen, step, optimizer)
    loss = gpt.loss_of(model, words)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    gpt.report(step, loss)
gpt.validate(model, chosen, device, mesh["dp"])
model.reshard()  # the root keeps its weights after a forward pass
gpt.finish(parameter.to_local() for parameter in model.parameters())
