"""HSDP: FSDP2 in each node, replicas between the nodes."""
import os

import gpt
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

chosen = gpt.options()
device = gpt.start(chosen)
local = int(os.environ["LOCAL_WORLD_SIZE"])
mesh = init_device_mesh("cuda", (dist.get_world_size() // local, local),
                        mesh_dim_names=("replicate", "shard"))
model = gpt.model_of(chosen).to(device)
policy = MixedPrecisionPolicy()
if chosen.bf16:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=gpt.reduce_dtype(chosen))
for block in model.blocks:
    fully_shard(block, mesh=mesh, mp_policy=policy)
fully_shard(model, mesh=mesh, mp_policy=policy)
optimizer = gpt.optimizer_of(model.parameters())
for step, words in enumerate(gpt.batches(chosen, device)):
    gpt.set_rate(chosen, step, optimizer)
    loss = gpt.loss_of(model, words)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    gpt.report(step, loss)
gpt.validate(model, chosen, device)
model.reshard()  # the root keeps its weights after a forward pass
gpt.finish(parameter.to_local() for parameter in model.parameters())
