#!/usr/bin/env python3
"""Writes tests/data/golden_messages/{q8,q4s}.bin from docs/formats alone: it shares no code with src/quant.

A file is a row of cases, each: u32 elements, u32 message bytes, fp32 elements, message, fp32 decoded elements.
Usage: write_golden_messages.py [output directory]
"""
import pathlib
import sys

import numpy as np

F = np.float32
SUPERBLOCK = 2048
FLOAT_MAX = np.finfo(F).max
NAN_BITS = 0x7FC00000


def bits(x):
    return np.asarray(x, F).view(np.uint32)


def padded(data, multiple):
    return data + bytes(-len(data) % multiple)


def grouped(x, size):
    """x as rows of `size`, zeros beyond its end."""
    out = np.zeros(-(-len(x) // size) * size, F)
    out[: len(x)] = x
    return out.reshape(-1, size)


def nearest(value, grid):
    """Index of the grid value nearest to `value` (fp64, exact); of two, the even index."""
    above = min(int(np.searchsorted(grid, value)), len(grid) - 1)
    below = max(above - 1, 0)
    low, high = value - grid[below], grid[above] - value
    if low == high:
        return below if below % 2 == 0 else above
    return below if low < high else above


def bf16(value):
    """Nearest bf16 of a finite value >= 0, as 16 bits."""
    low = int(bits(value)) >> 16
    ends = np.array([low << 16, (low + 1) << 16], np.uint32).view(F).astype(np.float64)
    down, up = float(value) - ends[0], ends[1] - float(value)
    return low + (up < down or (up == down and low % 2 == 1))


def from_bf16(half):
    return np.array(half << 16, np.uint32).view(F)[()]


def finite(y):
    """Overflowed products become the largest finite value; NaN stays."""
    return np.where(np.isinf(y), np.copysign(FLOAT_MAX, y), y).astype(F)


def q8_block(x):
    if not np.isfinite(x).all():
        return NAN_BITS >> 16, np.zeros(64, np.int8)
    scale = bf16(np.abs(x).max() / F(127))
    if from_bf16(scale) < F(2.0**-126):
        return 0, np.zeros(64, np.int8)
    inverse = F(1) / from_bf16(scale)
    return scale, np.rint(x * inverse).astype(np.int8)


def q8_encode(x):
    message = b""
    for start in range(0, len(x), SUPERBLOCK):
        part = x[start : start + SUPERBLOCK]
        blocks = [q8_block(block) for block in grouped(part, 64)]
        scales = np.array([s for s, _ in blocks] + [0] * (32 - len(blocks)), "<u2")
        codes = np.concatenate([c for _, c in blocks])[: -(-len(part) // 16) * 16]
        message += scales.tobytes() + codes.tobytes()
    return padded(message, 64)


def q8_decode(message, n):
    out, at = [], 0
    for start in range(0, n, SUPERBLOCK):
        count = min(n - start, SUPERBLOCK)
        scales = np.frombuffer(message, "<u2", 32, at).astype(np.uint32)
        codes = np.frombuffer(message, np.int8, count, at + 64)
        scale = np.repeat((scales << 16).view(F), 64)[:count]
        out.append(finite(codes.astype(F) * scale))
        at += 64 + SUPERBLOCK
    return np.concatenate(out)


# The 127 magnitudes of E4M3: (8 + fraction) / 8 * 2^(exponent - 7), and fraction / 512 below 2^-6.
E4M3 = np.array([(c % 8) / 512 if c < 8 else (8 + c % 8) / 8 * 2.0 ** (c // 8 - 7) for c in range(127)])


def e4m3(value):
    code = nearest(abs(float(value)), E4M3)
    return 0 if code == 0 else code | (0x80 if value < 0 else 0)


def from_e4m3(code):
    return F(-E4M3[code & 127] if code & 128 else E4M3[code & 127])


def peak(block):
    """The element of largest magnitude, the negative one of a tie."""
    most = np.abs(block).max()
    return -most if (block == -most).any() else most


def q4s_superblock(x):
    blocks = grouped(x, 32)
    nothing = bytes(64), b"\x88" * (16 * len(blocks))
    if not np.isfinite(x).all():
        return (np.array(NAN_BITS, np.uint32).tobytes(), *nothing)
    factor = np.abs(x).max() * (F(1) / F(3584))
    if factor < F(2.0**-100):
        return (F(0).tobytes(), *nothing)
    inverse_factor = F(1) / factor
    scales, nibbles = [], b""
    for block in blocks:
        target = (peak(block) * F(-0.125)) * inverse_factor
        scales.append(e4m3(np.clip(target, F(-448), F(448))))
        d = factor * from_e4m3(scales[-1])
        inverse = F(1) / d if d != 0 else F(0)
        q = np.clip(np.rint(block * inverse), -8, 7).astype(np.int32) + 8
        nibbles += (q[:16] | q[16:] << 4).astype(np.uint8).tobytes()
    return factor.tobytes(), padded(bytes(scales), 64), nibbles


def q4s_encode(x):
    parts = [q4s_superblock(x[i : i + SUPERBLOCK]) for i in range(0, len(x), SUPERBLOCK)]
    head = padded(b"".join(factor for factor, _, _ in parts), 64)
    return padded(head + b"".join(scales + nibbles for _, scales, nibbles in parts), 64)


def q4s_decode(message, n):
    out, count = [], -(-n // SUPERBLOCK)
    at = -(-count * 4 // 64) * 64
    for index in range(count):
        factor = np.frombuffer(message, F, 1, index * 4)[0]
        left = min(n - index * SUPERBLOCK, SUPERBLOCK)
        for b in range(-(-left // 32)):
            packed = np.frombuffer(message, np.uint8, 16, at + 64 + 16 * b).astype(np.int32)
            q = np.concatenate([packed & 15, packed >> 4]) - 8
            y = finite(q.astype(F) * (factor * from_e4m3(message[at + b])))
            out.append(y[: left - 32 * b])
        at += 64 + SUPERBLOCK // 2
    return np.concatenate(out)


def cases():
    random = np.random.default_rng(2026)
    for n in (1, 31, 32, 33, 63, 64, 65, 2047, 2048, 2049, 5000):
        yield random.standard_t(3, n).astype(F) * F(1e-3)
    noise = random.standard_normal(160).astype(F)
    yield np.zeros(100, F)
    yield -np.zeros(70, F)
    yield noise * F(1e-42)  # denormals only
    yield noise * F(1e-37)  # scales about the smallest normal
    yield noise * F(3.5e-27)  # factors about 2^-100
    yield np.full(130, 0.3, F)
    yield np.full(130, -7e20, F)
    yield np.tile(np.array([2.5, -2.5, 1.0], F), 40)  # ties of signs
    yield np.tile(np.array([FLOAT_MAX, -FLOAT_MAX, FLOAT_MAX / 3], F), 40)
    yield np.repeat(F(2.0) ** np.arange(-24, 0).astype(F), 32) * np.tile(noise[:32], 24)  # all scales
    yield np.arange(-127, 129).astype(F) / F(2)  # halves between the codes of q8
    for value in (np.inf, -np.inf, np.nan):
        x = noise.copy()
        x[77] = value
        yield x
    x = random.standard_normal(2200).astype(F)
    x[2100] = np.nan  # the first superblock stays sound
    x[640:704] = 0
    yield x


def main():
    folder = pathlib.Path(__file__).resolve().parent.parent / "tests/data/golden_messages"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else folder
    with np.errstate(all="ignore"):
        for name, encode, decode in (("q8", q8_encode, q8_decode), ("q4s", q4s_encode, q4s_decode)):
            with open(folder / f"{name}.bin", "wb") as file:
                for x in cases():
                    x = x.astype("<f4")
                    message = encode(x)
                    y = decode(message, len(x))
                    y = np.where(np.isnan(y), np.array(NAN_BITS, np.uint32).view(F), y).astype("<f4")
                    file.write(np.array([len(x), len(message)], "<u4").tobytes())
                    file.write(x.tobytes() + message + y.tobytes())


if __name__ == "__main__":
    main()
