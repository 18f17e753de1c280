#!/usr/bin/python3
"""How ranks are counted without torch: what is said of them, a torch that has NCCL linked into it,
and what is read from an ELF file."""
import json
import os
import sys
import types
import unittest
import weakref
from unittest import mock

import paths

sys.path.insert(0, paths.SITE)
from slimccl import active, elf, everyone, mode, torch_nccl  # noqa: E402


class NcclInside(unittest.TestCase):
    """Ranks of a pretended torch that has NCCL linked into it."""

    C10D = """
class Store(dict):
    set = dict.__setitem__
    def add(self, key, number): return number
    def check(self, keys): return all(key in self for key in keys)
    def get(self, key): return self[key]
_get_default_store = Store
PrefixStore = lambda prefix, store: store
get_rank, get_world_size, get_backend = lambda: 0, lambda: 1, lambda: "nccl"
def init_process_group(backend=None, rank=-1):
    import os
    print("a group" + os.environ.get("SLIMCCL_PROFILE", ""))
"""

    def rank(self, call, before="", **env):
        """A rank that makes a process group so."""
        paths.write("", "inside", "torch", "__init__.py")
        paths.write("from torch.distributed.distributed_c10d import *\n", "inside", "torch",
                    "distributed", "__init__.py")
        paths.write(self.C10D, "inside", "torch", "distributed", "distributed_c10d.py")
        paths.library("inside", "torch", "lib", "libtorch_cuda.so", needs=("libone.so.1",))
        code = (f"{before}\nimport torch.distributed as dist; from slimccl import hooks; "
                f"hooks.start(); {call}")
        return paths.run(sys.executable, "-c", code, env={
            "PYTHONPATH": f"{paths.SITE}:{paths.at('inside')}", **env})

    def test_ends_all_ranks_with_one_word(self):
        for call, env, tells in (("dist.init_process_group()", {"RANK": "0"}, True),
                                 ("dist.init_process_group(rank=0)", {}, True),
                                 ("dist.init_process_group(rank=-1)", {"RANK": "1"}, False),
                                 ("dist.init_process_group(rank=1)", {}, False)):
            code, output, errors = self.rank(call, SLIMCCL_RUN="on", **env)
            self.assertEqual((code, output), (2, ""), errors)
            self.assertEqual(errors.count("slimccl-run: torch has NCCL linked into it ("), tells)
            self.assertEqual(errors.count("\n"), tells)

    def test_goes_on_where_that_is_allowed(self):
        call = "dist.init_process_group(); dist.init_process_group()"
        code, output, errors = self.rank(call, SLIMCCL_RUN="on,allow-inactive")
        self.assertEqual((code, output), (0, "a group\na group\n"), errors)
        self.assertRegex(errors, r"^slimccl-run: 0 of 1 ranks are active; not: rank 0 \(host \S+: "
                                 r"libslimccl-preload.so is not preloaded\)\n$")

    def test_the_profile_holds_where_there_are_hooks(self):
        for env, profile, left in (({}, "zeropp", ""),
                                   ({"SLIMCCL_PROFILE": "audit"}, "audit", "audit")):
            code, output, errors = self.rank("dist.init_process_group()", **env,
                                             LD_PRELOAD=paths.fake_preload(),
                                             SLIMCCL_RUN="on,profile=zeropp,allow-inactive")
            # The core reads it when it is loaded. What this rank starts does not inherit it: a
            # process without hooks stays exact.
            self.assertEqual((code, output), (0, f"core: {profile}\na group{left}\n"), errors)
        broken = "import sys; sys.modules['slimccl.steps'] = None"
        code, output, errors = self.rank("dist.init_process_group()", broken,
                                         SLIMCCL_RUN="on,profile=zeropp,allow-inactive")
        self.assertEqual((code, output), (0, "a group\n"))
        self.assertIn("slimccl-run: no hooks in this process", errors)

    def test_is_nothing_to_a_program_without_slimccl_run(self):
        self.assertEqual(self.rank("dist.init_process_group()"), (0, "a group\n", ""))


class FakeStore(dict):
    """The questions that the teller asks."""

    def check(self, keys):
        return all(key in self for key in keys)

    def get(self, key):
        return self[key]

    def add(self, key, number):
        self[key] = dict.get(self, key, 0) + number
        return self[key]

    def compare_set(self, key, expected, wanted):
        assert expected == ""
        return self.setdefault(key, wanted.encode())


class Ranks(unittest.TestCase):
    def setUp(self):
        self.said, self.say = [], mode.say
        mode.say, patience = self.said.append, everyone.PATIENCE_S
        everyone.PATIENCE_S = 0.05
        self.addCleanup(setattr, mode, "say", self.say)
        self.addCleanup(setattr, everyone, "PATIENCE_S", patience)

    def tell(self, rank, words):
        store = FakeStore({str(other): json.dumps(word) for other, word in words.items()})
        active.Teller(store, rank, 4).run()
        return self.said

    def word(self, why="", host="a", profile="auto", backend="nccl"):
        return {"host": host, "why": why, "profile": profile, "backend": backend}

    def test_all(self):
        self.assertEqual(self.tell(0, {rank: self.word() for rank in range(4)}),
                         ["4 of 4 ranks are active, profile auto"])

    def test_one_that_is_silent(self):
        self.assertEqual(self.tell(0, {rank: self.word() for rank in (0, 1, 3)}),
                         ["3 of 4 ranks are active, profile auto; not: rank 2 (no word from it: "
                          "started without slimccl-run)"])

    def test_rank_0_is_silent(self):
        words = {rank: self.word() for rank in (2, 3)}
        self.assertEqual(self.tell(2, words), [
            "2 of 4 ranks are active, profile auto; not: ranks 0-1 (no word from them: started "
            "without slimccl-run)"])

    def test_another_rank_leaves_the_word_to_rank_0(self):
        self.assertEqual(self.tell(2, {0: self.word()}), [])

    def test_reasons_and_hosts(self):
        words = {0: self.word(), 1: self.word("not preloaded", "b"), 2: self.word("off", "c"),
                 3: self.word("not preloaded", "b")}
        self.assertEqual(self.tell(0, words), [
            "1 of 4 ranks are active, profile auto; not: ranks 1, 3 (host b: not preloaded); "
            "rank 2 (host c: off)"])

    def test_whether_all_are_active_is_decided_once(self):
        store = FakeStore({str(rank): json.dumps(self.word()) for rank in range(3)})
        self.assertFalse(everyone._decide(store, 4), "one has said nothing")
        store["3"] = json.dumps(self.word())
        self.assertFalse(everyone._decide(store, 4), "another rank would go on alone")
        del store["all 4 are active"]
        self.assertTrue(everyone._decide(store, 4))
        del store["all 4 are active"]
        store["3"] = json.dumps(self.word("not preloaded"))
        self.assertFalse(everyone._decide(store, 4))
        self.assertIn("not all ranks are active", self.said[-1])

    def test_one_rank_reads_what_all_wrote(self):
        store = FakeStore({str(rank): json.dumps(self.word(backend="gloo")) for rank in range(4)})
        store.read = []
        store.get = lambda key: (store.read.append(key), store[key])[1]
        self.assertTrue(everyone._decide(store, 4), "a group of NCCL may be beside the default one")
        self.assertEqual(len(store.read), 5)
        self.assertTrue(everyone._decide(store, 4))
        self.assertEqual(store.read[5:], ["all 4 are active"])

    def test_profiles_that_differ(self):
        words = {rank: self.word(profile=("auto", "exact")[rank // 3]) for rank in range(4)}
        self.assertEqual(self.tell(0, words), [
            "4 of 4 ranks are active, profile auto on ranks 0-2, profile exact on rank 3"])

    def test_the_store_is_let_go(self):
        store = FakeStore({"0": json.dumps(self.word())})
        teller = active.Teller(store, 0, 1)
        kept = weakref.ref(store)
        del store
        teller.run()
        self.assertIsNone(kept())

    def test_backends_with_nccl(self):
        for backend, why in (("nccl", ""), ("undefined", ""), ("cpu:gloo,cuda:nccl", ""),
                             ("gloo", "backend gloo")):
            dist = types.ModuleType("torch.distributed")
            dist.get_backend = lambda backend=backend: backend
            with mock.patch.dict(sys.modules, {"torch": types.ModuleType("torch"),
                                               "torch.distributed": dist}), \
                    mock.patch.object(active.overlay, "why_inactive", lambda: ""):
                sys.modules["torch"].distributed = dist
                word = active.own_word(None)
                self.assertEqual((word["why"], active.why_not(word)), ("", why), backend)

    def test_a_store_that_has_ended(self):
        teller = active.Teller(None, 0, 4)
        teller.run()
        self.assertRegex(self.said[0], "^ranks were not counted: AttributeError")


class Elf(unittest.TestCase):
    def test_needed_libraries(self):
        made = paths.library("elf", "libmade.so", needs=("libone.so.1", "libnccl.so.2"))
        self.assertEqual(elf.needed_libraries(made)[:2], ["libone.so.1", "libnccl.so.2"])

    def test_what_is_none(self):
        made = paths.library("elf", "libmade.so")
        for size, words in ((3, "is no 64-bit ELF file"), (100, "is cut short")):
            with open(made, "rb") as file:
                head = file.read(size).decode("latin-1")
            with open(paths.at("cut"), "w", encoding="latin-1", newline="") as file:
                file.write(head)
            with self.assertRaisesRegex(elf.NotElf, words):
                elf.needed_libraries(paths.at("cut"))

    def test_a_torch_with_nccl_inside(self):
        paths.library("inside", "lib", "libtorch_cuda.so", needs=("libone.so.1",))
        paths.library("outside", "lib", "libtorch_cuda.so", needs=("libnccl.so.2",))
        self.assertIn("torch has NCCL linked into it", torch_nccl.problem(paths.at("inside")))
        self.assertIsNone(torch_nccl.problem(paths.at("outside")))
        self.assertIsNone(torch_nccl.problem(paths.at("no-cuda")))


if __name__ == "__main__":
    os.environ.pop(mode.VARIABLE, None)
    paths.harness.main()
