"""What the tests of kernels share: the PTX and the host library that Meson names, or a skip.

usage: kernels_test.py HOST_LIBRARY [PTX]; without PTX (built without nvcc) the exit code is 77.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "cluster"))
import harness  # noqa: E402
from host import Host  # noqa: E402


def arguments():
    """The host library and the text of the kernels."""
    paths, sys.argv = sys.argv[1:], sys.argv[:1]  # the rest would be unittest's
    if len(paths) not in (1, 2):
        sys.exit(__doc__)
    if len(paths) == 1:
        print("SKIPPED: built without nvcc, so there is no PTX to run")
        sys.exit(77)
    with open(paths[1]) as file:
        return Host(paths[0]), file.read()


main = harness.main
