"""What surrounds training: weights sent from one rank at the start, barriers, objects, norms,
flags, token counts, logits, samples, router tables."""
import gpt
import marks
import torch
import torch.distributed as dist

chosen = gpt.options()
device = gpt.start(chosen)
ranks = dist.get_world_size()
model = gpt.GPT(chosen.width, chosen.blocks).to(device)
with marks.carries("weights"):
    for parameter in model.parameters():
        dist.broadcast(parameter.detach(), 0)
for step in range(chosen.steps):
    with marks.carries("other"):
        norms = torch.rand(38, device=device)
        dist.all_reduce(norms)  # squared norms, one a parameter
        dist.all_reduce(norms.sum().double())
        dist.all_reduce(torch.zeros(1, dtype=torch.uint8, device=device), dist.ReduceOp.MAX)
        dist.all_reduce(torch.tensor([4096], device=device))  # tokens
        highest = torch.rand(1 << 18, device=device)  # vocabulary-parallel cross entropy
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        samples = torch.randint(0, 64, (1 << 17,), device=device)
        dist.all_gather_into_tensor(samples.new_empty(ranks * samples.numel()), samples)
        mask = torch.ones(1 << 17, dtype=torch.bool, device=device)
        dist.all_gather_into_tensor(mask.new_empty(ranks * mask.numel()), mask)
        double = torch.rand(1 << 17, dtype=torch.float64, device=device)
        dist.all_reduce(double)
        dist.all_gather_object([None] * ranks, {"step": step})
        dist.barrier()
        logits = torch.rand(chosen.batch, 64, device=device)
        dist.all_gather_into_tensor(logits.new_empty(ranks * chosen.batch, 64), logits)
    with marks.carries("activations"):  # logits to evaluate, of a whole batch
        logits = torch.rand(1 << 11, 64, device=device)
        dist.all_gather_into_tensor(logits.new_empty(ranks << 11, 64), logits)
    with marks.carries("other"):
        gpt.report(step, norms.mean())
gpt.finish(model.parameters())
