"""What the tests of plugin/python share: paths, and runs of slimccl-run."""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "cluster"))
import harness  # noqa: E402

PLUGIN = os.path.join(ROOT, "plugin", "python")
SITE = os.path.join(PLUGIN, "site")
SCRIPT = os.path.join(PLUGIN, "slimccl-run")
PRELOAD = os.path.join(harness.BUILD, "plugin", "preload", "libslimccl-preload.so")
CORE = os.path.join(os.path.dirname(PRELOAD), "libslimccl-core.so")
FOLDER = tempfile.TemporaryDirectory(prefix="python.")


def at(*names):
    return os.path.join(FOLDER.name, *names)


def write(text, *names):
    """A file that can be executed."""
    os.makedirs(os.path.dirname(at(*names)), exist_ok=True)
    with open(at(*names), "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(at(*names), 0o755)
    return at(*names)


def library(*names, needs=(), source=""):
    """A shared object that asks for the libraries `needs`, made as empty ones."""
    os.makedirs(os.path.dirname(at(*names)), exist_ok=True)
    made = []
    for name in needs:
        made.append(at("needed", name))
        os.makedirs(at("needed"), exist_ok=True)
        compile_c(made[-1], "", f"-Wl,-soname,{name}")
    compile_c(at(*names), source, "-Wl,--no-as-needed", *made)
    return at(*names)


def compile_c(output, source, *flags):
    subprocess.run(["cc", "-shared", "-fPIC", "-o", output, "-x", "c", "-", "-x", "none", *flags],
                   input=source, text=True, check=True)


def fake_preload():
    """Of a core that prints the profile that it reads, once, and then takes all calls."""
    path = at("fake", "libslimccl-preload.so")
    if not os.path.exists(path):
        os.makedirs(at("fake"), exist_ok=True)
        compile_c(path, """
#include <stdio.h>
#include <stdlib.h>
static int told, paused;
static int read_settings(int result) {
  const char* profile = getenv("SLIMCCL_PROFILE");
  if (!told++) printf("core: %s\\n", profile ? profile : "none"), fflush(stdout);
  return result;
}
int slimcclPause(void) { ++paused; return read_settings(0); }
int slimcclResume(void) { return read_settings(paused > 0 ? --paused, 0 : 5); }
int slimcclStep(void) { return read_settings(0); }
""", "-Wl,-soname,libslimccl-preload.so")
    return path


def clean_environment(**more):
    """Ours without what slimccl-run or the overlay would read."""
    env = {name: value for name, value in os.environ.items()
           if name not in ("LD_PRELOAD", "PYTHONPATH") and not name.startswith("SLIMCCL_")}
    return {**env, "SLIMCCL_BUILD": harness.BUILD, **more}


def run(*command, env=None, cwd=None):
    """(exit code, stdout, stderr)."""
    done = subprocess.run(command, env=clean_environment(**(env or {})), cwd=cwd, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def slimccl_run(*arguments, env=None, cwd=None):
    return run(sys.executable, SCRIPT, *arguments, env=env, cwd=cwd)
