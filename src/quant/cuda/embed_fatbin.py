#!/usr/bin/python3
"""embed_fatbin.py OUTPUT.cc [FATBIN]: writes the source file that holds the fatbin's bytes.

Without FATBIN (no nvcc) there are no bytes. Called by the build only.
"""
import struct
import sys

ALIGN, PER_LINE = 8, 6


def main():
    data = open(sys.argv[2], "rb").read() if len(sys.argv) > 2 else b""
    padded = data + bytes(-len(data) % ALIGN)
    words = [f"0x{word:x}" for (word,) in struct.iter_unpack("<Q", padded)]
    lines = [", ".join(words[i:i + PER_LINE]) for i in range(0, len(words), PER_LINE)]
    with open(sys.argv[1], "w") as out:
        out.write('// Written by embed_fatbin.py.\n#include "quant/cuda/fatbin.h"\n\n')
        out.write("namespace slimccl::quant {\n\n")
        if data:
            out.write("static const uint64_t kWords[] = {\n    " + ",\n    ".join(lines) + "};\n\n")
            out.write("ConstBytes fold_fatbin() {\n  return "
                      f"std::as_bytes(std::span(kWords)).first({len(data)});\n}}\n")
        else:
            out.write("ConstBytes fold_fatbin() { return {}; }\n")
        out.write("\n}  // namespace slimccl::quant\n")


if __name__ == "__main__":
    main()
