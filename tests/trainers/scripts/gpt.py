"""A small GPT and what the trainers beside this file share: options, schedule, report."""
import argparse
import hashlib
import math
import os
import time

import text
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

WARM_UP = 10  # steps
VALIDATED = 128  # windows


class Block(nn.Module):
    def __init__(self, width, heads=4, recompute=False):
        super().__init__()
        self.head_width, self.recompute = width // heads, recompute
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                 nn.Linear(4 * width, width))

    def attention(self, x):
        # As many heads as this rank has: with tensor parallelism not all of them.
        query, key, value = (layer(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
                             for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def compute(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def forward(self, x):
        if self.recompute:
            return checkpoint(self.compute, x, use_reentrant=False)
        return self.compute(x)


class GPT(nn.Module):
    def __init__(self, width, blocks, recompute=False):
        super().__init__()
        self.words = nn.Embedding(text.WORDS, width)
        self.places = nn.Embedding(text.LENGTH, width)
        self.blocks = nn.ModuleList(Block(width, recompute=recompute) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, text.WORDS, bias=False)

    def forward(self, words):
        x = self.words(words) + self.places(torch.arange(words.shape[1], device=words.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def parser():
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--until", type=int, help="end after so many of the steps")
    options.add_argument("--seed", type=int, default=0, help="of the model and the order of the text")
    options.add_argument("--width", type=int, default=64, help="of the model; a multiple of 4")
    options.add_argument("--blocks", type=int, default=2)
    options.add_argument("--batch", type=int, default=4, help="sequences a rank and backward pass")
    options.add_argument("--accumulate", type=int, default=1, help="backward passes a step")
    options.add_argument("--recompute", action="store_true", help="activation checkpointing")
    options.add_argument("--bf16", action="store_true", help="bf16 parameters and activations")
    options.add_argument("--reduce", choices=("fp32", "bf16"), default="fp32",
                         help="with --bf16: how FSDP reduces gradients")
    options.add_argument("--eager", action="store_true",
                         help="connect NCCL in init_process_group")
    return options


def options():
    return parser().parse_args()


def reduce_dtype(chosen):
    return torch.bfloat16 if chosen.reduce == "bf16" else torch.float32


def start(chosen):
    """The device of this rank, with the process group up."""
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", device_id=device if chosen.eager else None)
    torch.manual_seed(1234 + chosen.seed)
    return device


def model_of(chosen):
    return GPT(chosen.width, chosen.blocks, chosen.recompute)


def optimizer_of(parameters):
    return torch.optim.AdamW(parameters, lr=3e-3)


def set_rate(chosen, step, *optimizers):
    """Up in WARM_UP steps, then down along a cosine to a tenth."""
    rest = step / max(1, chosen.steps)
    rate = 3e-3 * min(1, (step + 1) / WARM_UP) * (0.55 + 0.45 * math.cos(math.pi * rest))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def place(mesh):
    """(number, count) of this rank among those that see different text: all, or those of a mesh."""
    if mesh:
        return mesh.get_local_rank(), mesh.size()
    return dist.get_rank(), dist.get_world_size()


def batches(chosen, device, mesh=None):
    """This rank's words for each backward pass, `accumulate` of them a step."""
    passes = (chosen.until or chosen.steps) * chosen.accumulate
    for words in text.batches(passes, chosen.batch, *place(mesh), chosen.seed):
        yield words.to(device)


def loss_of(model, words):
    predicted = model(words[:, :-1]).float()
    return F.cross_entropy(predicted.flatten(0, 1), words[:, 1:].flatten())


def mean_over_ranks(loss):
    mean = loss.detach().float().clone()
    dist.all_reduce(mean, op=dist.ReduceOp.AVG)
    return mean.item()


class Clock:
    last = None

    @classmethod
    def lap(cls):
        now = time.perf_counter()
        seconds, cls.last = now - (cls.last or now), now
        return seconds


def report(step, loss):
    """All bits of the mean loss, and how long the step took (0 for the first)."""
    mean = mean_over_ranks(loss)
    print(f"step {step} loss {mean.hex()} = {mean:.6f} in {Clock.lap():.4f} s", flush=True)


@torch.no_grad()
def validate(model, chosen, device, mesh=None):
    """Prints the mean loss on text that was not trained on."""
    losses = [loss_of(model, words.to(device))
              for words in text.validation(VALIDATED, chosen.batch, *place(mesh))]
    mean = mean_over_ranks(torch.stack(losses).mean())
    print(f"validation loss {mean.hex()} = {mean:.6f}", flush=True)


def finish(parameters):
    """Prints one checksum of what all ranks hold of the parameters, and leaves."""
    checksum = hashlib.sha256()
    for parameter in parameters:
        checksum.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, checksum.hexdigest())
    if dist.get_rank() == 0:
        print(f"parameters {hashlib.sha256(' '.join(everyone).encode()).hexdigest()}", flush=True)
    dist.barrier()
    dist.destroy_process_group()
