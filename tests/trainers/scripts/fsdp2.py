"""FSDP2: fully_shard on every block."""
import os

import gpt
import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

parser = gpt.parser()
parser.add_argument("--mixed-types", action="store_true",
                    help="units of bf16 matrices to train and frozen fp32 norms")
parser.add_argument("--keep-in-node", action="store_true",
                    help="after the forward pass weights stay sharded over the node")
chosen = parser.parse_args()
device = gpt.start(chosen)
model = gpt.model_of(chosen).to(device)
policy = MixedPrecisionPolicy()
if chosen.bf16:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=gpt.reduce_dtype(chosen))
elif chosen.mixed_types:
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    model.to(torch.bfloat16)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.to(torch.float32).requires_grad_(False)
reshard = int(os.environ["LOCAL_WORLD_SIZE"]) if chosen.keep_in_node else True
for block in model.blocks:
    fully_shard(block, mp_policy=policy, reshard_after_forward=reshard)
fully_shard(model, mp_policy=policy)
optimizer = gpt.optimizer_of([one for one in model.parameters() if one.requires_grad])
texts = gpt.batches(chosen, device)
for step in range(chosen.until or chosen.steps):
    gpt.set_rate(chosen, step, optimizer)
    for left in reversed(range(chosen.accumulate)):
        model.set_requires_gradient_sync(left == 0)
        loss = gpt.loss_of(model, next(texts))
        (loss / chosen.accumulate).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    gpt.report(step, loss)
gpt.validate(model, chosen, device)
model.reshard()  # the root keeps its weights after a forward pass
gpt.finish(parameter.to_local() for parameter in model.parameters())
