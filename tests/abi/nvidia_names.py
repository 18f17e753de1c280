#!/usr/bin/python3
"""The names in NVIDIA's nccl.h, in the host half of its nccl_device.h, and in its libnccl.so.2.

usage: nvidia_names.py table INCLUDE              rows for nccl_values.cc: constants and functions
       nvidia_names.py check INCLUDE EXPORTS LIBRARY...
           every function of theirs stands in EXPORTS; exit code 77 without their header
"""
import glob
import os
import re
import subprocess
import sys

NOT_OURS = {"ncclResetDebugInitInternal": "exported, but declared in no header: their own plumbing"}


def text_of(path):
    with open(path) as file:
        return re.sub(r"/\*.*?\*/|//[^\n]*", "", file.read(), flags=re.S)


def functions(include):
    header = text_of(os.path.join(include, "nccl.h"))
    names = re.findall(r"\b(p?nccl[A-Z]\w*)\s*\([^()]*\)\s*;", header)
    for path in glob.glob(os.path.join(include, "nccl_device", "*.h")):
        names += re.findall(r"NCCL_EXTERN_C\s+__host__[^;(]*?\b(nccl\w+)\s*\(", text_of(path))
    return sorted(set(names))


def constants(include):
    header = text_of(os.path.join(include, "nccl.h"))
    names = re.findall(r"^\s*#\s*define\s+(NCCL_\w+)[ \t]+\S", header, flags=re.M)
    for enumerators in re.findall(r"\benum\s*\{(.*?)\}", header, flags=re.S):
        names += re.findall(r"\b(nccl\w+)\s*=", enumerators)
    return [name for name in names if not name.endswith("_INITIALIZER")]


def print_table(include):
    for name in constants(include):
        print(f"CONSTANT({name})")
    for name in functions(include):
        # Overloaded in C++; nccl_values.cc has them.
        if not name.startswith("ncclTeam"):
            print(f"FUNCTION({name})")


def exported_by(library):
    output = subprocess.run(["nm", "-D", "--defined-only", library], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    return {name for name in (line.split()[-1].split("@")[0] for line in output.splitlines())
            if re.match(r"p?nccl[A-Z]", name)}


def check(include, exports, libraries):
    if not os.path.exists(os.path.join(include, "nccl.h")):
        print(f"no nccl.h of the CUDA toolkit in {include}")
        return 77
    ours = {line.strip() for line in open(exports)}
    theirs = dict.fromkeys(functions(include), include)
    for library in filter(os.path.exists, libraries):
        theirs.update(dict.fromkeys(exported_by(library), library))
    missing = sorted(set(theirs) - ours - set(NOT_OURS))
    for name in missing:
        print(f"{name} of {theirs[name]} is not in {exports}")
    print(f"{len(theirs)} names of theirs, {len(missing)} missing")
    return 1 if missing else 0


if __name__ == "__main__":
    command, directory, *others = sys.argv[1:]
    if command == "table":
        print_table(directory)
    else:
        sys.exit(check(directory, others[0], others[1:]))
