"""FSDP2, FSDP1 and ZeRO-3, one after the other. Each saves all it has before step --at, in the ways
of its framework, and goes on: or loads that in a fresh process, and goes on from there.

Each rank prints digests of what it holds itself, taken without communication: its shards of the
weights, and those with the optimizer's state. They must be the same where they were saved and where
they were loaded."""
import hashlib
import itertools
import os

import deepspeed
import gpt
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions, get_model_state_dict, get_state_dict, set_model_state_dict, set_state_dict)
from torch.distributed.fsdp import (FullOptimStateDictConfig, FullStateDictConfig,
                                    FullyShardedDataParallel, MixedPrecision, MixedPrecisionPolicy,
                                    StateDictType, fully_shard)
from torch.distributed.fsdp.wrap import ModuleWrapPolicy


def digest(tensors):
    checksum = hashlib.sha256()
    for tensor in tensors:
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        checksum.update(data.numpy().tobytes())
    return checksum.hexdigest()


def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def file(folder):
    """Of what rank 0 saves whole."""
    return os.path.join(folder, "whole.pt")


def save_whole(state, folder):
    if dist.get_rank() == 0:
        torch.save(state, file(folder))


class Fsdp:
    """What both have: weights in 32 bits, and torch's optimizer beside them."""

    def train(self, words):
        loss = gpt.loss_of(self.model, words)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def weights(self):
        return [local(one) for one in self.model.parameters()]

    def everything(self):
        moments = (self.optimizer.state[one] for one in self.model.parameters())
        return self.weights() + [local(one[key]) for one in moments for key in sorted(one)]


class Fsdp2(Fsdp):
    def __init__(self):
        self.model = gpt.model_of(chosen).to(device)
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for block in self.model.blocks:
            fully_shard(block, mp_policy=policy)
        fully_shard(self.model, mp_policy=policy)
        self.optimizer = gpt.optimizer_of(self.model.parameters())

    def save(self, folder):
        weights, moments = get_state_dict(self.model, self.optimizer)
        dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=folder)
        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        save_whole(get_model_state_dict(self.model, options=whole), folder)

    def load(self, folder):
        whole = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, torch.load(file(folder)), options=whole)
        yield "weights", self.weights()
        weights, moments = get_state_dict(self.model, self.optimizer)
        state = {"model": weights, "optimizer": moments}
        dcp.load(state, checkpoint_id=folder)
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"],
                       optim_state_dict=state["optimizer"])
        yield "everything", self.everything()


class Fsdp1(Fsdp):
    def __init__(self):
        policy = MixedPrecision(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        self.model = FullyShardedDataParallel(
            gpt.model_of(chosen), device_id=device, use_orig_params=True, mixed_precision=policy,
            auto_wrap_policy=ModuleWrapPolicy({gpt.Block}))
        self.optimizer = gpt.optimizer_of(self.model.parameters())

    def whole(self, rank0_only):
        return FullyShardedDataParallel.state_dict_type(
            self.model, StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(offload_to_cpu=True, rank0_only=rank0_only),
            FullOptimStateDictConfig(offload_to_cpu=True, rank0_only=rank0_only))

    def save(self, folder):
        with self.whole(rank0_only=True):
            moments = FullyShardedDataParallel.optim_state_dict(self.model, self.optimizer)
            save_whole({"model": self.model.state_dict(), "optimizer": moments}, folder)

    def load(self, folder):
        state = torch.load(file(folder))
        with self.whole(rank0_only=False):
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(
                self.model, self.optimizer, state["optimizer"]))
        yield "weights", self.weights()
        yield "everything", self.everything()


class Zero3:
    """Weights in 16 bits to train with, and 32 bits of the optimizer's."""

    def __init__(self):
        deepspeed.init_distributed("nccl")
        bucket = 15 * chosen.width**2
        self.engine, *_ = deepspeed.initialize(model=gpt.model_of(chosen), config={
            "train_micro_batch_size_per_gpu": chosen.batch,
            "bf16": {"enabled": True},
            "optimizer": {"type": "AdamW", "params": {"lr": 3e-3, "torch_adam": True}},
            "zero_optimization": {"stage": 3, "reduce_bucket_size": bucket,
                                  "stage3_prefetch_bucket_size": bucket,
                                  "stage3_param_persistence_threshold": 0,
                                  "stage3_gather_16bit_weights_on_model_save": True},
            "steps_per_print": 1000,
        })
        self.model, self.optimizer = self.engine.module, self.engine.optimizer

    def train(self, words):
        loss = gpt.loss_of(self.engine, words)
        self.engine.backward(loss)
        self.engine.step()
        return loss

    def weights(self):
        return [one.ds_tensor for one in self.model.parameters()]

    def everything(self):
        states = self.optimizer.optimizer.state.values()
        moments = [state[key] for state in states for key in sorted(state)]
        return [*self.weights(), *self.optimizer.fp32_partitioned_groups_flat, *moments]

    def save(self, folder):
        self.engine.save_checkpoint(folder, tag="all")
        self.engine.save_16bit_model(folder, os.path.basename(file(folder)))

    def load(self, folder):
        state = torch.load(file(folder))
        yield "weights", [self.own_slice(state[name]) for name, _ in self.model.named_parameters()]
        self.engine.load_checkpoint(folder, tag="all")
        yield "everything", self.everything()

    def own_slice(self, weight):
        """DeepSpeed cuts a parameter into as many equal parts as there are ranks."""
        return weight.flatten().tensor_split(dist.get_world_size())[dist.get_rank()]


def save(trainer, name, folder):
    print(f"{name} saved weights {digest(trainer.weights())}", flush=True)
    print(f"{name} saved everything {digest(trainer.everything())}", flush=True)
    folder = os.path.join(folder, name)
    os.makedirs(folder, exist_ok=True)
    trainer.save(folder)
    dist.barrier()


def load(trainer, name, folder):
    for what, tensors in trainer.load(os.path.join(folder, name)):
        print(f"{name} loaded {what} {digest(tensors)}", flush=True)


parser = gpt.parser()
parser.add_argument("--at", type=int, default=2, help="step before which all is saved, or loaded")
parser.add_argument("--save", metavar="FOLDER")
parser.add_argument("--copy", metavar="FROM:TO", help="first load this, and save it again")
parser.add_argument("--load", metavar="FOLDER")
chosen = parser.parse_args()
device = gpt.start(chosen)
for name, kind in (("fsdp2", Fsdp2), ("fsdp1", Fsdp1), ("zero3", Zero3)):
    torch.manual_seed(1234)
    trainer = kind()
    if chosen.copy:
        before, after = chosen.copy.split(":")
        load(trainer, name, before)
        save(trainer, name, after)
    if chosen.load:
        load(trainer, name, chosen.load)
    for step, words in itertools.islice(enumerate(gpt.batches(chosen, device)),
                                        chosen.at if chosen.load else 0, None):
        if step == chosen.at and chosen.save:
            save(trainer, name, chosen.save)
        loss = gpt.mean_over_ranks(trainer.train(words))
        print(f"{name} step {step} loss {loss.hex()} = {loss:.6f}", flush=True)
gpt.finish(trainer.weights())
