"""Builds small fake copies of NCCL, programs and plugins that call them, and runs these under the
preloaded file. One folder for all of a test program's cases."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "cluster"))
import harness  # noqa: E402

STUB = os.path.join(harness.BUILD, "plugin", "preload", "libslimccl-preload.so")
FLAGS = ["-std=gnu11", "-O1", "-g", "-w", f"-I{ROOT}/include", f"-I{ROOT}/plugin"]
FOLDER = tempfile.TemporaryDirectory(prefix="overlay.")


def at(*names):
    return os.path.join(FOLDER.name, *names)


def compile_c(output, sources, *flags):
    os.makedirs(os.path.dirname(at(output)), exist_ok=True)
    paths = [os.path.join(HERE, source) for source in sources]
    subprocess.run(["cc", *FLAGS, *paths, "-o", at(output), *flags], check=True)
    return at(output)


def library(output, sources, *flags):
    return compile_c(output, sources, "-shared", "-fPIC", f"-Wl,-soname,{os.path.basename(output)}", *flags)


def fake_nccl(output, name, *flags):
    return library(output, ["fake_nccl.c"], f'-DFAKE_NAME="{name}"', *flags)


def linked_to(nccl):
    """Flags that link to one file and find it there at run time."""
    return [nccl, f"-Wl,-rpath,{os.path.dirname(nccl)}"]


def stub_in(folder, core=None):
    """A stub in a folder of its own, beside a fake core (flags of its compilation) or none."""
    os.makedirs(at(folder), exist_ok=True)
    shutil.copy(STUB, at(folder))
    if core is not None:
        library(f"{folder}/libslimccl-core.so", ["fake_core.c"], *core)
    return at(folder, os.path.basename(STUB))


def run(command, preload=None, cwd=None, **environment):
    """Exit code, lines of stdout, lines of stderr."""
    env = {name: value for name, value in os.environ.items()
           if name != "LD_PRELOAD" and not name.startswith("SLIMCCL_")}
    env.update(environment)
    if preload:
        env["LD_PRELOAD"] = preload
    result = subprocess.run(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return result.returncode, result.stdout.splitlines(), result.stderr.splitlines()
