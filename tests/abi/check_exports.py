#!/usr/bin/python3
"""The library exports exactly the names in exports.txt, every ncclX has a pncclX, and nothing of CUDA
is needed to load it.

usage: check_exports.py LIBRARY EXPORTS
"""
import re
import subprocess
import sys

library, listing = sys.argv[1:]


def output_of(*command):
    return subprocess.run([*command, library], check=True, text=True, stdout=subprocess.PIPE).stdout


def names(*options):
    return {line.split()[-1].split("@")[0] for line in output_of("nm", "-D", *options).splitlines()}


complaints = []
exported = names("--defined-only")
wanted = {line.strip() for line in open(listing) if line.strip() and not line.startswith("#")}
complaints += [f"exported, but not in {listing}: {name}" for name in sorted(exported - wanted)]
complaints += [f"in {listing}, but not exported: {name}" for name in sorted(wanted - exported)]
# As in NCCL: a tool's own ncclX wins over ours, and pncclX is ours still.
symbols = {name.split("@")[0]: (value, kind) for value, kind, name in
           (line.split() for line in output_of("nm", "-D", "--defined-only").splitlines())}
for name in sorted(name for name in exported if name.startswith("nccl")):
    value, kind = symbols[name]
    twin = symbols.get("p" + name)
    if twin is None:
        complaints.append(f"{name} has no twin: SLIMCCL_TWIN is missing before it")
    elif twin != (value, "T") or kind != "W":
        complaints.append(f"{name} is {kind} at {value}, its twin is {twin[1]} at {twin[0]}; "
                          "they should be weak (W) and global (T) at one place")
# Kernels are data to us, and the driver is found at run time. An object file of nvcc's host side
# would bring these: libcudart, calls into it, and a constructor that registers its section.
complaints += [f"needs {name} of CUDA to be loaded" for name in sorted(names("--undefined-only"))
               if re.match(r"(__cuda|cu[A-Z]|cuda[A-Z])", name)]
complaints += [f"has {name}, from nvcc's host side"
               for name in sorted(set(re.findall(r"\b_*cudaRegister\w*", output_of("nm", "-a"))))]
complaints += [f"is linked to {name}" for name in
               re.findall(r"NEEDED.*\[(libcuda\S*)\]", output_of("readelf", "-dW"))]
complaints += [f"has a section {name}, from nvcc's host side" for name in
               re.findall(r" (\.nv_?[fF]at\w*) ", output_of("readelf", "-SW"))]
for complaint in complaints:
    print(complaint)
sys.exit(1 if complaints else 0)
