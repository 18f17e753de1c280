"""A small GPT and what the trainers beside this file share: options, data, report."""
import argparse
import hashlib
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

LETTERS, LENGTH = 64, 32


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(),
                                 nn.Linear(4 * width, width))

    def forward(self, x):
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attention = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attention.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, width, blocks):
        super().__init__()
        self.letters, self.places = nn.Embedding(LETTERS, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList(Block(width, heads=4) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, LETTERS, bias=False)

    def forward(self, text):
        x = self.letters(text) + self.places(torch.arange(text.shape[1], device=text.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--width", type=int, default=64, help="of the model; a multiple of 4")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4, help="sequences a rank and step")
    parser.add_argument("--bf16", action="store_true", help="bf16 parameters and activations")
    parser.add_argument("--reduce", choices=("fp32", "bf16"), default="fp32",
                        help="with --bf16: how FSDP reduces gradients")
    parser.add_argument("--eager", action="store_true", help="connect NCCL in init_process_group")
    return parser.parse_args()


def reduce_dtype(chosen):
    return torch.bfloat16 if chosen.reduce == "bf16" else torch.float32


def start(chosen):
    """The device of this rank, with the process group up."""
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", device_id=device if chosen.eager else None)
    torch.manual_seed(1234)
    return device


def batches(chosen, device):
    """For each step this rank's share of a batch that does not depend on how it is shared."""
    generator = torch.Generator().manual_seed(4321)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    for _ in range(chosen.steps):
        firsts = torch.randint(0, LETTERS, (ranks * chosen.batch, 1), generator=generator)
        text = (firsts + torch.arange(LENGTH + 1)) % LETTERS
        text[torch.rand(text.shape, generator=generator) < 0.1] = 0
        yield text[rank * chosen.batch:(rank + 1) * chosen.batch].to(device)


def loss_of(model, text):
    predicted = model(text[:, :-1]).float()
    return F.cross_entropy(predicted.flatten(0, 1), text[:, 1:].flatten())


def report(step, loss):
    """All bits of the mean loss."""
    mean = loss.detach().float().clone()
    dist.all_reduce(mean, op=dist.ReduceOp.AVG)
    print(f"step {step} loss {mean.item().hex()} = {mean.item():.6f}", flush=True)


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
