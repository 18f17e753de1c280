"""FSDP2: fully_shard on every block."""
import gpt
import torch
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

chosen = gpt.options()
device = gpt.start(chosen)
model = gpt.GPT(chosen.width, chosen.blocks).to(device)
policy = MixedPrecisionPolicy()
if chosen.bf16:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=gpt.reduce_dtype(chosen))
for block in model.blocks:
    fully_shard(block, mp_policy=policy)
fully_shard(model, mp_policy=policy)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step, text in enumerate(gpt.batches(chosen, device)):
    loss = gpt.loss_of(model, text)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    gpt.report(step, loss)
gpt.finish(parameter.to_local() for parameter in model.parameters())
