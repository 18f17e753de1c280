"""Which calls are exact because their results are kept: state dicts, checkpoints, weights gathered
to be read or edited. docs/python.md has this table with the reasons.

Each name here is collective by its framework's contract: the ranks of a communicator are inside the
same call when they gather for it, so that all of them are paused, or none is. What one rank may
call alone (nn.Module.state_dict) communicates nothing, and is not here.
"""
import contextlib
import functools

from slimccl import fsdp1, mode, overlay, patching, threads, zero

CHECKPOINT = "torch.distributed.checkpoint."
FSDP1 = "torch.distributed.fsdp.fully_sharded_data_parallel"
ENGINE = "deepspeed.runtime.engine"
# Module: what is paused while it runs. "?": not in every version.
FUNCTIONS = {
    CHECKPOINT + "state_dict": (
        "get_model_state_dict", "get_optimizer_state_dict", "get_state_dict",
        "set_model_state_dict", "set_optimizer_state_dict", "set_state_dict"),
    "torch.distributed.tensor._api": ("DTensor.full_tensor",),
    FSDP1: tuple("FullyShardedDataParallel." + name for name in (
        "optim_state_dict", "optim_state_dict_to_load", "full_optim_state_dict?",
        "sharded_optim_state_dict?", "shard_full_optim_state_dict?",
        "scatter_full_optim_state_dict?", "flatten_sharded_optim_state_dict?")),
    "torch.distributed.algorithms.model_averaging.utils": ("average_parameters",),
    ENGINE: tuple("DeepSpeedEngine." + name for name in (
        "load_checkpoint", "_zero3_consolidated_16bit_state_dict?",
        "_consolidated_16bit_state_dict?")),
    "deepspeed.utils.tensor_fragment": (
        "safe_get_full_fp32_param", "safe_get_full_optimizer_state", "safe_get_full_grad",
        "safe_update_full_grad_vectorized?"),
}


def paused(function, first=None, in_step=lambda: not threads.in_background()):
    """Runs first(arguments) and the function in a pause."""
    def wrapper(*arguments, **keywords):
        import torch

        if torch.compiler.is_compiling() or overlay.has_no_group() or not in_step():
            return function(*arguments, **keywords)
        with overlay.pause():
            if first:
                first(*arguments, **keywords)
            return function(*arguments, **keywords)
    return wrapper


def paused_where_it_trains(function):
    """Of torch's save and load. They send no tensors themselves, only the objects they are given
    may: a program may call them over gloo in a thread of its own, in step with nothing."""
    return paused(function, in_step=threads.is_training)


def paused_in_front(function):
    """Of async_save, which calls the hooked save() in a thread of its own while training goes on."""
    return threads.with_a_background(paused(function))


class Edges(contextlib.ContextDecorator):
    """A context manager that is paused while it is entered and left, not in between. A decorator
    too, as contextlib's own are: made anew for each call."""

    def __init__(self, manager, first=None):
        self.manager, self.first = manager, first
        self.__enter = paused(manager.__enter__, first)
        self.__exit = paused(manager.__exit__)

    def __enter__(self):
        return self.__enter()

    def __exit__(self, *error):
        return self.__exit(*error)

    def _recreate_cm(self):
        return Edges(self.manager._recreate_cm(), self.first)


def at_its_edges(make, first=None):
    """first(arguments) whenever it is entered."""
    def wrapper(*arguments, **keywords):
        bound = functools.partial(first, *arguments, **keywords) if first else None
        return Edges(make(*arguments, **keywords), bound)
    return wrapper


def if_it_reads(function, first=None):
    """Of GatheredParameters: with a fwd_module it is part of that module's forward, of training."""
    pausing = paused(function, first)

    def wrapper(self, *arguments):
        trains = getattr(self, "fwd_module", None) is not None
        return (function if trains else pausing)(self, *arguments)
    return wrapper


def if_it_holds(kind):
    """Of nn.Module.load_state_dict: paused if a module inside is of that kind."""
    def wrap(load):
        pausing = paused(load, fsdp1.let_go_first)

        def wrapper(self, *arguments, **keywords):
            inside = any(isinstance(module, kind) for module in self.modules())
            return (pausing if inside else load)(self, *arguments, **keywords)
        return wrapper
    return wrap


def change(module, name, wrapper):
    """Wraps "function" or "Class.method" of a module."""
    *classes, function = name.rstrip("?").split(".")
    holder = module
    for part in classes:
        holder = getattr(holder, part, None)
    wrapped = holder is not None and patching.wrap(holder, function, wrapper)
    if wrapped and mode.has("verbose"):
        mode.of_rank_0(f"paused: {module.__name__}.{name.rstrip('?')}")
    if not wrapped and not name.endswith("?"):
        mode.of_rank_0(f"this version has no {module.__name__}.{name}: it is not paused; put "
                 "slimccl.pause() around what takes its place")


def gathers_anew(function):
    """Of FSDP1's methods."""
    return paused(function, fsdp1.let_go_first)


def install():
    def on(module, *wrapped):
        patching.on_import(module, lambda it: [change(it, *one) for one in wrapped])

    for module, names in FUNCTIONS.items():
        on(module, *((name, paused) for name in names))
    for module, names in (("state_dict_saver", ("save", "save_state_dict?")),
                          ("state_dict_loader", ("load", "load_state_dict?"))):
        on(CHECKPOINT + module, *((name, paused_where_it_trains) for name in names))
    on(CHECKPOINT + "state_dict_saver", ("async_save", paused_in_front))
    on(FSDP1, ("FullyShardedDataParallel.state_dict", gathers_anew),
       ("FullyShardedDataParallel.apply", gathers_anew),
       ("FullyShardedDataParallel.summon_full_params",
        lambda make: at_its_edges(make, fsdp1.let_go_first)))
    patching.on_import(FSDP1, lambda it: change(
        it, "nn.Module.load_state_dict", if_it_holds(it.FullyShardedDataParallel)))
    on(ENGINE, *((f"DeepSpeedEngine.{name}", lambda save: paused(save, zero.gather_replicas))
                 for name in ("save_checkpoint", "save_16bit_model")))
    on("deepspeed.runtime.zero.partition_parameters",
       ("GatheredParameters.__enter__", lambda enter: if_it_reads(enter, zero.let_go)),
       ("GatheredParameters.__exit__", if_it_reads))
