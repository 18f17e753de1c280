"""DeepSpeed ZeRO. torch_adam: DeepSpeed's own Adam is a CUDA extension."""
import os

import deepspeed
import gpt

parser = gpt.parser()
parser.add_argument("--stage", type=int, default=3, choices=(1, 2, 3))
parser.add_argument("--hpz", action="store_true", help="with stage 3: a copy of the weights a node")
chosen = parser.parse_args()
device = gpt.start(chosen)
deepspeed.init_distributed("nccl")
bucket = 15 * chosen.width**2  # elements: a block of the model and a bit
zero = {"stage": chosen.stage, "reduce_bucket_size": bucket}
if chosen.stage == 3:
    zero["stage3_param_persistence_threshold"] = 0
    zero["stage3_prefetch_bucket_size"] = bucket
    if chosen.hpz:
        zero["zero_hpz_partition_size"] = int(os.environ["LOCAL_WORLD_SIZE"])
        # As with a model that does not fit: the backward pass gathers again, in the node.
        zero["stage3_max_live_parameters"] = zero["stage3_max_reuse_distance"] = bucket
config = {
    "train_micro_batch_size_per_gpu": chosen.batch,
    "gradient_clipping": 1.0,
    "bf16": {"enabled": chosen.bf16},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": 3e-3, "weight_decay": 0.01, "torch_adam": True},
    },
    "zero_optimization": zero,
    "steps_per_print": 1000,
}
engine, *_ = deepspeed.initialize(model=gpt.model_of(chosen), config=config)
for step, words in enumerate(gpt.batches(chosen, device)):
    gpt.set_rate(chosen, step, engine.optimizer)
    loss = gpt.loss_of(engine, words)
    engine.backward(loss)
    engine.step()
    gpt.report(step, loss)
gpt.validate(engine, chosen, device)
gpt.finish(getattr(parameter, "ds_tensor", parameter) for parameter in engine.module.parameters())
