#!/usr/bin/python3
"""make_stubs.py WHEEL_LIBRARIES OUTPUT: a stub of every NVIDIA library that an unpacked CUDA wheel
of torch wants to be loaded with, made from what the wheel's own libraries leave undefined.

A stub function that is called says so on stderr, once ("slimccl-stub: LIBRARY: FUNCTION was
called"), and returns 1, a failure in all of these libraries; those in ANSWERS quietly return what
they must.
"""
import os
import re
import subprocess
import sys

# Not stubs: tests/cuda/emulated has the first two, the third is what is tested.
EMULATED = ("libcudart.so.13", "libcuda.so.1", "libnccl.so.2")
NVIDIA = re.compile(r"lib(cu|nv)\w+\.so\.\d+$")
# Where a function without a symbol version belongs; the longest prefix wins.
PREFIXES = {"cuFile": "libcufile", "cusparseLt": "libcusparseLt", "nvshmem": "libnvshmem_host"}
VERSIONS = {"NVSHMEM": "libnvshmem_host.so.3"}  # all others are named like their library
ANSWERS = {"cudnnGetVersion": 91900}  # asked by `import torch`

HEADER = """#include <stdatomic.h>
#include <stdio.h>
__attribute__((visibility("hidden"))) int called(atomic_flag* before, const char* function) {
  if (!atomic_flag_test_and_set(before)) {
    fprintf(stderr, "slimccl-stub: %s: %%s was called, which nothing emulates\\n", function);
  }
  return 1;
}
"""
STUB = """int {0}(void) {{
  static atomic_flag before = ATOMIC_FLAG_INIT;
  return called(&before, "{0}");
}}
"""
ANSWER = "int {0}(void) {{ return {1}; }}\n"


def output(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def undefined(path):
    """(function, symbol version or "") of everything that the library leaves to others."""
    for line in output("nm", "-D", "--undefined-only", path).splitlines():
        name, _, version = line.split()[-1].partition("@")
        yield name, version.lstrip("@")


def wanted(folder):
    """{library: {function: version}} of all NVIDIA libraries that the wheel's name as needed."""
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if ".so" in name]
    needed = {name for path in paths
              for name in re.findall(r"NEEDED.*\[(.*)\]", output("readelf", "-dW", path))
              if NVIDIA.match(name) and name not in EMULATED}
    by_stem = {name.partition(".so")[0]: name for name in needed}
    libraries = {name: {} for name in needed}
    for path in paths:
        for function, version in undefined(path):
            library = VERSIONS.get(version, version)
            if not version:
                fitting = [prefix for prefix in PREFIXES if function.startswith(prefix)]
                library = by_stem.get(PREFIXES[max(fitting, key=len)]) if fitting else None
            if library in libraries:
                libraries[library].setdefault(function, version)
    return libraries


def make(library, functions, folder):
    source = os.path.join(folder, library + ".c")
    version_map = os.path.join(folder, library + ".map")
    with open(source, "w", encoding="utf-8") as file:
        file.write(HEADER % library)
        for function in sorted(functions):
            stub = ANSWER if function in ANSWERS else STUB
            file.write(stub.format(function, ANSWERS.get(function)))
    with open(version_map, "w", encoding="utf-8") as file:
        for version in sorted(set(functions.values()) - {""}):
            names = "; ".join(sorted(name for name, of in functions.items() if of == version))
            file.write(f"{version} {{ global: {names}; }};\n")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-w", f"-Wl,-soname,{library}", "-o",
               os.path.join(folder, library), source]
    if any(functions.values()):
        command.append(f"-Wl,--version-script,{version_map}")
    subprocess.run(command, check=True)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    wheel, folder = sys.argv[1:]
    libraries = wanted(wheel)
    if not libraries:
        sys.exit(f"make_stubs: no library in {wheel} needs one of NVIDIA's: is this a CUDA wheel?")
    os.makedirs(folder, exist_ok=True)
    for library, functions in sorted(libraries.items()):
        make(library, functions, folder)
    print(f"{len(libraries)} stub libraries, {sum(map(len, libraries.values()))} functions")


if __name__ == "__main__":
    main()
