"""QLoRA under FSDP2: each unit's frozen weights are 4-bit codes that call themselves bf16, gathered
together with the trained adapters."""
import gpt
import marks
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import fully_shard

RANK = 96  # so that the gradients of adapters are over the floor, and tell of training


class Frozen(nn.Module):
    """A linear layer of 4-bit codes, four to a bf16 element, and an adapter."""

    def __init__(self, width):
        super().__init__()
        codes = torch.randint(0, 256, (width, 4 * width // 2), dtype=torch.uint8)
        self.codes = nn.Parameter(codes.view(torch.bfloat16), requires_grad=False)
        self.down = nn.Parameter(torch.randn(RANK, width).bfloat16() / width)
        self.up = nn.Parameter(torch.zeros(4 * width, RANK, dtype=torch.bfloat16))

    def forward(self, x):
        codes = self.codes.view(torch.uint8)
        weights = torch.cat([codes & 15, codes >> 4]).to(torch.bfloat16)
        weights = (weights - 7.5) / (8 * weights.shape[0])
        width = x.shape[-1]
        y = F.linear(x, weights.reshape(4 * width, width))
        y = y + F.linear(F.linear(x, self.down), self.up)
        return x + y.unflatten(-1, (4, width)).sum(-2)


chosen = gpt.options()
device = gpt.start(chosen)
model = nn.Sequential(*(Frozen(chosen.width) for _ in range(chosen.blocks))).to(device)
for unit in model:
    fully_shard(unit)
fully_shard(model)
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-3)
for step in range(chosen.steps):
    x = torch.randn(chosen.batch, chosen.width, device=device).bfloat16()
    with marks.carries({"all_gather": "codes", "reduce_scatter": "gradients"}):
        loss = model(x).float().square().mean()
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    with marks.carries("other"):
        gpt.report(step, loss)
gpt.finish(parameter.to_local() for parameter in trained)
