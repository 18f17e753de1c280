"""Which threads pause. A pause is of the whole process, so it must begin and end at the same place
among the calls of all ranks. A thread that calls beside training is at no such place: one that
async_save starts, or one of the program's own in which it saves over gloo."""
import threading
import weakref

from slimccl import mode

_training = weakref.WeakSet()
_background = weakref.WeakSet()  # started by async_save
_before = None  # the threads that were there before the async_save that is under way
_told = False


def this_one_trains():
    """The current thread made the process group, or called an optimizer."""
    _training.add(threading.current_thread())


def is_training():
    """In the main thread too; others are told of once."""
    global _told
    current = threading.current_thread()
    if current is threading.main_thread() or current in _training:
        return True
    if not in_background() and not _told:
        _told = True
        mode.of_rank_0(f"torch.distributed.checkpoint in the thread {current.name}, which neither "
                       "made the process group nor stepped an optimizer, is not paused: put "
                       "slimccl.pause() around what it saves, where no other thread calls NCCL")
    return False


def in_background():
    current, before = threading.current_thread(), _before
    return current in _background or before is not None and current not in before


def with_a_background(function):
    """The threads that it starts are in the background, for good."""
    def wrapper(*arguments, **keywords):
        global _before
        if in_background():
            return function(*arguments, **keywords)
        outer, _before = _before, set(threading.enumerate())
        try:
            return function(*arguments, **keywords)
        finally:
            for thread in set(threading.enumerate()) - _before:
                _background.add(thread)
            _before = outer
    return wrapper
