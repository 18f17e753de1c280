"""DDP: DistributedDataParallel, with small buckets so that there are several."""
import gpt
import torch
from torch.nn.parallel import DistributedDataParallel

chosen = gpt.options()
device = gpt.start(chosen)
model = gpt.GPT(chosen.width, chosen.blocks).to(device)
model = DistributedDataParallel(model, device_ids=[device.index], bucket_cap_mb=0.25)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step, text in enumerate(gpt.batches(chosen, device)):
    with torch.autocast("cuda", torch.bfloat16, enabled=chosen.bf16):
        loss = gpt.loss_of(model, text)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    gpt.report(step, loss)
gpt.finish(model.parameters())
