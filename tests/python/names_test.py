#!/usr/bin/python3
"""Process groups' names reach NCCL's configuration, where there is a place for them."""
import ctypes
import datetime
import sys
import types
import unittest
from unittest import mock

import paths

sys.path.insert(0, paths.SITE)
from slimccl import names  # noqa: E402

TIMEOUT = datetime.timedelta(seconds=7)


class FakeConfig:
    def __init__(self, **changes):
        self.of_nccl = names.Config(size=104, magic=names.MAGIC, version=22809, name=None)
        for name, value in changes.items():
            setattr(self.of_nccl, name, value)

    def unsafe_get_ptr(self):
        return ctypes.addressof(self.of_nccl)

    @property
    def name(self):
        return self.of_nccl.name and ctypes.string_at(self.of_nccl.name).decode()


class FakeOptions:
    def __init__(self, **changes):
        self.config = FakeConfig(**changes)

    def __deepcopy__(self, memo):
        other = FakeOptions()
        ctypes.pointer(other.config.of_nccl)[0] = self.config.of_nccl
        other.__dict__.update({name: value for name, value in vars(self).items() if name != "config"})
        return other


def torch_of(changes=None):
    """A pretended distributed_c10d; made: what its helper was given."""
    module = types.ModuleType("distributed_c10d")
    module.ProcessGroupNCCL = types.SimpleNamespace(
        Options=lambda: FakeOptions(**(changes or {})))
    module.made = []

    def _new_process_group_helper(group_size, backend, backend_options=None, timeout=None,
                                  group_desc=None):
        module.made.append(backend_options)
        return group_size

    def split_group(parent_pg=None, split_ranks=None, pg_options=None, group_desc=None):
        module.made.append(pg_options)
        return split_ranks

    module._new_process_group_helper = _new_process_group_helper
    module.split_group = split_group
    return module


def group_of(desc, options):
    backend = types.SimpleNamespace(options=options)
    return types.SimpleNamespace(group_desc=desc, _get_backend=lambda device: backend)


class Names(unittest.TestCase):
    def make(self, *arguments, changes=None, **keywords):
        """The options that torch's own function gets."""
        module = torch_of(changes)
        names.watch(module)
        result = module._new_process_group_helper(*arguments, timeout=TIMEOUT, **keywords)
        self.assertEqual(result, arguments[0])
        return module.made[0]

    def test_a_group_of_a_mesh(self):
        for backend in ("nccl", "cpu:gloo,cuda:nccl", "undefined", None):
            options = self.make(4, backend, group_desc="mesh_tp")
            self.assertEqual(options.config.name, "mesh_tp")
            self.assertEqual((options._timeout, options.is_high_priority_stream), (TIMEOUT, False))

    def test_the_programs_options_are_copied_for_it_may_use_them_again(self):
        mine = FakeOptions()
        mine.is_high_priority_stream = True
        options = self.make(4, "nccl", mine, group_desc="mesh_tp")
        self.assertEqual((options.config.name, mine.config.name), ("mesh_tp", None))
        self.assertTrue(options.is_high_priority_stream)
        self.assertFalse(hasattr(options, "_timeout"))
        again = self.make(4, "nccl", options, group_desc="mesh_dp")
        self.assertEqual((again.config.name, options.config.name), ("mesh_dp", "mesh_tp"))

    def split(self, parent, **keywords):
        """The name that a part of a group gets, which is split with its parent's options or others."""
        module = torch_of()
        names.watch(module)
        with mock.patch.dict(sys.modules, {"torch": types.SimpleNamespace(device=str)}):
            module._get_default_group = lambda: parent
            self.assertEqual(module.split_group(None, [[0, 1]], **keywords), [[0, 1]])
            self.assertEqual(module.split_group(parent, [[0, 1]], **keywords), [[0, 1]])
        self.assertEqual(len({options.config.name for options in module.made}), 1)
        return module.made[0].config.name

    def test_parts_of_a_group(self):
        world = group_of("default_pg", FakeOptions())
        self.assertEqual(self.split(world, group_desc="mesh_tp"), "mesh_tp")
        self.assertIsNone(self.split(world))
        mesh = group_of("mesh_dp", names.with_name(FakeOptions(), "mesh_dp"))
        self.assertEqual(self.split(mesh, group_desc="mesh_tp"), "mesh_tp", "not its parent's")
        self.assertEqual(self.split(mesh), "mesh_dp:split")
        self.assertEqual(self.split(mesh, pg_options=FakeOptions(), group_desc="a"), "a")

    def test_a_name_of_the_programs_is_kept(self):
        word = ctypes.create_string_buffer(b"mine")
        mine = FakeOptions(name=ctypes.addressof(word))
        self.assertEqual(self.make(4, "nccl", mine, group_desc="mesh_tp").config.name, "mine")

    def test_groups_without_a_name_and_without_nccl_are_left_alone(self):
        for name in names.NAMELESS:
            self.assertIsNone(self.make(4, "nccl", group_desc=name))
        self.assertIsNone(self.make(4, "gloo", group_desc="mesh_tp"))

    def test_a_configuration_that_is_none_or_too_old_is_not_written_to(self):
        for changes in ({"magic": 1}, {"version": 22600}, {"size": 40}):
            options = self.make(4, "nccl", changes=changes, group_desc="mesh_tp")
            self.assertIsNone(options.config.name, changes)

    def test_a_torch_that_makes_groups_otherwise(self):
        module = torch_of()
        module._new_process_group_helper = lambda group_size: group_size
        del module.split_group
        names.watch(module)
        self.assertEqual(module._new_process_group_helper(4), 4)
        names.watch(types.ModuleType("distributed_c10d"))


if __name__ == "__main__":
    paths.harness.main()
