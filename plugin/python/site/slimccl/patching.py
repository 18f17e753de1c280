"""Changes modules when the program imports them, and wraps functions in them. We import nothing
that the program does not."""
import functools
import importlib.abc
import sys
import threading

from slimccl import mode


class Watcher(importlib.abc.MetaPathFinder):
    """Finds nothing by itself: what another finder found is changed after it has been executed."""

    def __init__(self):
        self.changes = {}  # by module: functions that take it
        self.asking = threading.local()  # .name: for which this thread asks the other finders

    def find_spec(self, name, path, target=None):
        # Another finder that asks all others, as we do, asks us.
        before = getattr(self.asking, "name", None)
        if name not in self.changes or name == before:
            return None
        self.asking.name = name
        try:
            spec = self.found_by_others(name, path, target)
        finally:
            self.asking.name = before
        if spec is not None:
            self.extend(spec.loader, name, self.changes[name])
        return spec

    def found_by_others(self, name, path, target):
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find and finder is not self else None
            if spec is not None:
                return spec
        return None

    @staticmethod
    def extend(loader, name, changes):
        """The loader is the module's own, but for a zip file's."""
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module):
            execute(module)
            for change in changes if module.__name__ == name else ():
                apply(change, module)

        try:
            loader.exec_module = exec_module
        except AttributeError:
            pass  # a built-in module's loader


def apply(change, module):
    """A version of the library that we do not know is not to fail when it is imported."""
    try:
        change(module)
    except Exception as error:
        mode.say(f"a hook of {module.__name__} is missing in this process, which may round its "
                 f"checkpoints or not count: {type(error).__name__}: {error}")


_watcher = Watcher()


def on_import(name, change):
    """change(module) when the module is there: now, or right after it has been imported."""
    if name in sys.modules:
        apply(change, sys.modules[name])
        return
    _watcher.changes.setdefault(name, []).append(change)
    if _watcher not in sys.meta_path:
        sys.meta_path.insert(0, _watcher)


def wrap_everywhere(module, name, wrapper):
    """Also in torch's modules that have taken the function from it already."""
    original = getattr(module, name, None)
    if original is None or not wrap(module, name, wrapper):
        return
    for other_name, other in list(sys.modules.items()):
        if other_name.startswith("torch.") and getattr(other, "__dict__", {}).get(name) is original:
            setattr(other, name, getattr(module, name))


def wrap(holder, name, wrapper):
    """Replaces a function of a module or class by wrapper(function), once. False if there is none:
    another version of the library. Static methods stay static."""
    found = vars(holder).get(name, getattr(holder, name, None))
    if found is None:
        return False
    function = found.__func__ if isinstance(found, staticmethod) else found
    if getattr(function, "slimccl", False):
        return True
    replacement = functools.wraps(function)(wrapper(function))
    replacement.slimccl = True
    setattr(holder, name, staticmethod(replacement) if isinstance(found, staticmethod)
            else replacement)
    return True
