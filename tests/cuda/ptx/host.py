"""The project's side of the comparison: fills its FoldBatch through host_fold.cc's C functions,
folds it with the scalar reference, and checks that a kernel in the machine leaves the same
bytes."""
import ctypes
import dataclasses

import numpy as np

import machine
import memory

FORMS = ("fp32", "bf16", "fp16", "q8", "q4s")  # in the order of slimccl::quant::Form
FP32, BF16, FP16, Q8, Q4S = range(5)
PLAIN_BYTES = (4, 2, 2)
MESSAGE_ALIGN = 64


@dataclasses.dataclass(frozen=True)
class DeviceScale:
    """A scale that the kernel reads: the bytes of one element of a plain form."""
    form: int
    element: bytes

    def __str__(self):
        return f"{FORMS[self.form]} {self.element.hex()} in device memory"


@dataclasses.dataclass
class Run:
    """Sources of one form that lie one behind the other. `offset` bytes from alignment."""
    form: int
    sources: list  # of np.uint8 arrays of equal length
    scale: float | DeviceScale = 1.0  # of a batch's device scales there is one
    offset: int = 0


@dataclasses.dataclass
class Job:
    elems: int
    runs: list
    saturate: bool = False
    offset: int = 0         # of the sink, bytes
    in_place: bool = False  # the sink is the first source

    def __str__(self):
        runs = " + ".join(f"{len(run.sources)} x {FORMS[run.form]} * {run.scale}"
                          f" at {run.offset}" for run in self.runs)
        return (f"{self.elems} elements of {runs}{', saturating' * self.saturate}"
                f"{', in place' * self.in_place}, sink at {self.offset}")


class HostMemory:
    """What memory.Global is for the machine, for the C functions."""

    def __init__(self, size=1 << 22):
        self.arena = np.full(size + MESSAGE_ALIGN, 0xA5, np.uint8)
        self.base = self.arena.ctypes.data
        self.top = -self.base % MESSAGE_ALIGN

    def allocate(self, size, offset=0):
        start = self.top + offset
        self.top = start + size + -(start + size + self.base) % MESSAGE_ALIGN
        if self.top > len(self.arena):
            raise ValueError(f"the test's memory of {len(self.arena)} bytes is too small")
        return self.base + start

    def put(self, data, offset=0):
        address = self.allocate(len(data), offset)
        self.arena[address - self.base:][:len(data)] = data
        return address

    def get(self, address, size):
        return self.arena[address - self.base:][:size].copy()


class Host:
    def __init__(self, library):
        c = self.c = ctypes.CDLL(library)
        for name, result, *arguments in (
                ("batch_bytes", ctypes.c_uint64), ("batch_threads", ctypes.c_uint32),
                ("form_count", ctypes.c_uint32), ("kernel_name", ctypes.c_char_p, ctypes.c_uint32),
                ("form_bytes", ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint64),
                ("batch_clear", None, ctypes.c_void_p),
                ("batch_superblocks", ctypes.c_uint32, ctypes.c_void_p),
                ("batch_add_job", ctypes.c_bool, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64,
                 ctypes.c_uint32),
                ("batch_set_device_scale", None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32),
                ("batch_add_run", ctypes.c_bool, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64,
                 ctypes.c_float, ctypes.c_bool, ctypes.c_uint32, ctypes.c_uint32),
                ("batch_fold", None, ctypes.c_void_p, ctypes.c_uint32)):
            getattr(c, name).restype, getattr(c, name).argtypes = result, arguments
        if c.form_count() != len(FORMS):
            raise ValueError(f"{library} has {c.form_count()} forms, the tests {len(FORMS)}")

    def kernel_name(self, form):
        return self.c.kernel_name(form).decode()

    def form_bytes(self, form, elems):
        return self.c.form_bytes(form, elems)

    def batch(self, space, sink_form, jobs):
        """The filled struct, and where each job's sink lies."""
        batch = ctypes.create_string_buffer(self.c.batch_bytes())
        self.c.batch_clear(batch)
        self.put_device_scale(space, batch, jobs)
        sinks = []
        for job in jobs:
            places = [self.put_run(space, run) for run in job.runs]
            sink = places[0][0] if job.in_place else space.allocate(
                self.form_bytes(sink_form, job.elems), job.offset)
            if not self.c.batch_add_job(batch, sink, job.elems, job.saturate):
                raise ValueError("too many jobs for a batch")
            for run, (address, stride) in zip(job.runs, places):
                by_device = isinstance(run.scale, DeviceScale)
                if not self.c.batch_add_run(batch, address, stride, 3.0 if by_device else run.scale,
                                            by_device, run.form, len(run.sources)):
                    raise ValueError("too many runs for a batch")
            sinks.append(sink)
        return batch, sinks

    def put_device_scale(self, space, batch, jobs):
        scales = {run.scale for job in jobs for run in job.runs if isinstance(run.scale, DeviceScale)}
        if len(scales) > 1:
            raise ValueError("a batch has one scale in device memory")
        for scale in scales:
            address = space.put(np.frombuffer(scale.element, np.uint8))
            self.c.batch_set_device_scale(batch, address, scale.form)

    @staticmethod
    def put_run(space, run):
        size = len(run.sources[0])
        # Messages stay aligned; plain sources lie so close that only elements are.
        gap = PLAIN_BYTES[run.form] if run.form < Q8 else -size % MESSAGE_ALIGN
        data = [np.concatenate([source, np.zeros(gap, np.uint8)]) for source in run.sources]
        return space.put(np.concatenate(data), run.offset), size + gap

    def fold(self, form, jobs):
        """What the reference leaves in each job's sink."""
        space = HostMemory()
        batch, sinks = self.batch(space, form, jobs)
        self.c.batch_fold(batch, form)
        return [space.get(sink, self.form_bytes(form, job.elems))
                for sink, job in zip(sinks, jobs)]

    def fold_by_kernel(self, kernel, form, jobs):
        """The same, by the kernel's text."""
        space = memory.Global()
        batch, sinks = self.batch(space, form, jobs)
        machine.launch(kernel, space, self.c.batch_superblocks(batch), self.c.batch_threads(),
                       batch.raw)
        return [space.get(sink, self.form_bytes(form, job.elems))
                for sink, job in zip(sinks, jobs)]

    def encoded(self, values, form):
        """fp32 values in a form."""
        source = values.astype(np.float32).view(np.uint8)
        return self.fold(form, [Job(len(values), [Run(FP32, [source])])])[0]

    def compare(self, kernel, form, jobs):
        """Raises AssertionError where a byte differs, PtxError where the kernel does wrong."""
        expected = self.fold(form, jobs)
        found = self.fold_by_kernel(kernel, form, jobs)
        for job, want, got in zip(jobs, expected, found):
            different = np.flatnonzero(want != got)
            if len(different):
                at = different[0]
                raise AssertionError(
                    f"{kernel.name}: {job}: {len(different)} of {len(want)} bytes differ, the "
                    f"first at {at}: {got[at]:#04x} instead of {want[at]:#04x}")
