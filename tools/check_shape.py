#!/usr/bin/python3
"""The shape of the tree, as STYLE rules it; run by ./dev test shape and ./dev lint.

No source file over 400 lines, README within 150; includes point downwards; getenv and mutable
statics only where they are allowed; every header compiles alone. One line per rule: "ok ..." or
"bad ..." with the places under it. Exit code 1 if a rule is broken.
"""
import concurrent.futures
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCES = (".cc", ".h", ".c", ".cu", ".cuh", ".py", ".sh", ".build")
LINES, README_LINES = 400, 150

# What each folder of src/ may include beside itself.
LAYERS = {
    "base": set(),
    "quant": {"base"},
    "topology": {"base"},
    "transport": {"base"},
    "device": {"base", "quant"},
    "collectives": {"base", "quant", "topology"},
    "runtime": {"base", "quant", "topology", "transport", "device", "collectives"},
    "api": {"base", "quant", "topology", "transport", "device", "collectives", "runtime"},
}
# getenv and mutable statics: where, and why.
STATE_ALLOWED = {
    "src/base/config.cc": "the only reader of the environment",
    "src/base/log.cc": "the process has one log",
    "src/api/": "last error, registry of communicators, group depth",
    "src/transport/ucx/worker.cc": "one UCX worker per process, owned by the progress thread",
    "src/runtime/engine.cc": "one progress thread per process",
    "src/runtime/rendezvous.cc": "one rendezvous thread per process",
    "src/runtime/connect.cc": "ranks of one process meet in one place per unique id",
    "src/runtime/wire_socket.cc": "a forked child must close the parent's sockets",
    "plugin/preload/core/state.cc": "the overlay's side table, and what each thread has begun",
    "plugin/preload/core/kernels.cc": "the driver and the kernels serve the whole process",
    "plugin/preload/core/trace.cc": "the process has one trace",
    "plugin/preload/core/open.cc": "why the core refused, for the stub",
    "src/runtime/bootstrap.cc": "one rendezvous thread per process",
    "plugin/preload/stub.c": "re-entry is a thread's, and so is what the stub itself says last",
    "plugin/preload/find.c": "C, before there is a core: SLIMCCL_NCCL",
    "plugin/preload/known.c": "one table of callers per process",
    "plugin/preload/load.c": "one core per process; C, before there is one: SLIMCCL_OVERLAY, SLIMCCL_LOG",
}
GETENV = re.compile(r"\b(?:secure_)?getenv\s*\(")
# A static or thread_local object that is neither const nor constexpr, nor a function's declaration.
STATIC = re.compile(r"^\s*(?:inline\s+)?(?:static|thread_local)\s+(?!assert)(?:thread_local\s+|inline\s+)?"
                    r"(?!const\b|constexpr\b|constinit const\b)[\w:<>,*&\s]+?\b\w+\s*(?:=|;|\{|\[)")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def tracked():
    # A clone that belongs to another user is still ours to read.
    output = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others",
                             "--exclude-standard"], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout
    return [path for path in output.splitlines() if os.path.isfile(os.path.join(ROOT, path))]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def is_source(path):
    name = os.path.basename(path)
    return path.endswith(SOURCES) or name == "dev" or path.startswith("tools/dev/")


def lengths(paths):
    for path in paths:
        limit = README_LINES if path == "README.md" else LINES if is_source(path) else None
        lines = read(path).count("\n") if limit else 0
        if limit and lines > limit:
            yield f"{path}: {lines} lines, at most {limit}"


def include_direction(paths):
    for path in paths:
        parts = path.split("/")
        if parts[0] != "src" or len(parts) < 3 or not path.endswith((".cc", ".h", ".cu", ".cuh")):
            continue
        if parts[1] not in LAYERS:
            yield f"{path}: folder src/{parts[1]} has no place in the layers of tools/check_shape.py"
            continue
        for name in INCLUDE.findall(read(path)):
            folder = name.split("/")[0]
            if folder in LAYERS and folder != parts[1] and folder not in LAYERS[parts[1]]:
                yield f"{path}: includes {name}, but {parts[1]} may not know {folder}"


def is_mutable_static(line):
    found = STATIC.match(line)
    return found and "(" not in found.group(0) and not re.search(r"\*\s*const\b", line)


def hidden_state(paths):
    for path in paths:
        if not path.startswith(("src/", "plugin/")) or not path.endswith((".c", ".cc", ".h", ".cu", ".cuh")):
            continue
        if any(path.startswith(allowed) for allowed in STATE_ALLOWED):
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            code = line.split("//")[0]
            if GETENV.search(code):
                yield f"{path}:{number}: getenv; ask base/config.h"
            if is_mutable_static(code):
                yield f"{path}:{number}: mutable static; hand it down, or give a reason in STATE_ALLOWED"


def compile_alone(path):
    language = "c" if path.startswith("include/") or os.path.dirname(path) == "plugin/preload" else "c++"
    standard = "c11" if language == "c" else "c++20"
    # Highway's baseline is the machine's oldest CPU, which has no vectors to compile this for.
    vectors = ["-msse4.2", "-maes", "-mpclmul"] if path.endswith("-inl.h") and os.uname().machine == "x86_64" else []
    command = ["g++" if language == "c++" else "gcc", "-x", language, f"-std={standard}",
               "-fsyntax-only", "-w", "-Isrc", "-Iinclude", "-Iplugin/preload", "-Iperf", "-Itests", "-Iplugin",
               '-DSLIMCCL_VERSION="0"', *vectors, path]
    result = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    first = next((line for line in result.stdout.splitlines() if "error" in line), "")
    return f"{path}: {first}" if result.returncode else None


# Headers that do not compile alone, and why.
NOT_ALONE = {f"tests/trainers/fallback/{name}.h": "torch's headers come with ./dev trainers setup"
             for name in ("alias", "operator", "shadow")}


def headers_alone(paths):
    headers = [path for path in paths if path.endswith(".h") and path not in NOT_ALONE
               and path.startswith(("src/", "include/", "perf/", "plugin/", "tests/"))]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [complaint for complaint in pool.map(compile_alone, headers) if complaint]


RULES = (
    (f"no source file over {LINES} lines, README within {README_LINES}", lengths),
    ("includes point downwards", include_direction),
    ("getenv and mutable statics only where they are allowed", hidden_state),
    ("every header compiles alone", headers_alone),
)


def main():
    paths = tracked()
    failed = False
    for text, rule in RULES:
        complaints = list(rule(paths))
        failed |= bool(complaints)
        print(f"{'bad' if complaints else 'ok'} {text}", flush=True)
        for complaint in complaints:
            print(f"    {complaint}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
