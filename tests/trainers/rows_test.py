#!/usr/bin/python3
"""What the measurement of trainers says of rows that are right, and of rows that are not; and that
docs/trainers.md has the catalogue's table."""
import copy
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
import document  # noqa: E402
import gates  # noqa: E402
import harness  # noqa: E402
import rows  # noqa: E402


def traffic(elements=0, compressed=0, exact=0, sent=0, calls=None):
    return {"elements": elements, "compressed_elements": compressed, "exact_bytes": exact,
            "bytes": sent, "calls": calls or {}}


def record(profile, seed=0, loss=3.0, **changes):
    base = profile in ("none", "ds4", "exact")
    active = 0 if profile in ("none", "ds4") else 4
    found = {
        "trainer": "fsdp2", "nodes": "2x2", "profile": profile, "seed": seed, "steps": 3,
        "rate": "1gbit", "losses": ["0x1p3", "0x1p2", "0x1p1"], "loss": loss, "parameters": "ab",
        "ranks_active": active, "bytes_per_step": 190.0 if base else 58.0, "seconds": 0.5,
        "traffic": {"all_gather": traffic(), "reduce_scatter": traffic(),
                    "all_reduce": traffic(9, calls={"under the floor": 9})},
        "commit": "c", "fingerprint": "f"}
    if not base:
        found["traffic"]["all_gather"] = traffic(100, 100, 194, 100, {"compressed": 5})
        found["traffic"]["reduce_scatter"] = traffic(100, 99, 750, 100, {"compressed": 5})
    found.update(copy.deepcopy(changes))
    return found


def red(*records):
    return [gate["gate"] for gate in gates.gates_of(list(rows.rows_of(records)))
            if not gate["passed"]]


def seeds(profile, *losses):
    return [record(profile, seed, loss) for seed, loss in enumerate(losses)]


class Rows(unittest.TestCase):
    def test_the_fields_that_are_promised(self):
        row = next(rows.rows_of([record("none", loss=3.0), record("zeropp", loss=3.015)]))
        self.assertEqual([row[name] for name in (
            "trainer", "nodes", "ranks_per_node", "profile", "seed", "steps", "loss_exact", "loss",
            "bytes_exact_per_step", "bytes_per_step", "weights_ratio", "gradients_ratio",
            "seconds_exact", "seconds")],
            ["fsdp2", 2, 2, "zeropp", 0, 3, 3.0, 3.015, 190.0, 58.0, 1.94, 7.5, 0.5, 0.5])
        self.assertAlmostEqual(rows.worse(row), 0.005)

    def test_a_run_without_its_exact_one_has_no_row(self):
        self.assertEqual(list(rows.rows_of([record("zeropp")])), [])
        self.assertEqual(list(rows.rows_of([record("none", seed=1), record("zeropp")])), [])
        self.assertEqual(list(rows.rows_of([record("none", fingerprint="other"),
                                            record("zeropp")])), [])


class Gates(unittest.TestCase):
    def test_all_well(self):
        self.assertEqual(red(record("none"), record("exact"), record("auto"), record("zeropp")), [])

    def test_a_rank_without_the_overlay(self):
        found = red(record("none"), record("zeropp", ranks_active=3))
        self.assertEqual(found, ["fsdp2 2x2 zeropp seed 0: all 4 ranks had the overlay"])

    def test_exact_with_another_bit(self):
        for changed in ({"losses": ["0x1p3", "0x1p2", "0x1.1p1"]}, {"parameters": "other"}):
            self.assertEqual(len(red(record("none"), record("exact", **changed))), 1, changed)

    def test_exact_that_ended_early_is_compared_as_far_as_it_goes(self):
        self.assertEqual(red(record("none"), record("exact", losses=["0x1p3", "0x1p2"],
                                                    parameters="of then")), [])
        self.assertEqual(len(red(record("none"), record("exact", losses=["0x1p3", "0x1.1p2"]))), 1)

    def test_a_ratio_that_is_too_low(self):
        found = record("zeropp")
        found["traffic"]["all_gather"]["bytes"] = 103
        self.assertEqual(red(record("none"), found),
                         ["fsdp2 2x2 zeropp seed 0: all_gather compressed, 1.9x"])

    def test_an_operation_that_was_not_compressed(self):
        found = record("zeropp")
        found["traffic"]["reduce_scatter"] = traffic(100, calls={"no evidence": 5})
        self.assertEqual(red(record("none"), found),
                         ["fsdp2 2x2 zeropp seed 0: reduce_scatter compressed, 7x"])

    def test_an_operation_that_should_have_stayed_exact(self):
        found = record("zeropp")
        found["traffic"]["all_reduce"] = traffic(100, 100, 750, 100, {"compressed": 1})
        self.assertEqual(red(record("none"), found),
                         ["fsdp2 2x2 zeropp seed 0: all_reduce under the floor"])

    def test_nothing_between_nodes(self):
        calls = {"all_gather": traffic(9, calls={"one node": 2}), "reduce_scatter": traffic(),
                 "all_reduce": traffic(100, 100, 750, 100, {"compressed": 1})}
        hsdp = {"trainer": "hsdp", "traffic": calls}
        self.assertEqual(red(record("none", trainer="hsdp"), record("zeropp", **hsdp)), [])
        calls["all_gather"]["calls"]["no evidence"] = 1
        self.assertEqual(len(red(record("none", trainer="hsdp"), record("zeropp", **hsdp))), 1)

    def test_a_loss_that_is_worse_in_one_seed(self):
        self.assertEqual(red(record("none", loss=3), record("zeropp", loss=3.02)), [])
        self.assertEqual(red(record("none", loss=3), record("zeropp", loss=3.04)),
                         ["fsdp2 2x2 zeropp seed 0: loss at most +1.0%"])

    def test_a_run_that_learned_nothing_proves_nothing(self):
        found = red(record("none", loss=7), record("zeropp", loss=7))
        self.assertEqual(len(found), 1)
        self.assertIn("the exact run learned", found[0])

    def test_a_loss_that_is_worse_in_the_mean(self):
        exact = seeds("none", 3, 3, 3)
        self.assertEqual(red(*exact, *seeds("zeropp", 3.0, 3.02, 3.02)), [])
        self.assertEqual(red(*exact, *seeds("zeropp", 3.02, 3.02, 3.02)),
                         ["fsdp2 2x2 zeropp, mean of 3 seeds: loss at most +0.5%"])

    def test_a_control_that_is_not_worse(self):
        runs = [*seeds("none", 3, 3, 3), *seeds("zeropp", 3.01, 3, 3)]
        self.assertEqual(red(*runs, *seeds("ds4", 3.02, 3.02, 3)), [])
        self.assertEqual(len(red(*runs, *seeds("ds4", 3.005, 3, 3))), 1)

    def test_auto_that_settles_on_more_bytes(self):
        self.assertEqual(len(red(record("none"), record("zeropp"),
                                 record("auto", bytes_per_step=70.0))), 1)


class Document(unittest.TestCase):
    """Otherwise tests/trainers/document.py writes them anew."""

    def assert_has(self, path, part):
        with open(path, encoding="utf-8") as file:
            self.assertIn(part, file.read(), f"{path} is behind")

    def test_the_table_is_the_catalogues(self):
        self.assert_has(document.PATH, document.table())

    def test_the_numbers_are_those_of_the_committed_run(self):
        committed = rows.read(document.RESULT)["rows"]
        self.assert_has(document.PATH, document.results(committed))
        self.assert_has(document.README, document.short(committed))

    def test_the_committed_gates_are_what_the_rows_say(self):
        committed = rows.read(document.RESULT)
        self.assertEqual(gates.gates_of(committed["rows"]), committed["gates"])


if __name__ == "__main__":
    harness.main()
