"""Counts optimizer steps: iterations, where several optimizers step in each."""
import contextlib
import threading
import weakref

from slimccl import overlay, threads

_lock = threading.Lock()
_stepped = weakref.WeakSet()  # what has stepped since the last step that was counted
_engines = 0  # of DeepSpeed, in the middle of a step: optimizers inside step for them


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
    if not _engines:
        count(optimizer)


@contextlib.contextmanager
def _inside_engine():
    global _engines
    _engines += 1
    try:
        yield
    finally:
        _engines -= 1


def of_engine(step):
    """DeepSpeedEngine's step of the model, at the end of accumulation: ZeRO-3 calls its inner
    optimizer once for each part of the model, which counts once."""
    def wrapper(self, *arguments, **keywords):
        with _inside_engine():
            result = step(self, *arguments, **keywords)
        threads.this_one_trains()
        count(self)
        return result
    return wrapper
