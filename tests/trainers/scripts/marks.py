"""Which lines of this process's trace (SLIMCCL_TRACE) carry what, for record.py: one JSON object
{"first": line, "end": line, "content": word} for each marked stretch, beside the trace."""
import contextlib
import json
import os


def trace_path():
    return os.environ.get("SLIMCCL_TRACE", "").replace("%p", str(os.getpid()))


def lines():
    """How many calls were traced so far: each is written when it is made."""
    try:
        with open(trace_path(), "rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


@contextlib.contextmanager
def carries(content):
    """The calls made inside carry `content`; or, where it is a dictionary, by operation."""
    first = lines()
    yield
    if trace_path():
        with open(trace_path() + ".marks", "a", encoding="utf-8") as file:
            file.write(json.dumps({"first": first, "end": lines(), "content": content}) + "\n")
