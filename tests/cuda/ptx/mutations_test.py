#!/usr/bin/python3
"""A kernel with one wrong instruction is found out: each mutation changes the PTX in one place, and
then the comparison with the host must fail, or the machine must refuse to go on. What is changed is
found by its meaning for the kernel, not by its line, so another compiler's text does as well."""
import re
import unittest

import cases
import ptx_text
import setting
from host import BF16, FP16, FP32, Q4S, Q8
from ptx_text import PtxError

HOST, TEXT = setting.arguments()
# How a mutation shows: other bytes, or the machine's error.
BYTES, RACE, MISALIGNED, NOT_WRITTEN, SHUFFLE = ("bytes differ", "race: ", "misaligned: ",
                                                 "were never written", "a shuffle of lanes")
REGISTER = r"%\w+"
OPERAND = rf"(?:{REGISTER}|-?\d+)"
SCALED_SUM = r"(mul\.rn\.f32)([^;]*;\s+(?:mov\.b32[^;]*;\s+)?)add\.rn\.f32"
# name: form of the sink, what is searched in the kernel's text, what stands there instead, and how
# it shows. Of several places the last one is changed.
MUTATIONS = {
    "removed_barrier": (Q4S, r"bar\.sync\s+0;", "", RACE),
    "maximum_to_minimum_in_a_block": (
        Q8, rf"(shfl\.sync\.bfly\.b32[^;]*;\s+)max(\.u32)", r"\1min\2", BYTES),
    "maximum_to_minimum_in_a_superblock": (
        Q4S, rf"(ld\.shared\.u32[^;]*;\s+)max(\.u32)", r"\1min\2", BYTES),
    "sum_to_difference": (FP32, SCALED_SUM, r"\1\2sub.rn.f32", BYTES),
    "sum_rounded_toward_zero": (FP32, SCALED_SUM, r"\1\2add.rz.f32", BYTES),
    "product_rounded_toward_zero": (FP32, SCALED_SUM, r"mul.rz.f32\2add.rn.f32", BYTES),
    "codes_not_rounded": (
        Q8, rf"add\.rn\.f32(\s+{REGISTER}, {REGISTER}), 0f4B400000;", r"mov.f32\1;", BYTES),
    "nibbles_not_rounded": (
        Q4S, rf"add\.rn\.f32(\s+{REGISTER}, {REGISTER}), 0f4B400000;", r"mov.f32\1;", BYTES),
    "half_rounded_down": (BF16, rf"(add\.s32\s+{REGISTER}, {REGISTER}), 32767;", r"\1, 32766;",
                          BYTES),
    "every_load_wide": (
        FP32, rf"(and\.b64\s+({REGISTER}), {REGISTER}), 15;(\s+setp\.\w+\.s64\s+{REGISTER}, \2,)",
        r"\1, 0;\3", MISALIGNED),
    "wide_load_moved": (FP16, rf"(ld\.global(?:\.nc)?\.v4\.u32\s+\{{[^}}]*\}}, \[{REGISTER})\]",
                        r"\1+4]", MISALIGNED),
    "scale_a_little_larger": (Q8, r"0f42FE0000", "0f42FC0000", BYTES),
    "factor_a_little_smaller": (Q4S, r"0f39924925", "0f39924924", BYTES),
    "shuffle_with_another_lane": (
        Q4S, rf"(shfl\.sync\.bfly\.b32\s+{REGISTER}\|{REGISTER}, {REGISTER}), {OPERAND},",
        r"\1, 1,", BYTES),
    "shuffle_of_half_a_warp": (
        Q8, rf"(shfl\.sync\.bfly\.b32\s+{REGISTER}\|{REGISTER}, (?:{OPERAND}, ){{3}}){OPERAND};",
        r"\g<1>65535;", SHUFFLE),
    "removed_store": (FP16, r"st\.global\.u16[^;]*;", "", NOT_WRITTEN),
}
if re.search(r"^\.target sm_100", TEXT, re.M):  # what nvcc writes for the others in other ways
    MUTATIONS |= {
        "sign_of_the_other": (
            BF16, rf"(copysign\.f32\s+{REGISTER}), ({REGISTER}), ({REGISTER});",
            r"\1, \3, \2;", BYTES),
        "lower_half_of_a_word": (
            FP32, rf"mov\.b32 \{{tmp, ({REGISTER})\}}", r"mov.b32 {\1, tmp}", BYTES),
    }


def mutated(form, pattern, replacement):
    """The kernels with one change in the one that has this sink."""
    start = TEXT.index(f".entry {HOST.kernel_name(form)}(")
    end = TEXT.find(".entry", start + 1)
    kernel = TEXT[start:end if end > 0 else len(TEXT)]
    places = list(re.finditer(pattern, kernel))
    if not places:
        raise AssertionError(f"nothing to mutate: {pattern} is not in {HOST.kernel_name(form)}")
    place = places[-1]
    changed = kernel[:place.start()] + place.expand(replacement) + kernel[place.end():]
    if changed == kernel:
        raise AssertionError(f"{pattern} to {replacement} changes nothing")
    return TEXT[:start] + changed + TEXT[start + len(kernel):]


def found_out(form, pattern, replacement, symptom):
    def test(self):
        kernel = ptx_text.parse(mutated(form, pattern, replacement))[HOST.kernel_name(form)]
        found = []
        for set_of_jobs in cases.SETS.values():
            jobs = set_of_jobs(HOST, form)
            try:
                HOST.compare(kernel, form, jobs)
            except (AssertionError, PtxError) as error:
                found.append(str(error))
                if symptom in found[-1]:
                    return
        self.fail(f"it should show as '{symptom}', but found was {found or 'nothing'}")
    return test


class Mutations(unittest.TestCase):
    """The kernels as they are pass the same comparisons: kernels_test.py."""

    def test_a_pattern_that_is_not_there_is_an_error(self):
        with self.assertRaisesRegex(AssertionError, "nothing to mutate"):
            mutated(Q8, "tanh", "")
        with self.assertRaisesRegex(AssertionError, "changes nothing"):
            mutated(Q8, "ret;", "ret;")


for name, mutation in MUTATIONS.items():
    setattr(Mutations, f"test_{name}", found_out(*mutation))

if __name__ == "__main__":
    setting.main()
