#!/usr/bin/python3
"""nvcc's PTX of every fold kernel, run by the machine of this folder, leaves the bytes of the
host's scalar reference: every form of source and sink, sizes, alignments, special values."""
import unittest

import cases
import ptx_text
import setting
from host import FORMS, Q8

HOST, TEXT = setting.arguments()
KERNELS = ptx_text.parse(TEXT)


def same_bytes(form, jobs_of):
    def test(self):
        jobs = jobs_of(HOST, form)
        self.assertGreater(len(jobs), 0)
        HOST.compare(KERNELS[HOST.kernel_name(form)], form, jobs)
    return test


class Kernels(unittest.TestCase):
    def test_there_is_one_for_each_form_and_no_other(self):
        self.assertEqual(sorted(KERNELS), sorted(HOST.kernel_name(i) for i in range(len(FORMS))))


for index, name in enumerate(FORMS):
    for set_name, set_of_jobs in cases.SETS.items():
        if set_of_jobs is cases.in_place and index >= Q8:
            continue  # messages are not folded in place
        setattr(Kernels, f"test_to_{name}_{set_name}", same_bytes(index, set_of_jobs))

if __name__ == "__main__":
    setting.main()
