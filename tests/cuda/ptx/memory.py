"""The memories that a kernel reaches, each in its own range of addresses, so that an address of one
is never one of another. Stricter than a GPU: every access lies within one allocation and is
aligned to its size, nothing is read that nobody wrote, and no two threads meet at a byte unless a
barrier lies between."""
import numpy as np

from ptx_text import PtxError

PARAM_BASE = 0x2000
SHARED_BASE = 0x10000
GLOBAL_BASE = 0x7F0000000000
# Who wrote a byte, where it was no thread.
NOBODY, HOST = -2, -1


def spread(addresses, size):
    """The places of all bytes of accesses of `size` bytes: a row for each access."""
    return addresses[:, None] + np.arange(size)


def check_aligned(addresses, size, space):
    wrong = addresses % size != 0
    if wrong.any():
        raise PtxError(f"misaligned: {size} bytes at {space} address {addresses[wrong][0]:#x}")


class Global:
    """Device memory. Which thread of the grid wrote a byte is remembered for one launch."""

    def __init__(self, size=1 << 22):
        self.bytes = np.zeros(size, np.uint8)
        self.writer = np.full(size, NOBODY, np.int32)
        self.starts, self.ends = [], []  # of the allocations, ascending
        self.top = 256

    def allocate(self, size, offset=0):
        """An address `offset` bytes beyond a multiple of 256; the bytes are nobody's yet."""
        start = -(-self.top // 256) * 256 + offset
        self.top = start + size + 64  # a gap, in which an overrun is seen
        if self.top > len(self.bytes):
            raise PtxError(f"the test's device memory of {len(self.bytes)} bytes is too small")
        self.starts.append(start)
        self.ends.append(start + size)
        return GLOBAL_BASE + start

    def put(self, data, offset=0):
        address = self.allocate(len(data), offset)
        start = address - GLOBAL_BASE
        self.bytes[start:start + len(data)] = data
        self.writer[start:start + len(data)] = HOST
        return address

    def get(self, address, size):
        """Bytes as a kernel left them; every one must have been written."""
        start = address - GLOBAL_BASE
        missing = np.flatnonzero(self.writer[start:start + size] == NOBODY)
        if len(missing):
            raise PtxError(f"{len(missing)} of {size} bytes were never written, "
                           f"the first is byte {missing[0]}")
        return self.bytes[start:start + size].copy()

    def _places(self, addresses, size):
        places = addresses.astype(np.int64) - GLOBAL_BASE
        index = np.searchsorted(self.starts, places, side="right") - 1
        outside = (index < 0) | (places + size > np.array(self.ends)[index])
        if outside.any():
            raise PtxError(f"{size} bytes at {addresses[outside][0]:#x} lie in no allocation")
        check_aligned(places, size, "global")
        return spread(places, size)

    def load(self, addresses, size, threads):
        places = self._places(addresses, size)
        writer = self.writer[places]
        if (writer == NOBODY).any():
            raise PtxError("global memory is read that nobody wrote")
        if ((writer != HOST) & (writer != threads[:, None])).any():
            raise PtxError("race: global memory is read that another thread wrote")
        return self.bytes[places]

    def store(self, addresses, values, threads):
        places = self._places(addresses, values.shape[1])
        if ((self.writer[places] >= 0) & (self.writer[places] != threads[:, None])).any():
            raise PtxError("race: two threads write the same global memory")
        self.bytes[places] = values
        self.writer[places] = threads[:, None]
        if (self.writer[places] != threads[:, None]).any():
            raise PtxError("race: two threads write the same global memory")


class Shared:
    """Shared memory of all thread blocks of a grid. A byte that a thread wrote is another thread's
    to read or write only after a barrier, and so is one that others read to write."""

    SEVERAL = -3  # readers

    def __init__(self, size, blocks):
        self.size = size
        self.bytes = np.zeros((blocks, size), np.uint8)
        self.writer = np.full((blocks, size), NOBODY)
        self.reader = np.full((blocks, size), NOBODY)
        self.written = np.zeros((blocks, size), bool)

    def barrier(self):
        """All blocks have met: what was written is everyone's."""
        self.writer[:] = NOBODY
        self.reader[:] = NOBODY

    def _places(self, addresses, size):
        places = addresses.astype(np.int64) - SHARED_BASE
        outside = (places < 0) | (places + size > self.size)
        if outside.any():
            raise PtxError(f"{size} bytes at shared address {addresses[outside][0]:#x}: "
                           f"there are {self.size} bytes")
        check_aligned(places, size, "shared")
        return spread(places, size)

    def load(self, addresses, size, threads, blocks):
        at = blocks[:, None], self._places(addresses, size)
        me = threads[:, None]
        if not self.written[at].all():
            raise PtxError("shared memory is read that nobody wrote")
        if ((self.writer[at] != NOBODY) & (self.writer[at] != me)).any():
            raise PtxError("race: shared memory is read that another thread wrote since the "
                           "barrier")
        other = (self.reader[at] != NOBODY) & (self.reader[at] != me)
        self.reader[at] = np.where(other, self.SEVERAL, me)
        other = self.reader[at] != me  # another thread of this very access
        rows, places = np.broadcast_arrays(*at)
        self.reader[rows[other], places[other]] = self.SEVERAL
        return self.bytes[at]

    def store(self, addresses, values, threads, blocks):
        at = blocks[:, None], self._places(addresses, values.shape[1])
        me = threads[:, None]
        for others in (self.writer, self.reader):
            if ((others[at] != NOBODY) & (others[at] != me)).any():
                raise PtxError("race: shared memory is written that another thread used since the "
                               "barrier")
        self.writer[at] = me
        if (self.writer[at] != me).any():
            raise PtxError("race: two threads write the same shared memory")
        self.bytes[at] = values
        self.written[at] = True


class Param:
    """The bytes of the kernel's parameters: the same for all threads, read only."""

    def __init__(self, data):
        self.bytes = np.frombuffer(data, np.uint8)

    def load(self, addresses, size):
        places = addresses.astype(np.int64) - PARAM_BASE
        outside = (places < 0) | (places + size > len(self.bytes))
        if outside.any():
            raise PtxError(f"{size} bytes at parameter address {addresses[outside][0]:#x}: "
                           f"there are {len(self.bytes)} bytes")
        check_aligned(places, size, "parameter")
        return self.bytes[spread(places, size)]
