"""FSDP1: FullyShardedDataParallel, one unit a block."""
import functools

import gpt
import torch
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

chosen = gpt.options()
device = gpt.start(chosen)
shard = functools.partial(FullyShardedDataParallel, auto_wrap_policy=ModuleWrapPolicy({gpt.Block}),
                          device_id=device, use_orig_params=True)
if chosen.bf16:
    shard = functools.partial(shard, mixed_precision=MixedPrecision(
        param_dtype=torch.bfloat16, reduce_dtype=gpt.reduce_dtype(chosen),
        buffer_dtype=torch.bfloat16))
model = shard(gpt.GPT(chosen.width, chosen.blocks))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step, text in enumerate(gpt.batches(chosen, device)):
    loss = gpt.loss_of(model, text)
    loss.backward()
    model.clip_grad_norm_(1.0)
    optimizer.step()
    optimizer.zero_grad()
    gpt.report(step, loss)
gpt.finish(model.parameters())
