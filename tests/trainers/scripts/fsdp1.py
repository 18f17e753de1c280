"""FSDP1: FullyShardedDataParallel, one unit a block."""
import functools

import gpt
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
import torch

chosen = gpt.options()
device = gpt.start(chosen)
shard = functools.partial(FullyShardedDataParallel, auto_wrap_policy=ModuleWrapPolicy({gpt.Block}),
                          device_id=device, use_orig_params=True)
if chosen.bf16:
    shard = functools.partial(shard, mixed_precision=MixedPrecision(
        param_dtype=torch.bfloat16, reduce_dtype=gpt.reduce_dtype(chosen),
        buffer_dtype=torch.bfloat16))
model = shard(gpt.model_of(chosen))
optimizer = gpt.optimizer_of(model.parameters())
for step, words in enumerate(gpt.batches(chosen, device)):
    gpt.set_rate(chosen, step, optimizer)
    loss = gpt.loss_of(model, words)
    loss.backward()
    model.clip_grad_norm_(1.0)
    optimizer.step()
    optimizer.zero_grad()
    gpt.report(step, loss)
gpt.validate(model, chosen, device)
gpt.finish(model.parameters())
