"""Gives NCCL's communicators the names that torch has for their process groups ("mesh_tp"), so that
rules and `zeropp` can go by them: ProcessGroupNCCL keeps them to itself."""
import copy
import ctypes
import inspect

from slimccl import mode, patching

MAGIC, SINCE = 0xCAFEBEEF, 22700  # the version from which ncclConfig_t has a name where we look for it
NAMELESS = (None, "", "undefined", "default_pg")
_kept = {}  # names that we have put; NCCL is told where they lie


class Config(ctypes.Structure):
    """ncclConfig_t as far as its name."""

    _fields_ = [("size", ctypes.c_size_t), ("magic", ctypes.c_uint), ("version", ctypes.c_uint),
                *((name, ctypes.c_int) for name in ("blocking", "cluster", "least", "most")),
                ("network", ctypes.c_void_p), ("split", ctypes.c_int), ("traffic", ctypes.c_int),
                ("name", ctypes.c_void_p)]


def with_name(options, name):
    """A copy of ProcessGroupNCCL.Options, which programs use again, with the name; None takes ours
    away. A name of the program's own stays."""
    options = copy.deepcopy(options)
    config = Config.from_address(options.config.unsafe_get_ptr())
    known = config.magic == MAGIC and config.version >= SINCE
    if not known or config.size < ctypes.sizeof(Config):
        return options
    if not config.name or ctypes.string_at(config.name) in _kept:
        key = name.encode() if name else None
        buffer = _kept.setdefault(key, ctypes.create_string_buffer(key)) if key else None
        config.name = ctypes.addressof(buffer) if buffer else None
    return options


def new_group_options(module, given):
    """Of _new_process_group_helper, if the group has a name and may be NCCL's."""
    name, backend = given.get("group_desc"), str(given.get("backend")).lower()
    if name in NAMELESS or not ("nccl" in backend or backend in ("undefined", "none")):
        return None
    options = given.get("backend_options")
    if options is None:  # torch's own
        options = module.ProcessGroupNCCL.Options()
        options.is_high_priority_stream = False
        options._timeout = given.get("timeout")
    return with_name(options, name)


def split_options(module, given):
    """Of split_group, where torch copies the parent's, with its name."""
    import torch

    parent = given.get("parent_pg") or module._get_default_group()
    options = given.get("pg_options") or parent._get_backend(torch.device("cuda")).options
    name = given.get("group_desc")
    if name in NAMELESS and parent.group_desc not in NAMELESS:
        name = f"{parent.group_desc}:split"
    return with_name(options, None if name in NAMELESS else name)


def watch(module):
    """Of torch.distributed.distributed_c10d. Groups of other versions of torch may have no name."""
    for function, parameter, make in (
            ("_new_process_group_helper", "backend_options", new_group_options),
            ("split_group", "pg_options", split_options)):
        found = getattr(module, function, None)
        if found and {"group_desc", parameter} <= set(inspect.signature(found).parameters):
            patching.wrap_everywhere(module, function, naming(module, parameter, make))


def naming(module, parameter, make):
    def wrap(function):
        signature = inspect.signature(function)

        def wrapper(*arguments, **keywords):
            bound = signature.bind(*arguments, **keywords)
            try:
                options = make(module, bound.arguments)
            except Exception as error:  # a group without a name, as before
                options = None
                mode.of_rank_0(f"a process group has no name, rules do not find it "
                               f"({type(error).__name__}: {error})")
            if options is not None:
                bound.arguments[parameter] = options
            return function(*bound.args, **bound.kwargs)
        return wrapper
    return wrap
