"""Counts optimizer steps: iterations, where several optimizers step in each."""
import contextlib
import threading
import weakref

from slimccl import overlay, threads

_lock = threading.Lock()
_stepped = weakref.WeakSet()  # what has stepped since the last step that was counted
_inner = 0  # calls that step optimizers in their middle, of which none is an iteration


def count(who):
    """`who` has stepped. One that steps again begins a new iteration, so that a GAN's two
    optimizers count once, and so do those of a trainer that has one for each parameter."""
    with _lock:
        if len(_stepped) and who not in _stepped:
            _stepped.add(who)
            return
        _stepped.clear()
        _stepped.add(who)
    overlay.step()


def after_optimizer(optimizer, _arguments, _keywords):
    """torch's hook. A step that torch.compile traces is not counted: nothing is called there."""
    import torch

    if torch.compiler.is_compiling():
        return
    threads.this_one_trains()
    if not _inner:
        count(optimizer)


@contextlib.contextmanager
def _uncounted():
    global _inner
    _inner += 1
    try:
        yield
    finally:
        _inner -= 1


def of_nothing(function):
    """Of torch's checkpoints, which make an optimizer's first state by a step that changes nothing.
    """
    def wrapper(*arguments, **keywords):
        with _uncounted():
            return function(*arguments, **keywords)
    return wrapper


def of_engine(step):
    """DeepSpeedEngine's step of the model, at the end of accumulation: ZeRO-3 calls its inner
    optimizer once for each part of the model, which counts once."""
    def wrapper(self, *arguments, **keywords):
        with _uncounted():
            result = step(self, *arguments, **keywords)
        threads.this_one_trains()
        count(self)
        return result
    return wrapper
