"""FSDP2 with its checkpoints: weights to save, and moments, gathered parameter by parameter."""
import gpt
import marks
import torch
from torch.distributed.checkpoint.state_dict import (StateDictOptions, get_model_state_dict,
                                                     get_optimizer_state_dict)
from torch.distributed.fsdp import fully_shard

TRAINING = {"all_gather": "weights", "reduce_scatter": "gradients", "all_reduce": "other"}

chosen = gpt.options()
device = gpt.start(chosen)
model = gpt.GPT(chosen.width, chosen.blocks).to(device)
for block in model.blocks:
    fully_shard(block)
fully_shard(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step, text in enumerate(gpt.batches(chosen, device)):
    with marks.carries(TRAINING):
        loss = gpt.loss_of(model, text)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    gpt.report(step, loss)
    if step >= 1:
        with marks.carries("checkpoint"):
            get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
        with marks.carries("moments"):
            get_optimizer_state_dict(model, optimizer,
                                     options=StateDictOptions(full_state_dict=True))
gpt.finish(parameter.to_local() for parameter in model.parameters())
