"""The preloaded file in this process: is it there, does it serve; its pause, resume and step."""
import contextlib
import ctypes
import os
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


def _look():
    """The library, or None; why not is in `_why`."""
    global _library, _why
    with _lock:
        if _why is not None:
            return _library
        from slimccl import hooks  # which take from us

        hooks.start()  # before torch is imported, they wait for it
        mode.engage()
        try:
            library = ctypes.CDLL(NAME, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
        except OSError:
            _why = f"{NAME} is not preloaded"
            return None
        if os.environ.get("SLIMCCL_OVERLAY", "").lower() in ("off", "0", "false"):
            _why = "SLIMCCL_OVERLAY is off"
        elif not _serves(library):
            _why = "libslimccl-core.so does not serve, its warning says why"
        else:
            _library, _why = library, ""
        return _library


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
    """An optimizer step has ended. Does nothing without the preloaded file."""
    library = _look()
    if library is not None:
        library.slimcclStep()
