"""Where libslimccl-preload.so and libslimccl-core.so lie: in the wheel, or in the build folder of a
source tree."""
import os

PRELOAD, CORE = "libslimccl-preload.so", "libslimccl-core.so"
HERE = os.path.dirname(os.path.abspath(__file__))
SITE = os.path.dirname(HERE)  # what PYTHONPATH needs to find this package and its entry points


def source_tree():
    """The root of the source tree that this file lies in, or None."""
    root, place = os.path.dirname(os.path.dirname(os.path.dirname(SITE))), "plugin/python/site"
    return root if os.path.join(root, place) == SITE else None


def candidates():
    """Paths of the preloaded file, the likeliest first."""
    yield os.path.join(HERE, "lib", PRELOAD)
    root = source_tree()
    if root:
        build = os.environ.get("SLIMCCL_BUILD") or os.path.join(root, "build")
        yield os.path.join(build, "plugin", "preload", PRELOAD)


def find_preload():
    """The preloaded file's absolute path. Raises FileNotFoundError with the places looked at."""
    places = list(candidates())
    for path in places:
        if os.path.exists(path):
            return os.path.abspath(path)
    raise FileNotFoundError(f"no {PRELOAD}: neither of {', '.join(places)} is there; install the "
                            "wheel, build the source tree (./dev build), or name it: --preload "
                            "FILE")
