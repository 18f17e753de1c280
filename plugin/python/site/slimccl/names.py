"""Gives NCCL's communicators the names that torch has for their process groups ("mesh_tp"), so that
rules and warnings can go by them: ProcessGroupNCCL keeps them to itself."""
import ctypes
import inspect

from slimccl import patching

MAGIC, SINCE = 0xCAFEBEEF, 22700  # the version from which ncclConfig_t has a name where we look for it
NAMELESS = (None, "", "undefined", "default_pg")
_kept = []  # NCCL is told where a name lies


class Config(ctypes.Structure):
    """ncclConfig_t as far as its name."""

    _fields_ = [("size", ctypes.c_size_t), ("magic", ctypes.c_uint), ("version", ctypes.c_uint),
                *((name, ctypes.c_int) for name in ("blocking", "cluster", "least", "most")),
                ("network", ctypes.c_void_p), ("split", ctypes.c_int), ("traffic", ctypes.c_int),
                ("name", ctypes.c_void_p)]


def put(options, name):
    """Into ProcessGroupNCCL.Options, unless the program has put one there."""
    config = Config.from_address(options.config.unsafe_get_ptr())
    known = config.magic == MAGIC and config.version >= SINCE
    if not known or config.size < ctypes.sizeof(Config) or config.name:
        return
    _kept.append(ctypes.create_string_buffer(name.encode()))
    config.name = ctypes.addressof(_kept[-1])


def options_of(module, arguments):
    """The program's, or torch's own, which it would have made itself."""
    options = arguments.get("backend_options")
    if options is None:
        options = module.ProcessGroupNCCL.Options()
        options.is_high_priority_stream = False
        options._timeout = arguments.get("timeout")
    return options


def watch(module):
    """Of torch.distributed.distributed_c10d."""
    helper = getattr(module, "_new_process_group_helper", None)
    if helper is None or "group_desc" not in inspect.signature(helper).parameters:
        return  # another torch, whose groups have no name
    signature = inspect.signature(helper)

    def named(function):
        def wrapper(*given, **keywords):
            bound = signature.bind(*given, **keywords)
            name = bound.arguments.get("group_desc")
            nccl = "nccl" in str(bound.arguments.get("backend")).lower()
            if nccl and name not in NAMELESS:
                try:
                    options = options_of(module, bound.arguments)
                    put(options, name)
                    bound.arguments["backend_options"] = options
                except Exception:  # a group without a name is as good as before
                    pass
            return function(*bound.args, **bound.kwargs)
        return wrapper

    patching.wrap(module, "_new_process_group_helper", named)
