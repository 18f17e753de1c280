"""What slimccl-run makes sure of before it hands over to the command: the preloaded file opens in a
child, and the Python that the command runs has a torch that calls our hooks and NCCL by the linker.
"""
import json
import os
import re
import shutil
import subprocess
import sys

from slimccl import libraries, mode, torch_nccl

OLDEST_TORCH = (2, 5)  # the first that calls entry points of [torch.backends]
# They choose a Python by themselves: `python` behind them is none that we find.
CHOOSERS = {"uv", "conda", "mamba", "micromamba", "poetry", "pdm", "pipenv", "hatch", "pixi",
            "docker", "podman", "apptainer", "singularity", "enroot", "ssh"}
LOOK_TIMEOUT_S = 60  # a cold network file system may be slow
EXEC_LINE = re.compile(r"""'''exec'\s+"?([^"]+?)"?\s+"\$0\"""")  # pip's, for paths too long for #!

# Run by the command's Python, which imports neither torch nor us for it.
LOOK = """
import importlib.metadata as metadata, importlib.util, json
spec = importlib.util.find_spec("torch")
folder = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else None
try:
    version = metadata.version("torch")
except metadata.PackageNotFoundError:
    version = None
try:
    metadata.version("slimccl")
    hooks = True
except metadata.PackageNotFoundError:
    hooks = False
print(json.dumps({"torch": folder, "version": version, "hooks": hooks}))
"""


class Refused(Exception):
    """The text says what is wrong and what to do."""


def check_preload(path):
    """Loads the file and the core beside it into a small child, as they will be into the ranks."""
    if not os.path.exists(path):
        raise Refused(f"cannot preload {path}: there is no such file")
    if re.search(r"[\s:$]", path):
        raise Refused(f"cannot preload {path}: LD_PRELOAD takes no path with a space, ':' or '$'; "
                      "put a link to the folder where there is none")
    core = os.path.join(os.path.dirname(os.path.realpath(path)), libraries.CORE)
    if not os.path.exists(core):
        raise Refused(f"{path} needs {core}, which is not there: install both files of one build "
                      "beside each other")
    for file in (path, core):
        _check_opens(file)


def _check_opens(file):
    # In ourselves: a cat may be linked statically, as busybox is, and preload nothing.
    show = [sys.executable, "-I", "-S", "-c", "print(open('/proc/self/maps').read())"]
    child = subprocess.run(show, env={**os.environ, "LD_PRELOAD": file}, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           errors="replace", check=False)
    if os.path.realpath(file) in child.stdout:
        return
    words = " ".join(child.stderr.split()) or "the loader says nothing; is its C library glibc?"
    raise Refused(f"{file} does not open in a child process: {words}\n"
                  "It takes glibc 2.34 or newer on the same kind of CPU; a file that was cut short "
                  "is to be installed again")


def interpreter_of(path):
    """The Python that an executable is, or names in its first lines; None if it is neither."""
    if re.match(r"(python|pypy)[\d.]*$", os.path.basename(path)):
        return path
    try:
        with open(path, "rb") as file:
            lines = file.read(1024).decode(errors="replace").splitlines()
    except OSError:
        return None
    if not lines or not lines[0].startswith("#!"):
        return None
    words = [word for word in lines[0][2:].split() if not word.startswith("-")]
    if len(words) > 1 and os.path.basename(words[0]) == "env":
        words = words[1:]
    wrapped = EXEC_LINE.match(lines[1]) if len(lines) > 1 else None
    name = wrapped.group(1) if wrapped else words[0] if words else ""
    if not re.match(r"(python|pypy)[\d.]*$", os.path.basename(name)):
        return None
    return shutil.which(name)


def find_interpreter(command):
    """The Python behind a command: `torchrun ...`, `python ...`, `srun ... python ...`. Or None."""
    for word in command:
        if os.path.basename(word) in CHOOSERS:
            return None
        path = shutil.which(word)
        found = interpreter_of(path) if path else None
        if found:
            return found
    return None


def look(interpreter, env):
    """What LOOK prints; None if it prints nothing that can be read."""
    try:
        child = subprocess.run([interpreter, "-c", LOOK], env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               timeout=LOOK_TIMEOUT_S, check=False)
        return json.loads(child.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return None


def check_torch(command, env, allow_inactive):
    """Refuses a torch that we cannot serve, or warns of it: a launcher may choose another Python than
    the one that we find, as `srun --container-image` does."""
    try:
        _check_torch(command, env)
    except Refused as error:
        if not allow_inactive:
            raise Refused(f"{error}. {mode.ANYWAY}") from None
        mode.say(f"warning: {error}")


def _check_torch(command, env):
    """Where the command's Python can be told: is its torch one that we can serve?"""
    if env.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1") != "1":
        raise Refused("TORCH_DEVICE_BACKEND_AUTOLOAD="
                      f"{env['TORCH_DEVICE_BACKEND_AUTOLOAD']} keeps torch from loading our hooks: "
                      "nothing would be compressed; unset it")
    interpreter = find_interpreter(command)
    seen = look(interpreter, env) if interpreter else None
    if not seen or not seen["torch"]:
        return  # no Python that we know of, or one without torch
    _check_version(seen["version"], interpreter)
    if not seen["hooks"]:
        raise Refused(f"{interpreter} has torch, but not the package slimccl, whose hooks torch "
                      f"loads: install the wheel there ({interpreter} -m pip install "
                      f"slimccl-*.whl); this slimccl-run is {sys.executable}'s")
    problem = torch_nccl.problem(seen["torch"])
    if problem:
        raise Refused(problem)


def _check_version(version, interpreter):
    found = re.match(r"(\d+)\.(\d+)", version or "")
    if found and tuple(map(int, found.groups())) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise Refused(f"torch {version} of {interpreter} is too old: from {oldest} on torch loads "
                      "our hooks by itself, and without them nothing is compressed. Take a newer "
                      "torch, or set LD_PRELOAD and SLIMCCL_PROFILE yourself and put "
                      "slimccl.pause() around checkpoints")
