"""FSDP2 in bf16, where something happens to one rank in the middle of one backward pass. A step
whose gradients are not finite is left out, as trainers do. Each rank prints what it saw."""
import os
import signal

import gpt
import torch
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

SUPERBLOCK = 2048  # elements that are NaN together: docs/formats/q4s.md

parser = gpt.parser()
parser.add_argument("--what", choices=("killed", "killed-alone", "nan"), required=True,
                    help="its process is killed; also all torchruns, so that nobody ends the other "
                    "ranks; one weight's gradient has two NaN")
parser.add_argument("--to", type=int, required=True, help="rank")
parser.add_argument("--at", type=int, required=True, help="step")
chosen = parser.parse_args()
device = gpt.start(chosen)
model = gpt.model_of(chosen).to(device)
policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
for block in model.blocks:
    fully_shard(block, mp_policy=policy)
fully_shard(model, mp_policy=policy)
optimizer = gpt.optimizer_of(model.parameters())
unlucky = model.blocks[0].mlp[0]  # when its gradient comes, later blocks' are being reduced


def mishap(gradient):
    if chosen.what != "nan":
        os.kill(os.getpid(), signal.SIGKILL)
    gradient = gradient.clone()
    gradient[0, 0] = gradient[-1, -1] = torch.nan  # in the first and the last rank's slice
    return gradient


def arm(module, *_):
    """The hook comes once: the next step's gradient is fine."""
    handle = module.weight.register_hook(lambda gradient: (handle.remove(), mishap(gradient))[1])


def report_nan(step):
    """Where this rank's slice of each sum of gradients is NaN: FSDP2 lays a unit's parameters one
    behind the other."""
    for number, block in enumerate(model.blocks):
        bad = torch.cat([one.grad.to_local().flatten().isnan() for one in block.parameters()]).cpu()
        for place, part in enumerate(bad.split(SUPERBLOCK)):
            if part.any():
                print(f"step {step} nan block {number} superblock {place}: {part.sum()} of "
                      f"{len(part)}", flush=True)


for step, words in enumerate(gpt.batches(chosen, device)):
    gpt.set_rate(chosen, step, optimizer)
    armed = torch.distributed.get_rank() == chosen.to and step == chosen.at
    hook = unlucky.register_forward_hook(arm) if armed else None
    if chosen.what == "killed-alone" and step == chosen.at and device.index == 0:
        os.kill(os.getppid(), signal.SIGKILL)
    loss = gpt.loss_of(model, words)
    loss.backward()
    if hook:
        hook.remove()
    report_nan(step)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).full_tensor()
    if norm.isfinite():
        optimizer.step()
    optimizer.zero_grad()
    print(f"step {step} norm {norm.item()}", flush=True)
    gpt.report(step, loss)
gpt.finish(parameter.to_local() for parameter in model.parameters())
