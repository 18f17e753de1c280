"""DeepSpeed ZeRO-3. torch_adam: DeepSpeed's own Adam is a CUDA extension."""
import deepspeed
import gpt

chosen = gpt.options()
device = gpt.start(chosen)
deepspeed.init_distributed("nccl")
bucket = 15 * chosen.width**2  # elements: a block of the model and a bit
config = {
    "train_micro_batch_size_per_gpu": chosen.batch,
    "gradient_clipping": 1.0,
    "bf16": {"enabled": chosen.bf16},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": 3e-3, "weight_decay": 0.01, "torch_adam": True},
    },
    "zero_optimization": {
        "stage": 3,
        "stage3_param_persistence_threshold": 0,
        "stage3_prefetch_bucket_size": bucket,
        "reduce_bucket_size": bucket,
    },
    "steps_per_print": 1000,
}
engine, *_ = deepspeed.initialize(model=gpt.GPT(chosen.width, chosen.blocks), config=config)
for step, text in enumerate(gpt.batches(chosen, device)):
    loss = gpt.loss_of(engine, text)
    engine.backward(loss)
    engine.step()
    gpt.report(step, loss)
gpt.finish(parameter.ds_tensor for parameter in engine.module.parameters())
