"""fp16 with a loss scale that adapts itself, by FSDP2 with torch's GradScaler or by DeepSpeed
ZeRO-3. In one step the loss of one rank is so large that its gradients overflow; all must skip it.
Each rank prints the scale that a step began with, whether it was skipped, and whether its own share
of the gradients was finite: frameworks tell all ranks of one that was not."""
import gpt
import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

SCALE_POWER, GOOD_STEPS = 8, 2  # the scale doubles after so many good steps
TOO_LARGE = 2.0**30

parser = gpt.parser()
parser.add_argument("--by", choices=("fsdp2", "zero3"), required=True)
parser.add_argument("--at", type=int, required=True, help="step that overflows on the last rank")
chosen = parser.parse_args()


def fsdp2():
    """Model, and what does a step: it returns the scale before and after, and if all was finite."""
    model = gpt.model_of(chosen).to(device)
    policy = MixedPrecisionPolicy(param_dtype=torch.float16)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    optimizer = gpt.optimizer_of(model.parameters())
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**SCALE_POWER, growth_interval=GOOD_STEPS)

    def step(loss):
        before = scaler.get_scale()
        scaler.scale(loss).backward()
        finite = all(one.grad.to_local().isfinite().all() for one in model.parameters())
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return before, scaler.get_scale(), finite
    return model, step


def zero3():
    import deepspeed

    deepspeed.init_distributed("nccl")
    bucket = 15 * chosen.width**2
    engine, *_ = deepspeed.initialize(model=gpt.model_of(chosen), config={
        "train_micro_batch_size_per_gpu": chosen.batch,
        "gradient_clipping": 1.0,
        "fp16": {"enabled": True, "loss_scale": 0, "initial_scale_power": SCALE_POWER,
                 "loss_scale_window": GOOD_STEPS, "hysteresis": 1, "min_loss_scale": 1},
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-3, "torch_adam": True}},
        "zero_optimization": {"stage": 3, "reduce_bucket_size": bucket,
                              "stage3_prefetch_bucket_size": bucket,
                              "stage3_param_persistence_threshold": 0},
        "steps_per_print": 1000,
    })

    def step(loss):
        before = engine.optimizer.loss_scale
        engine.backward(loss)
        torch.cuda.synchronize()  # with the stream that reduces
        finite = engine.optimizer.grad_partitions_flat_buffer.isfinite().all()
        engine.step()
        return before, engine.optimizer.loss_scale, finite
    return engine, step


device = gpt.start(chosen)
model, train = {"fsdp2": fsdp2, "zero3": zero3}[chosen.by]()
unlucky = dist.get_rank() == dist.get_world_size() - 1
for number, words in enumerate(gpt.batches(chosen, device)):
    loss = gpt.loss_of(model, words)
    bad = unlucky and number == chosen.at
    before, after, finite = train(loss * TOO_LARGE if bad else loss)
    print(f"step {number} scale {before:g} skipped {int(after < before)} finite {int(finite)}",
          flush=True)
    gpt.report(number, loss)
gpt.finish(getattr(parameter, "ds_tensor", parameter) if chosen.by == "zero3"
           else parameter.to_local() for parameter in model.parameters())
