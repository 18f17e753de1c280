"""Trains two steps of one framework, evaluates without gradients, as before a checkpoint, and takes
all it has in every way of the framework: each must have the bits that the ranks hold themselves.

  checkpoints.py fsdp1|fsdp2|zero1|zero2|zero3|partly FOLDER

What the ranks hold is put together over gloo, which nobody compresses. Prints what was the same,
and how many pauses each call made, as our hooks see it: it knows nothing of slimccl but for that.
`partly` is ZeRO-2 where not all ranks have the hooks."""
import hashlib
import json
import os
import sys

import torch
import torch.distributed as dist
from torch import nn

WIDTH = 640  # a layer's shard on one of four ranks is over the floor of 65536 elements
NAMES = [f"layers.{index}.weight" for index in range(2)]
gloo = None  # a group of all ranks


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


def bits(tensor):
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8)


def whole(shard):
    """The shards of all ranks, one behind the other."""
    own = bits(shard)
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own, group=gloo)
    return torch.cat(parts).view(shard.dtype)


def layers(flat):
    """Of a flat tensor of all weights, by name."""
    return dict(zip(NAMES, flat[:len(NAMES) * WIDTH**2].view(len(NAMES), WIDTH, WIDTH)))


def tensors_of(state, path=""):
    """Pairs of path and tensor of a nest of dictionaries and lists; no scalars."""
    if isinstance(state, torch.Tensor):
        if state.dim():
            yield path, state
    elif isinstance(state, (dict, list, tuple)):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from tensors_of(value, f"{path}/{key}")


class Log:
    """What rank 0 prints of each call."""

    def __init__(self):
        self.pauses, self.depth = 0, 0
        try:
            from slimccl import overlay
        except ImportError:  # a rank without slimccl-run
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

    def same(self, name, state, wanted):
        """All of `wanted`, nothing else, bit for bit; on every rank."""
        found, wanted = dict(tensors_of(state)), dict(tensors_of(wanted))
        assert wanted and sorted(found) == sorted(wanted), (name, sorted(found), sorted(wanted))
        for path, tensor in wanted.items():
            assert found[path].dtype == tensor.dtype, (name, path, found[path].dtype)
            differ = (bits(found[path]) != bits(tensor)).sum().item()
            assert differ == 0, f"{name}{path}: {differ} of {bits(tensor).numel()} bytes differ"
        self.say("same", name)

    def rounded(self, name, state, wanted):
        """Compression has left its traces here on some rank: else this test could not fail."""
        pairs = zip(dict(tensors_of(state)).values(), dict(tensors_of(wanted)).values())
        here = torch.tensor([any(not torch.equal(bits(a), bits(b)) for a, b in pairs)]).int()
        dist.all_reduce(here, group=gloo)
        assert here.item(), f"{name} is exact on all ranks"
        self.say("rounded", name)

    @staticmethod
    def say(*words):
        if dist.get_rank() == 0:
            print(*words, flush=True)


def batches(device):
    generator = torch.Generator().manual_seed(dist.get_rank())
    for _ in range(3):
        yield torch.randn(4, WIDTH, generator=generator).to(device)


def train(model, optimizer, device):
    *training, last = batches(device)
    for step, batch in enumerate(training):
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step} loss {loss.item().hex()}", flush=True)
    with torch.no_grad():
        model(last)


def from_rank_0(read):
    """What rank 0 reads from a file: all ranks compare it."""
    found = [read() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(found, group=gloo)
    return found[0]


def fsdp1(log, device, folder):
    from torch.distributed.fsdp import (FullOptimStateDictConfig, FullStateDictConfig,
                                        FullyShardedDataParallel as FSDP, ShardingStrategy,
                                        StateDictType)
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    # SHARD_GRAD_OP: all weights stay gathered after a forward without a backward.
    model = nn.Sequential(FSDP(Model(), device_id=device, use_orig_params=True,
                               sharding_strategy=ShardingStrategy.SHARD_GRAD_OP,
                               auto_wrap_policy=ModuleWrapPolicy({nn.Linear})))
    fsdp, optimizer = model[0], torch.optim.AdamW(model.parameters(), lr=1e-3)
    train(fsdp, optimizer, device)
    handles = [unit._handle for unit in FSDP.fsdp_modules(fsdp) if unit._handle]
    held = {name: whole(handle.flat_param._local_shard).view(WIDTH, WIDTH)
            for name, handle in zip(NAMES, handles)}
    log.rounded("what is still gathered", list(fsdp.parameters()), list(held.values()))
    weights = {f"0.{name}": weight for name, weight in held.items()}
    moments = {name: {key: whole(optimizer.state[weight][key]).view(WIDTH, WIDTH)
                      for key in ("exp_avg", "exp_avg_sq")}
               for name, weight in zip(NAMES, fsdp.parameters())}
    full = FSDP.state_dict_type(fsdp, StateDictType.FULL_STATE_DICT,
                                FullStateDictConfig(rank0_only=False),
                                FullOptimStateDictConfig(rank0_only=False))
    with full:
        state = log.call("state_dict", model.state_dict)
        log.same("state_dict", state, weights)
        log.same("optim_state_dict", log.call("optim_state_dict", FSDP.optim_state_dict, fsdp,
                                              optimizer)["state"], moments)
        log.call("load_state_dict", model.load_state_dict, state)
        log.same("state_dict again", log.call("state_dict again", model.state_dict), weights)
    log.call("a plain module", nn.Linear(2, 2).state_dict)

    def evaluate():
        with torch.no_grad():
            fsdp(torch.ones(4, WIDTH, device=device))
        log.rounded("what is still gathered", list(fsdp.parameters()), list(held.values()))
    evaluate()

    def summoned():
        with FSDP.summon_full_params(fsdp):
            return [parameter.detach().cpu().clone() for parameter in fsdp.parameters()]
    log.same("summon_full_params", log.call("summon_full_params", summoned), list(held.values()))
    evaluate()
    seen = []
    log.call("apply", fsdp.apply, lambda module: seen.extend(
        [module.weight.detach().cpu().clone()] if isinstance(module, nn.Linear) else []))
    log.same("apply", seen, list(held.values()))


def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def fsdp2(log, device, folder):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions, get_model_state_dict, get_optimizer_state_dict, get_state_dict,
        set_model_state_dict)
    from torch.distributed.fsdp import fully_shard

    model = Model().to(device)
    for index, layer in enumerate(model.layers):
        fully_shard(layer, reshard_after_forward=index > 0)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    train(model, optimizer, device)
    still_gathered = [model.layers[0].weight.detach().clone()]
    assert not hasattr(still_gathered[0], "to_local"), "nothing is still gathered"
    full = StateDictOptions(full_state_dict=True)
    state = log.call("get_model_state_dict", get_model_state_dict, model, options=full)
    weights = {name: whole(local(weight)).view(WIDTH, WIDTH)
               for name, weight in model.named_parameters()}
    moments = {name: {key: whole(local(optimizer.state[weight][key])).view(WIDTH, WIDTH)
                      for key in ("exp_avg", "exp_avg_sq")}
               for name, weight in model.named_parameters()}
    log.rounded("what was still gathered", still_gathered, [weights[NAMES[0]]])

    def read(path):
        state = {name: torch.zeros(WIDTH, WIDTH) for name in NAMES}
        dcp.load({"model": state}, checkpoint_id=path, no_dist=True)
        return state

    log.same("get_model_state_dict", state, weights)
    log.same("full_tensor", log.call("full_tensor", model.layers[0].weight.full_tensor),
             weights[NAMES[0]])
    log.same("get_optimizer_state_dict", log.call(
        "get_optimizer_state_dict", get_optimizer_state_dict, model, optimizer,
        options=full)["state"], moments)
    both, states = log.call("get_state_dict", get_state_dict, model, optimizer, options=full)
    log.same("get_state_dict", [both, states["state"]], [weights, moments])
    log.call("set_model_state_dict", set_model_state_dict, model, state, options=full)
    log.same("get_model_state_dict again", log.call(
        "get_model_state_dict again", get_model_state_dict, model, options=full), weights)
    sharded = {"model": model.state_dict()}
    log.call("save", dcp.save, sharded, checkpoint_id=folder)
    log.same("save", from_rank_0(lambda: read(folder)), weights)
    log.call("load", dcp.load, sharded, checkpoint_id=folder)
    log.same("load", log.call(
        "get_model_state_dict loaded", get_model_state_dict, model, options=full), weights)
    future = log.call("async_save", dcp.async_save, {"model": model.state_dict()},
                      checkpoint_id=folder + "-async", process_group=gloo)
    log.call("async_save in the background", future.result)
    log.same("async_save", from_rank_0(lambda: read(folder + "-async")), weights)
    average(log, device)


def average(log, device):
    """Whole numbers, so that their mean is the same in any order of ranks."""
    from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager

    generator = torch.Generator().manual_seed(dist.get_rank())
    numbers = torch.randint(-500, 500, (WIDTH, WIDTH), generator=generator).float()
    wanted = numbers.clone()
    dist.all_reduce(wanted, group=gloo)
    parameter = nn.Parameter(numbers.to(device))
    parameter.grad = torch.zeros_like(parameter)  # others are left out
    log.call("average_parameters", PeriodicModelAverager(period=1).average_parameters, [parameter])
    log.same("average_parameters", [parameter], [wanted / dist.get_world_size()])


def zero(device, **settings):
    """An engine that has trained."""
    import deepspeed

    engine, *_ = deepspeed.initialize(model=Model(), config={
        "train_micro_batch_size_per_gpu": 4, "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}}, **settings})
    *training, last = (batch.bfloat16() for batch in batches(device))
    for step, batch in enumerate(training):
        loss = engine(batch).square().mean()
        engine.backward(loss)
        engine.step()
        print(f"step {step} loss {loss.item().hex()}", flush=True)
    with torch.no_grad():
        engine(last)
    return engine


def saved_by_deepspeed(log, engine, folder, weights):
    """The file of all weights, which every stage writes."""
    log.call("save_16bit_model", engine.save_16bit_model, folder)
    log.same("save_16bit_model", from_rank_0(
        lambda: torch.load(os.path.join(folder, "pytorch_model.bin"))), weights)


def replicas(log, engine, folder, device, parts, masters):
    """ZeRO-1 and ZeRO-2: the ranks hold all weights, of which their own part is exact."""
    rank = dist.get_rank()
    weights = layers(whole(parts[0][rank]))
    log.rounded("replicas", dict(engine.module.named_parameters()), weights)
    log.call("save_checkpoint", engine.save_checkpoint, folder, tag="end")
    states = os.path.join(folder, "end", "mp_rank_00_model_states.pt")
    log.same("save_checkpoint", from_rank_0(
        lambda: torch.load(states, weights_only=False)["module"]), weights)
    # What is not asked to be saved stays as training gathers it: rounded.
    engine.backward(engine(next(batches(device)).bfloat16()).square().mean())
    engine.step()
    weights, master = layers(whole(parts[0][rank])), layers(whole(masters[0]))
    log.rounded("replicas again", dict(engine.module.named_parameters()), weights)
    saved_by_deepspeed(log, engine, folder, weights)
    log.same("replicas saved", dict(engine.module.named_parameters()), weights)
    from deepspeed.utils import safe_get_full_fp32_param
    log.same("safe_get_full_fp32_param", log.call("safe_get_full_fp32_param", lambda: {
        name: safe_get_full_fp32_param(weight)
        for name, weight in engine.module.named_parameters()}), master)


def zero1(log, device, folder):
    engine = zero(device, zero_optimization={"stage": 1},
                  data_types={"grad_accum_dtype": "fp32"})
    optimizer = engine.optimizer
    assert type(optimizer).__name__ == "BF16_Optimizer", type(optimizer)
    replicas(log, engine, folder, device, optimizer.bf16_partitioned_groups,
             optimizer.fp32_groups_flat_partition)


def zero2(log, device, folder):
    engine = zero(device, zero_optimization={"stage": 2, "round_robin_gradients": False})
    optimizer = engine.optimizer
    assert type(optimizer).__name__ == "DeepSpeedZeroOptimizer", type(optimizer)
    replicas(log, engine, folder, device, optimizer.parallel_partitioned_bit16_groups,
             optimizer.single_partition_of_fp32_groups)


def partly(log, device, folder):
    engine = zero(device, zero_optimization={"stage": 2})
    saved_by_deepspeed(log, engine, folder, layers(whole(
        engine.optimizer.parallel_partitioned_bit16_groups[0][dist.get_rank()])))


def zero3(log, device, folder):
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    # Each layer is a group of its own, with an optimizer step of its own.
    engine = zero(device, zero_optimization={
        "stage": 3, "sub_group_size": WIDTH * WIDTH // 4, "stage3_param_persistence_threshold": 0,
        "stage3_gather_16bit_weights_on_model_save": True})
    parameters = dict(engine.module.named_parameters())
    assert any(one.ds_status.name == "AVAILABLE" for one in parameters.values())

    def truth():
        return {name: whole(one.ds_tensor).view(WIDTH, WIDTH) for name, one in parameters.items()}
    weights = truth()

    def gathered(**keywords):
        with deepspeed.zero.GatheredParameters(list(parameters.values()), **keywords):
            return {name: one.detach().cpu().clone() for name, one in parameters.items()}

    log.same("GatheredParameters", log.call("GatheredParameters", gathered), weights)
    with torch.no_grad():
        engine(torch.ones(4, WIDTH, dtype=torch.bfloat16, device=device))
    log.call("GatheredParameters written back", gathered, modifier_rank=0)
    log.same("GatheredParameters written back", truth(), weights)
    with torch.no_grad():
        engine(torch.ones(4, WIDTH, dtype=torch.bfloat16, device=device))
    saved_by_deepspeed(log, engine, folder, weights)
    for what, of, get in (
            ("safe_get_full_fp32_param", lambda flat: flat, safe_get_full_fp32_param),
            ("safe_get_full_optimizer_state",
             lambda flat: engine.optimizer.optimizer.state[flat]["exp_avg"],
             lambda one: safe_get_full_optimizer_state(one, "exp_avg"))):
        flats = engine.optimizer.fp32_partitioned_groups_flat
        held = {name: whole(of(flat)).view(WIDTH, WIDTH) for name, flat in zip(NAMES, flats)}
        log.same(what, log.call(what, lambda get=get: {
            name: get(one) for name, one in parameters.items()}), held)
    gradients(log, engine, parameters, device)
    weights = truth()
    log.call("save_checkpoint", engine.save_checkpoint, folder, tag="end")
    log.call("load_checkpoint", engine.load_checkpoint, folder, tag="end")
    log.same("load_checkpoint", log.call("GatheredParameters loaded", gathered), weights)


def gradients(log, engine, parameters, device):
    """Between a backward and a step."""
    from deepspeed.utils import safe_get_full_grad, safe_update_full_grad_vectorized

    engine.backward(engine(next(batches(device)).bfloat16()).square().mean())
    wanted = {name: safe_get_full_grad(one).clone() for name, one in parameters.items()}
    names, seen = {id(one): name for name, one in parameters.items()}, {}

    def keep(gradient, one):
        seen[names[id(one)]] = gradient.float().clone()
        return gradient
    log.call("safe_update_full_grad_vectorized", safe_update_full_grad_vectorized,
             list(parameters.values()), keep)
    log.same("safe_update_full_grad_vectorized", seen, wanted)
    engine.step()


def main():
    global gloo
    kind, folder = sys.argv[1:]
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    dist.init_process_group("nccl")
    gloo = dist.new_group(backend="gloo")
    torch.manual_seed(1)
    log = Log()
    globals()[kind](log, device, folder)
    log.say("parameters", hashlib.sha256(json.dumps(kind).encode()).hexdigest())
    dist.barrier()
    dist.destroy_process_group()


main()
