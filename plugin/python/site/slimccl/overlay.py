"""The preloaded file in this process: is it there, does it serve; its pause, resume and step."""
import contextlib
import ctypes
import os
import sys
import threading

from slimccl import mode

NAME = "libslimccl-preload.so"
INVALID_USAGE = 5  # ncclInvalidUsage: resumed without a pause
MOST_PAUSES = 64  # that somebody else may have made before we look

_lock = threading.RLock()
_library = None  # the preloaded file, if it serves; known once `_why` is
_why = None  # why it does not serve; "" if it does
_depth = 0  # of our pauses: only the outermost reaches the library


def _serves(library):
    """Its functions succeed even when they can do nothing. Only behind a core does a resume without
    a pause fail; the pauses that were there are made again."""
    taken = 0
    while taken < MOST_PAUSES and library.slimcclResume() != INVALID_USAGE:
        taken += 1
    for _ in range(taken):
        library.slimcclPause()
    return taken < MOST_PAUSES


def _core_is_there():
    """It has read its settings: NCCL was called before we looked."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return "/libslimccl-core" in file.read()
    except OSError:
        return False


def _look():
    """The library, or None; why not is in `_why`."""
    global _library, _why
    with _lock:
        if _why is not None:
            return _library
        from slimccl import hooks  # which take from us

        hooks.start()  # before torch is imported, they wait for it
        try:
            library = ctypes.CDLL(NAME, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
        except OSError:
            _why = f"{NAME} is not preloaded"
            return None
        if os.environ.get("SLIMCCL_OVERLAY", "").lower() in ("off", "0", "false"):
            _why = "SLIMCCL_OVERLAY is off"
            return None
        with mode.engaged(_core_is_there()):
            serves = _serves(library)  # which loads the core
        if serves:
            _library, _why = library, ""
        else:
            _why = "libslimccl-core.so does not serve, its warning says why"
        return _library


def _in_a_forked_child():
    """The core only forwards there, though it takes our calls."""
    global _lock, _library, _why
    _lock = threading.RLock()  # another thread of the parent may have held it
    if _library is not None:
        _library, _why = None, "it was forked after its parent had loaded the core"


os.register_at_fork(after_in_child=_in_a_forked_child)


def has_no_group():
    """torch is here, but no process group: nothing to pause or to count, and no reason to load the
    core, which would only forward in the children that are forked from here. Not so once it is."""
    if _library is not None:
        return False
    dist = sys.modules.get("torch.distributed")
    return dist is not None and not getattr(dist, "is_initialized", lambda: False)()


def is_active():
    """Whether the preloaded file is in this process, and its core serves."""
    return _look() is not None


def why_inactive():
    """A reason in a few words; "" if it is active."""
    _look()
    return _why


@contextlib.contextmanager
def pause():
    """The collectives called inside are exact. All ranks enter and leave it at the same place among
    their calls; pauses nest; call it once per process. Does nothing without the preloaded file."""
    _change(+1)
    try:
        yield
    finally:
        _change(-1)


def _change(by):
    global _depth
    with _lock:
        library = _look()
        outermost = _depth == (0 if by > 0 else 1)
        _depth += by
        if library is not None and outermost:
            library.slimcclPause() if by > 0 else library.slimcclResume()


def step():
    """An optimizer step has ended. Does nothing without the preloaded file, or before torch's
    process group is made."""
    library = None if has_no_group() else _look()
    if library is not None:
        library.slimcclStep()
