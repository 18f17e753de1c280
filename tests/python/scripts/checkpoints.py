"""Saves what it has in every way of one framework, before any step, trains two steps, and loads.

  checkpoints.py fsdp1|fsdp2|zero3 FOLDER

Prints a digest of each full state, which must not depend on compression, and how many pauses each
call made, as our hooks see it. It knows nothing of slimccl but for that."""
import hashlib
import json
import os
import sys

import torch
import torch.distributed as dist
from torch import nn

WIDTH = 640  # a layer's shard on one of four ranks is over the floor of 65536 elements


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


def tensors_of(state, path=""):
    """Pairs of path and tensor, in order, of a nest of dictionaries and lists."""
    if isinstance(state, torch.Tensor):
        yield path, state
    elif isinstance(state, (dict, list, tuple)):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        for key, value in sorted(items, key=lambda item: str(item[0])):
            yield from tensors_of(value, f"{path}/{key}")


def digest(state):
    checksum = hashlib.sha256()
    for path, tensor in tensors_of(state):
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        checksum.update(path.encode() + data.numpy().tobytes())
    return checksum.hexdigest()


class Log:
    """What rank 0 prints of each call."""

    def __init__(self):
        self.pauses, self.depth = 0, 0
        try:
            from slimccl import overlay
        except ImportError:  # run without slimccl-run
            return
        change = overlay._change

        def counting(by):
            self.pauses += by > 0 and self.depth == 0
            self.depth += by
            change(by)

        overlay._change = counting

    def call(self, name, function, *arguments, **keywords):
        before = self.pauses
        result = function(*arguments, **keywords)
        self.say("pauses", name, self.pauses - before)
        assert self.depth == 0, f"{name} left a pause"
        return result

    def state(self, name, *call, **keywords):
        result = self.call(name, *call, **keywords)
        self.say("digest", name, digest(result))
        return result

    @staticmethod
    def say(*words):
        if dist.get_rank() == 0:
            print(*words, flush=True)


def train(model, optimizer, device):
    generator = torch.Generator().manual_seed(dist.get_rank())
    for step in range(2):
        loss = model(torch.randn(4, WIDTH, generator=generator).to(device)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step} loss {loss.item().hex()}", flush=True)


def fsdp1(log, device, folder):
    from torch.distributed.fsdp import (FullOptimStateDictConfig, FullStateDictConfig,
                                        FullyShardedDataParallel as FSDP, StateDictType)
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    model = nn.Sequential(FSDP(Model(), device_id=device, use_orig_params=True,
                               auto_wrap_policy=ModuleWrapPolicy({nn.Linear})))
    fsdp, optimizer = model[0], torch.optim.AdamW(model.parameters(), lr=1e-3)
    full = FSDP.state_dict_type(fsdp, StateDictType.FULL_STATE_DICT,
                                FullStateDictConfig(rank0_only=False),
                                FullOptimStateDictConfig(rank0_only=False))
    with full:
        state = log.state("state_dict", model.state_dict)
        train(fsdp, optimizer, device)
        log.call("optim_state_dict", FSDP.optim_state_dict, fsdp, optimizer)
        log.call("load_state_dict", model.load_state_dict, state)
        log.state("state_dict again", model.state_dict)
    log.call("a plain module", nn.Linear(2, 2).state_dict)

    def summoned():
        with FSDP.summon_full_params(fsdp):
            return [parameter.detach().cpu().clone() for parameter in fsdp.parameters()]
    log.state("summon_full_params", summoned)
    return fsdp


def fsdp2(log, device, folder):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions, get_model_state_dict, get_optimizer_state_dict, get_state_dict,
        set_model_state_dict)
    from torch.distributed.fsdp import fully_shard

    model = Model().to(device)
    for layer in model.layers:
        fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    full = StateDictOptions(full_state_dict=True)
    state = log.state("get_model_state_dict", get_model_state_dict, model, options=full)
    log.state("full_tensor", model.layers[0].weight.full_tensor)
    train(model, optimizer, device)
    log.call("get_optimizer_state_dict", get_optimizer_state_dict, model, optimizer, options=full)
    log.call("get_state_dict", get_state_dict, model, optimizer, options=full)
    log.call("set_model_state_dict", set_model_state_dict, model, state, options=full)
    log.state("get_model_state_dict again", get_model_state_dict, model, options=full)
    sharded = {"model": model.state_dict()}
    log.call("save", dcp.save, sharded, checkpoint_id=folder)
    log.call("load", dcp.load, sharded, checkpoint_id=folder)
    log.state("get_model_state_dict loaded", get_model_state_dict, model, options=full)
    gloo = dist.new_group(backend="gloo")
    future = log.call("async_save", dcp.async_save, {"model": model.state_dict()},
                      checkpoint_id=folder + "-async", process_group=gloo)
    log.call("async_save in the background", future.result)
    return model


def zero3(log, device, folder):
    import deepspeed

    engine, *_ = deepspeed.initialize(model=Model(), config={
        "train_micro_batch_size_per_gpu": 4, "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
        # Each layer is a group of its own, with an optimizer step of its own.
        "zero_optimization": {"stage": 3, "sub_group_size": WIDTH * WIDTH // 4,
                              "stage3_param_persistence_threshold": 0,
                              "stage3_gather_16bit_weights_on_model_save": True}})

    def gathered():
        with deepspeed.zero.GatheredParameters(list(engine.parameters())):
            return [parameter.detach().cpu().clone() for parameter in engine.parameters()]

    log.state("GatheredParameters", gathered)
    log.call("save_16bit_model", engine.save_16bit_model, folder)
    log.call("save_checkpoint", engine.save_checkpoint, folder, tag="start")
    if dist.get_rank() == 0:
        log.say("digest saved", digest(torch.load(os.path.join(folder, "pytorch_model.bin"))))
    for step in range(2):
        loss = engine(torch.ones(4, WIDTH, dtype=torch.bfloat16, device=device)).square().mean()
        engine.backward(loss)
        engine.step()
        print(f"step {step} loss {loss.item().hex()}", flush=True)
    log.call("load_checkpoint", engine.load_checkpoint, folder, tag="start")
    log.state("GatheredParameters loaded", gathered)
    return engine


def main():
    kind, folder = sys.argv[1:]
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    dist.init_process_group("nccl")
    torch.manual_seed(1)
    log = Log()
    globals()[kind](log, device, folder)
    log.say("parameters", hashlib.sha256(json.dumps(kind).encode()).hexdigest())
    dist.barrier()
    dist.destroy_process_group()


main()
