#!/usr/bin/env python3
"""Writes the wheel: the package slimccl with the preloaded file and its core inside. The same files
make the same bytes.

  build_wheel.py --preload FILE --core FILE OUTPUT.whl

OUTPUT's name is NAME-VERSION-py3-none-manylinux_2_N_MACHINE.whl, and must keep its word: the
version that the package has, and a glibc 2.N that is enough for both libraries.
"""
import argparse
import base64
import hashlib
import os
import re
import sys
import zipfile

SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")
NAME = re.compile(r"(\w+)-([\w.]+)-(py3-none-manylinux_2_(\d+)_\w+)\.whl$")
WHEEL = "Wheel-Version: 1.0\nGenerator: slimccl\nRoot-Is-Purelib: false\nTag: {tag}\n"
DATE = (1980, 1, 1, 0, 0, 0)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def newest_glibc(data):
    """N of the newest GLIBC_2.N that a library names."""
    return max((int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", data)), default=0)


def sources(version):
    """Pairs of the name in the wheel and the content."""
    info = f"slimccl-{version}.dist-info"
    if not os.path.isdir(os.path.join(SITE, info)):
        sys.exit(f"build_wheel: {SITE} has no {info}: is its version another one?")
    package = [name for name in sorted(os.listdir(os.path.join(SITE, "slimccl")))
               if name.endswith(".py")]
    for folder, names in (("slimccl", package), (info, ("METADATA", "entry_points.txt"))):
        for name in names:
            yield f"{folder}/{name}", read(os.path.join(SITE, folder, name))


def record_line(name, data):
    checksum = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={checksum},{len(data)}\n"


def write(path, files):
    """A zip with RECORD, which lists all others, at its end."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files:
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            executable = 0o755 if name.endswith(".so") else 0o644
            entry.external_attr = (0o100000 | executable) << 16
            wheel.writestr(entry, data)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preload", required=True)
    parser.add_argument("--core", required=True)
    parser.add_argument("output")
    chosen = parser.parse_args()
    named = NAME.match(os.path.basename(chosen.output))
    if not named:
        sys.exit(f"build_wheel: {chosen.output} is no name of a wheel; see --help")
    _, version, tag, glibc = named.groups()
    libraries = [(f"slimccl/lib/{os.path.basename(path)}", read(path))
                 for path in (chosen.preload, chosen.core)]
    for name, data in libraries:
        if newest_glibc(data) > int(glibc):
            sys.exit(f"build_wheel: {name} needs glibc 2.{newest_glibc(data)}, and {tag} promises "
                     f"2.{glibc}")
    info = f"slimccl-{version}.dist-info"
    files = [*sources(version), *libraries, (f"{info}/WHEEL", WHEEL.format(tag=tag).encode())]
    record = "".join(record_line(*file) for file in files) + f"{info}/RECORD,,\n"
    write(chosen.output, [*files, (f"{info}/RECORD", record.encode())])


if __name__ == "__main__":
    main()
