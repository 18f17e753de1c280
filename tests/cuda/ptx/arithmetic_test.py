#!/usr/bin/python3
"""What single PTX instructions compute, worked out by hand from the PTX ISA."""
import fractions
import unittest

import numpy as np

import arithmetic
import ptx_text
import setting
from ptx_text import PtxError

NAN = 0x7FFFFFFF
INF = np.float32(np.inf)


def compute(opcode, *values):
    """The result of an instruction, for sources that are numbers or lists of them."""
    operands = ", ".join(f"%r{i}" for i in range(len(values) + 1))
    operation = arithmetic.resolve(ptx_text.parse_instruction(1, f"{opcode} {operands};"))
    arrays = []
    for value, kind in zip(values, operation.sources):
        array = np.atleast_1d(value)
        dtype = np.dtype(arithmetic.NUMPY[kind])
        # Integers for an fp32 source are its bits.
        if dtype == np.float32 and array.dtype.kind == "i":
            array = array.astype(np.uint32).view(np.float32)
        arrays.append(array.astype(dtype))
    with np.errstate(all="ignore"):
        result = operation.compute(*arrays)
    if result.dtype != arithmetic.NUMPY[operation.result]:
        raise AssertionError(f"{opcode} gives {result.dtype}, not {operation.result}")
    return result


def bits(values):
    return [int(value) for value in np.asarray(values, np.float32).view(np.uint32)]


class Arithmetic(unittest.TestCase):
    def gives(self, expected, opcode, *values):
        self.assertEqual([int(value) for value in compute(opcode, *values)], expected, opcode)

    def gives_bits(self, expected, opcode, *values):
        self.assertEqual([hex(value) for value in bits(compute(opcode, *values))],
                         [hex(value) for value in expected], opcode)

    def refused(self, opcode, sources=2):
        with self.assertRaisesRegex(PtxError, "line 1: unknown"):
            compute(opcode, *[0] * sources)

    def test_fp32_rounds_to_nearest_even_and_keeps_denormals(self):
        tie, above = np.float32(2**-24), np.float32(2**-24 + 2**-40)
        self.gives_bits([0x3F800000, 0x3F800001], "add.rn.f32", 1.0, [tie, above])
        self.gives_bits([2], "add.rn.f32", 1, 1)
        self.gives_bits([1], "sub.rn.f32", 0x00800001, 0x00800000)
        self.gives_bits([1], "mul.rn.f32", 0x00800000, np.float32(2**-23))
        self.gives_bits([0x3EAAAAAB], "div.rn.f32", 1.0, 3.0)
        self.gives_bits([0x3EAAAAAB, 0x7F800000], "rcp.rn.f32", [np.float32(3), np.float32(0)])

    def test_fp32_nan_is_one_nan(self):
        self.gives_bits([NAN, NAN], "add.rn.f32", [0xFF800123, 0x7F800000], [0, 0xFF800000])
        self.gives_bits([NAN], "mul.rn.f32", 0.0, INF)
        self.gives_bits([NAN], "div.rn.f32", 0.0, 0.0)
        self.gives_bits([NAN], "rcp.rn.f32", 0x7FC00000)

    def test_fp32_rounds_toward_zero(self):
        random = np.random.default_rng(3)
        a, b = (random.integers(0x30000000, 0x50000000, 4000).astype(np.uint32) |
                random.integers(0, 2, 4000).astype(np.uint32) << np.uint32(31) for _ in range(2))
        a, b = a.view(np.float32), b.view(np.float32)
        differ = 0
        for opcode, exact in (("add", lambda x, y: x + y), ("sub", lambda x, y: x - y),
                              ("mul", lambda x, y: x * y)):
            found = compute(f"{opcode}.rz.f32", a, b)
            differ += np.count_nonzero(found != compute(f"{opcode}.rn.f32", a, b))
            beyond = np.nextafter(found, np.copysign(INF, found))
            for x, y, near, far in zip(a, b, found, beyond):
                value = abs(exact(fractions.Fraction(float(x)), fractions.Fraction(float(y))))
                self.assertLessEqual(abs(fractions.Fraction(float(near))), value)
                if np.isfinite(far):
                    self.assertGreater(abs(fractions.Fraction(float(far))), value)
        self.assertGreater(differ, 2000)

    def test_fp32_minimum_and_maximum(self):
        self.gives_bits([0x80000000, 0x3F800000], "min.f32", [0, 0x3F800000],
                        [0x80000000, 0x7FC00000])
        self.gives_bits([0, 0x3F800000], "max.f32", [0, 0x3F800000], [0x80000000, 0x7FC00000])
        self.gives_bits([NAN], "max.f32", 0x7FC00000, 0xFFC00000)

    def test_a_sign_is_copied_from_the_first_to_the_second(self):
        self.gives([0xBF800000, 0x3F800000], "copysign.f32", [0xC0000000, 0x40000000],
                   [0x3F800000, 0xBF800000])
        self.gives([0x80000000, 0xFF800123, 0x7F800123], "copysign.f32",
                   [0xFFC00000, 0x80000000, 0], [0, 0x7F800123, 0xFF800123])

    def test_what_may_be_contracted_or_flushed_is_refused(self):
        for opcode in ("add.f32", "mul.f32", "add.rn.ftz.f32", "add.rn.sat.f32", "div.approx.f32",
                       "add.rm.f32", "rcp.approx.ftz.f32", "mul.lo.f32", "mul.u32", "and.u32",
                       "setp.lo.u32", "setp.lt.and.s32", "cvt.f32.u32", "add.rn.f64", "selp.pred",
                       "shf.l.b32", "prmt.b32.f4e", "copysign.f64"):
            self.refused(opcode)
        self.refused("fma.rn.f32", 3)
        with self.assertRaisesRegex(PtxError, "line 1: wants 3 operands"):
            compute("add.s32", 1)

    def test_integers_wrap(self):
        self.gives([0], "add.s32", -1, 1)
        self.gives([0xFFFFFFFF], "sub.u32", 0, 1)
        self.gives([-2**31], "neg.s32", -2**31)
        self.gives([1], "mul.lo.s32", -1, -1)
        self.gives([0xFFFFFFFE], "mul.hi.u32", 2**32 - 1, 2**32 - 1)
        self.gives([-1], "mul.hi.s32", -2, 3)
        self.gives([(2**32 - 1)**2], "mul.wide.u32", 2**32 - 1, 2**32 - 1)
        self.gives([-6], "mul.wide.s32", -2, 3)
        self.gives([7], "mad.lo.s32", -1, -3, 4)
        self.gives([2**33 + 1], "mad.wide.u32", 2**32 - 1, 2, 3)
        self.gives([2**32 - 1], "max.u32", 2**32 - 1, 1)
        self.gives([1], "max.s32", -1, 1)
        self.gives([1], "min.u64", 1, 2)

    def test_bits_and_shifts(self):
        self.gives([0b1000, 0b1110], "and.b32", [0b1100, 0b1110], [0b1010, 0b1111])
        self.gives([0b1110], "or.b16", 0b1100, 0b1010)
        self.gives([0b0110], "xor.b64", 0b1100, 0b1010)
        self.gives([2**32 - 1], "not.b32", 0)
        self.gives([0, 1], "not.pred", [True, False])
        self.gives([2**31, 0, 0], "shl.b32", 1, [31, 32, 2**31])
        self.gives([1, 0, 0], "shr.u32", 2**31, [31, 32, 99])
        self.gives([-1, -1, -2**30], "shr.s32", -2**31, [31, 99, 1])
        self.gives([1 << 40], "shl.b64", 1, 40)

    def test_bytes_are_shifted_and_permuted_across_words(self):
        self.gives([0x22223333, 0x11112222], "shf.l.wrap.b32", 0x33334444, 0x11112222, [16, 32])
        self.gives([0x33334444], "shf.l.clamp.b32", 0x33334444, 0x11112222, 32)
        self.gives([0x22223333], "shf.r.wrap.b32", 0x33334444, 0x11112222, 16)
        self.gives([0x11112222], "shf.r.clamp.b32", 0x33334444, 0x11112222, 99)
        self.gives([0x00112233, 0x77665544], "prmt.b32", 0x33221100, 0x77665544, [0x0123, 0x7654])
        # Bit 3 of a selector: the byte's sign eight times.
        self.gives([0x010080FF], "prmt.b32", 0x0180, 0, 0x1908)

    def test_comparisons(self):
        nan, one = 0x7FC00000, 0x3F800000
        for opcode, expected in (("lt", [0, 1, 0]), ("le", [1, 1, 0]), ("gt", [0, 0, 0]),
                                 ("ge", [1, 0, 0]), ("eq", [1, 0, 0]), ("ne", [0, 1, 0]),
                                 ("ltu", [0, 1, 1]), ("neu", [0, 1, 1]), ("equ", [1, 0, 1])):
            self.gives(expected, f"setp.{opcode}.f32", [one, 0, nan], [one, one, one])
        self.gives([1], "setp.eq.f32", 0, 0x80000000)
        self.gives([1], "setp.lt.s32", -1, 0)
        self.gives([0], "setp.lt.u32", 2**32 - 1, 0)
        self.gives([1], "setp.ne.b64", 1 << 40, 0)

    def test_selection_moves_bits(self):
        self.gives([0x7F800001, 5], "selp.f32", 0x7F800001, 5, [True, False])

    def test_conversions(self):
        self.gives([-1, 127], "cvt.s32.s8", [-1, 127])
        self.gives([0xFFFFFFFF], "cvt.u32.s8", -1)
        self.gives([0x2345], "cvt.u16.u32", 0x12345)
        self.gives([2**32 - 1], "cvt.u64.u32", 2**32 - 1)
        self.gives_bits([0x4B800000], "cvt.rn.f32.u32", 2**24 + 1)
        self.gives_bits([0xBF800000], "cvt.rn.f32.s8", -1)
        halves = np.array([2.5, 3.5, -2.5, np.nan, 1e20, -1e20], np.float32)
        self.gives([2, 4, -2, 0, 2**31 - 1, -2**31], "cvt.rni.s32.f32", halves)
        self.gives([2, 3, -2, 0, 2**31 - 1, -2**31], "cvt.rzi.s32.f32", halves)
        self.gives([0], "cvt.rzi.u32.f32", np.float32(-1.5))


if __name__ == "__main__":
    setting.main()
