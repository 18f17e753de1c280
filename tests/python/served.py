"""What the tests of the hooks share: a fake library, and just enough of a torch."""
import contextlib
import sys
import types
import unittest

import paths

sys.path.insert(0, paths.SITE)
from slimccl import overlay  # noqa: E402


class FakeLibrary:
    """Of a core that serves: a resume without a pause is an error."""

    def __init__(self):
        self.calls, self.depth = [], 0

    def slimcclPause(self):
        self.calls.append("pause")
        self.depth += 1
        return 0

    def slimcclResume(self):
        if self.depth == 0:
            return overlay.INVALID_USAGE
        self.calls.append("resume")
        self.depth -= 1
        return 0

    def slimcclStep(self):
        self.calls.append("step")
        return 0


class FakeCompiler:
    compiling = False

    def is_compiling(self):
        return self.compiling


class Served(unittest.TestCase):
    """With a fake library and just enough of a torch."""

    def setUp(self):
        self.library, self.compiler, self.grad = FakeLibrary(), FakeCompiler(), True
        overlay._library, overlay._why = self.library, ""
        sys.modules["torch"] = types.SimpleNamespace(compiler=self.compiler,
                                                     no_grad=self.no_grad)
        self.addCleanup(sys.modules.pop, "torch")

    @contextlib.contextmanager
    def no_grad(self):
        self.grad = False
        yield
        self.grad = True

    def calls(self):
        taken, self.library.calls = self.library.calls, []
        return taken
