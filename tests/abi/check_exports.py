#!/usr/bin/python3
"""The library exports exactly the names in exports.txt, and needs no surprise at run time.

usage: check_exports.py LIBRARY EXPORTS
"""
import subprocess
import sys

library, listing = sys.argv[1:]
output = subprocess.run(["nm", "-D", "--defined-only", library], check=True, text=True,
                        stdout=subprocess.PIPE).stdout
exported = {line.split()[-1].split("@")[0] for line in output.splitlines()}
wanted = {line.strip() for line in open(listing) if line.strip() and not line.startswith("#")}
for name in sorted(exported - wanted):
    print(f"exported, but not in {listing}: {name}")
for name in sorted(wanted - exported):
    print(f"in {listing}, but not exported: {name}")
sys.exit(0 if exported == wanted else 1)
