"""FSDP1 with its checkpoints: they gather moments, and weights, as training gathers weights."""
import gpt
import marks
import torch
from torch.distributed.fsdp import (FullOptimStateDictConfig, FullStateDictConfig,
                                    FullyShardedDataParallel, StateDictType)
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

TRAINING = {"all_gather": "weights", "reduce_scatter": "gradients", "all_reduce": "other"}

chosen = gpt.options()
device = gpt.start(chosen)
model = FullyShardedDataParallel(
    gpt.GPT(chosen.width, chosen.blocks), device_id=device, use_orig_params=True,
    auto_wrap_policy=ModuleWrapPolicy({gpt.Block}))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)


def save():
    """Only the steps between checkpoints are training: what is saved must be exact."""
    with FullyShardedDataParallel.state_dict_type(
            model, StateDictType.FULL_STATE_DICT, FullStateDictConfig(rank0_only=False),
            FullOptimStateDictConfig(rank0_only=False)):
        with marks.carries("checkpoint"):
            model.state_dict()
        with marks.carries("moments"):
            FullyShardedDataParallel.optim_state_dict(model, optimizer)


for step, text in enumerate(gpt.batches(chosen, device)):
    with marks.carries(TRAINING):
        loss = gpt.loss_of(model, text)
        loss.backward()
        model.clip_grad_norm_(1.0)
    optimizer.step()
    optimizer.zero_grad()
    gpt.report(step, loss)
    if step >= 1:
        save()
gpt.finish(model.parameters())
