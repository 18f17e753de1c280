"""DDP: DistributedDataParallel."""
import gpt
import torch
from torch.nn.parallel import DistributedDataParallel

chosen = gpt.options()
device = gpt.start(chosen)
model = DistributedDataParallel(gpt.model_of(chosen).to(device), device_ids=[device.index])
optimizer = gpt.optimizer_of(model.parameters())
for step, words in enumerate(gpt.batches(chosen, device)):
    gpt.set_rate(chosen, step, optimizer)
    with torch.autocast("cuda", torch.bfloat16, enabled=chosen.bf16):
        loss = gpt.loss_of(model, words)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    gpt.report(step, loss)
gpt.validate(model, chosen, device)
gpt.finish(model.parameters())
