"""The threads that train. Only their calls are at the same place on all ranks: torch's async_save,
for one, calls the hooked save() on a thread of its own while training goes on."""
import threading
import weakref

_training = weakref.WeakSet()


def this_one_trains():
    """The current thread made the process group, or called an optimizer."""
    _training.add(threading.current_thread())


def is_training():
    current = threading.current_thread()
    return current is threading.main_thread() or current in _training
