"""Runs a parsed kernel on numpy arrays that hold a value per thread of the whole grid.

Threads that are at the same instruction do it together; of several such groups the one that is
least far in the text goes first, so that threads that parted meet again where nvcc lets them. A
barrier waits for all threads of a block. Stricter than a GPU: a register is not read before it is
written; the threads that a shuffle names have to be there, and to do that same shuffle; a barrier
that not all threads of a block come to is a deadlock, and an error."""
import numpy as np

import arithmetic
import memory
from arithmetic import NUMPY
from ptx_text import TYPE_BYTES, Address, Immediate, Name, PtxError, Vector, WithPredicate

WARP = 32
RUNNING, WAITING, DONE = range(3)
LOAD_HINTS = {"nc", "ca", "cg", "cs", "lu", "cv"}
STORE_HINTS = {"wb", "cg", "cs", "wt"}


class Register:
    def __init__(self, kind, threads):
        self.bits = np.zeros(threads, NUMPY["b" + kind[1:] if kind != "pred" else kind])
        self.written = np.zeros(threads, bool)


class Launch:
    """One grid of one kernel."""

    def __init__(self, kernel, device, blocks, threads, params, most_steps=200000):
        if len(params) != kernel.param_bytes:
            raise PtxError(f"{kernel.name} takes {kernel.param_bytes} bytes of parameters, "
                           f"not {len(params)}")
        self.kernel, self.device = kernel, device
        self.param = memory.Param(params)
        self.shared = memory.Shared(kernel.shared_bytes, blocks)
        lanes = np.arange(blocks * threads)
        self.thread, self.block, self.threads = lanes % threads, lanes // threads, threads
        self.special = {"%tid.x": self.thread, "%ctaid.x": self.block,
                        "%ntid.x": np.full(len(lanes), threads),
                        "%nctaid.x": np.full(len(lanes), blocks)}
        self.pc = np.zeros(len(lanes), np.int64)
        self.state = np.full(len(lanes), RUNNING)
        self.registers = {}
        self.steps_left = most_steps
        self.arithmetic = {}  # resolved instructions, by place in the kernel

    def run(self):
        with np.errstate(all="ignore"):
            while True:
                running = np.flatnonzero(self.state == RUNNING)
                if len(running):
                    self.run_group(running)
                elif (self.state == DONE).all():
                    return
                else:
                    self.release_barrier()

    def run_group(self, running):
        """Lets the group that is least far go on until it meets, parts, waits or ends."""
        places = self.pc[running]
        place = places.min()
        group = running[places == place]
        others = places[places > place]
        meeting = others.min() if len(others) else len(self.kernel.instructions)
        while place < meeting:
            instruction = self.kernel.instructions[place]
            self.steps_left -= 1
            if self.steps_left < 0:
                raise instruction.error("still running after the most steps: an endless loop?")
            lanes = self.guarded(instruction, group)
            place += 1
            if instruction.opcode in CONTROL:
                self.pc[group] = place
                CONTROL[instruction.opcode](self, instruction, lanes, place)
                return
            if len(lanes):
                self.perform(instruction, place - 1, lanes)
        self.pc[group] = place
        if place == len(self.kernel.instructions):
            raise PtxError(f"{self.kernel.name}: the end of the text is reached without ret")

    def guarded(self, instruction, group):
        if instruction.guard is None:
            return group
        holds = self.read(instruction, instruction.guard, "pred", group)
        return group[holds != instruction.negated]

    def perform(self, instruction, place, lanes):
        try:
            if instruction.opcode in DATA:
                DATA[instruction.opcode](self, instruction, lanes)
            else:
                self.compute(instruction, place, lanes)
        except PtxError as error:
            if str(error).startswith("line "):
                raise
            raise instruction.error(error) from error

    def compute(self, instruction, place, lanes):
        operation = self.arithmetic.get(place)
        if operation is None:
            operation = self.arithmetic[place] = arithmetic.resolve(instruction)
        target, *sources = instruction.operands
        values = [self.read(instruction, source, kind, lanes, operation.any_width)
                  for source, kind in zip(sources, operation.sources)]
        result = operation.compute(*values)
        self.write(instruction, target, operation.result, result, lanes, operation.any_width)

    # Registers.

    def register(self, instruction, operand):
        if not isinstance(operand, Name):
            raise instruction.error("an operand is of the wrong form")
        if operand.name not in self.kernel.register_types:
            raise instruction.error(f"{operand.name} is no register")
        found = self.registers.get(operand.name)
        if found is None:
            kind = self.kernel.register_types[operand.name]
            found = self.registers[operand.name] = Register(kind, len(self.pc))
        return found

    def read(self, instruction, operand, kind, lanes, any_width=False):
        dtype = np.dtype(NUMPY[kind])
        if isinstance(operand, Immediate):
            bits = operand.bits & (1 << 8 * dtype.itemsize) - 1
            return np.array([bits], np.uint64).astype(f"u{dtype.itemsize}").view(dtype)
        name = operand.name if isinstance(operand, Name) else None
        if name in self.special:
            return self.special[name][lanes].astype(np.uint32).view(dtype)
        if name in self.kernel.params:
            return np.array([memory.PARAM_BASE + self.kernel.params[name]], dtype)
        if name in self.kernel.shared:
            return np.array([memory.SHARED_BASE + self.kernel.shared[name]], dtype)
        register = self.register(instruction, operand)
        if not register.written[lanes].all():
            raise instruction.error(f"{name} is read before it is written")
        bits = register.bits[lanes]
        if bits.itemsize != dtype.itemsize:
            if not any_width or bits.itemsize < dtype.itemsize:
                raise instruction.error(f"{operand.name} is not of the size of {kind}")
            bits = bits.astype(f"u{dtype.itemsize}")
        return bits.view(dtype)

    def write(self, instruction, operand, kind, values, lanes, any_width=False):
        register = self.register(instruction, operand)
        size = register.bits.itemsize
        if size != TYPE_BYTES[kind]:
            if not any_width or size < TYPE_BYTES[kind]:
                raise instruction.error(f"{operand.name} is not of the size of {kind}")
            values = values.astype(f"{values.dtype.kind}{size}")  # extends by sign if there is one
        register.bits[lanes] = values if kind == "pred" else values.view(f"u{size}")
        register.written[lanes] = True

    # Instructions that move data. All have the form (instruction, lanes).

    def move(self, instruction, lanes):
        (kind,), (target, source) = instruction.modifiers, instruction.operands
        if isinstance(source, Vector):  # packed, the first part lowest
            parts = [self.read(instruction, part, self.part_kind(instruction, kind, source), lanes)
                     for part in source.parts]
            packed = np.stack(np.broadcast_arrays(*parts), axis=1).view(NUMPY[kind])[:, 0]
            self.write(instruction, target, kind, packed, lanes)
        elif isinstance(target, Vector):
            part_kind = self.part_kind(instruction, kind, target)
            values = self.read(instruction, source, kind, lanes)
            parts = values[:, None].view(NUMPY[part_kind])
            for i, part in enumerate(target.parts):
                self.write(instruction, part, part_kind, parts[:, i], lanes)
        else:
            values = self.read(instruction, source, kind, lanes)
            self.write(instruction, target, kind, values, lanes)

    @staticmethod
    def part_kind(instruction, kind, vector):
        bits = 8 * TYPE_BYTES[kind] // len(vector.parts)
        if f"b{bits}" not in ("b16", "b32"):
            raise instruction.error("vector of no known form")
        return f"b{bits}"

    def convert_address(self, instruction, lanes):
        if instruction.modifiers != ("to", "global", "u64"):
            raise instruction.error("unknown modifiers")
        target, source = instruction.operands  # global addresses are generic ones
        self.write(instruction, target, "u64", self.read(instruction, source, "u64", lanes), lanes)

    def addresses(self, instruction, operand, lanes):
        if not isinstance(operand, Address) or isinstance(operand.base, Immediate):
            raise instruction.error("no address")
        kind = self.kernel.register_types.get(operand.base.name, "b64")
        base = self.read(instruction, operand.base, kind, lanes).astype(np.int64)
        return np.broadcast_to(base + operand.offset, len(lanes))

    @staticmethod
    def access(instruction, hints):
        """Space, element type and number of elements."""
        space, *rest = instruction.modifiers
        kind, counts = rest.pop(), {"v2": 2, "v4": 4}
        count = counts.get(rest[-1], 1) if rest else 1
        if count > 1:
            rest.pop()
        if not set(rest) <= hints or kind not in NUMPY or kind == "pred":
            raise instruction.error("unknown modifiers")
        return space, kind, count

    @staticmethod
    def parts(instruction, operand, count):
        parts = operand.parts if isinstance(operand, Vector) else (operand,)
        if len(parts) != count:
            raise instruction.error(f"wants {count} registers")
        return parts

    def load(self, instruction, lanes):
        space, kind, count = self.access(instruction, LOAD_HINTS)
        target, source = instruction.operands
        parts = self.parts(instruction, target, count)
        at, size = self.addresses(instruction, source, lanes), count * TYPE_BYTES[kind]
        if space == "global":
            data = self.device.load(at, size, lanes)
        elif space == "shared":
            data = self.shared.load(at, size, lanes, self.block[lanes])
        elif space == "param":
            data = self.param.load(at, size)
        else:
            raise instruction.error(f"unknown space {space}")
        values = np.ascontiguousarray(data).view(NUMPY[kind])
        for i, part in enumerate(parts):
            self.write(instruction, part, kind, values[:, i], lanes, any_width=True)

    def store(self, instruction, lanes):
        space, kind, count = self.access(instruction, STORE_HINTS)
        target, source = instruction.operands
        parts = self.parts(instruction, source, count)
        values = [np.broadcast_to(self.read(instruction, part, kind, lanes, any_width=True),
                                  len(lanes)) for part in parts]
        data = np.ascontiguousarray(np.stack(values, axis=1)).view(np.uint8)
        at = self.addresses(instruction, target, lanes)
        if space == "global":
            self.device.store(at, data, lanes)
        elif space == "shared":
            self.shared.store(at, data, lanes, self.block[lanes])
        else:
            raise instruction.error(f"unknown space {space}")

    def shuffle(self, instruction, lanes):
        """shfl.sync of whole warps: no other clamp or segment than a warp's is known."""
        match instruction.modifiers:
            case ("sync", ("bfly" | "idx" | "up" | "down") as mode, "b32"):
                pass
            case _:
                raise instruction.error("unknown modifiers")
        target, source, argument, clamp, members = instruction.operands
        clamps, masks = (self.read(instruction, operand, "u32", lanes)
                         for operand in (clamp, members))
        if (clamps != (0 if mode == "up" else WARP - 1)).any():
            raise instruction.error("a shuffle within parts of a warp")
        self.check_members(instruction, lanes, np.broadcast_to(masks, len(lanes)))
        lane = self.thread[lanes] % WARP
        move = np.broadcast_to(self.read(instruction, argument, "u32", lanes), len(lanes)) % WARP
        peer = {"bfly": lane ^ move, "idx": move, "up": lane - move, "down": lane + move}[mode]
        inside = (peer >= 0) & (peer < WARP)
        peer = np.where(inside, peer, lane)
        values = np.zeros(len(self.pc), np.uint32)
        values[lanes] = self.read(instruction, source, "u32", lanes)
        here = np.zeros(len(self.pc), bool)
        here[lanes] = True
        peers = lanes - lane + peer
        if not here[peers].all():
            raise instruction.error("a shuffle reads a lane that its mask does not name")
        if isinstance(target, WithPredicate):
            self.write(instruction, target.predicate, "pred", inside, lanes)
            target = target.value
        self.write(instruction, target, "u32", values[peers], lanes)

    def check_members(self, instruction, lanes, masks):
        """Those here, of each warp, are those that each of them names."""
        here = np.zeros(len(self.pc), np.uint32)
        np.bitwise_or.at(here, lanes - self.thread[lanes] % WARP,
                         np.uint32(1) << (self.thread[lanes] % WARP).astype(np.uint32))
        present = here[lanes - self.thread[lanes] % WARP]
        wrong = present != masks
        if wrong.any():
            raise instruction.error(f"a shuffle of lanes {masks[wrong][0]:#010x} finds lanes "
                                    f"{present[wrong][0]:#010x}")

    # Instructions that decide where threads go on.

    def branch(self, instruction, lanes, _):
        if instruction.modifiers not in ((), ("uni",)):
            raise instruction.error("unknown modifiers")
        label = instruction.operands[0].name
        if label not in self.kernel.labels:
            raise instruction.error("no such label")
        self.pc[lanes] = self.kernel.labels[label]

    def end(self, instruction, lanes, _):
        if instruction.modifiers not in ((), ("uni",)):
            raise instruction.error("unknown modifiers")
        self.state[lanes] = DONE

    def barrier(self, instruction, lanes, _):
        if instruction.modifiers != ("sync",) or instruction.operands != (Immediate(0),):
            raise instruction.error("a barrier other than that of all threads")
        self.state[lanes] = WAITING

    def release_barrier(self):
        """Nothing runs: all threads of a block have ended, or wait at one barrier."""
        waiting = self.state == WAITING
        for block in np.unique(self.block[waiting]):
            mine = self.block == block
            instruction = self.kernel.instructions[self.pc[mine & waiting].min() - 1]
            if not waiting[mine].all():
                missing = np.count_nonzero(mine & ~waiting)
                raise instruction.error(f"deadlock: {missing} of {self.threads} threads ended and "
                                        "never come to this barrier")
            if len(np.unique(self.pc[mine])) > 1:
                raise instruction.error("deadlock: threads of a block wait at two barriers")
        self.state[waiting] = RUNNING
        self.shared.barrier()


CONTROL = {"bra": Launch.branch, "ret": Launch.end, "exit": Launch.end, "bar": Launch.barrier,
           "barrier": Launch.barrier}
DATA = {"mov": Launch.move, "cvta": Launch.convert_address, "ld": Launch.load, "st": Launch.store,
        "shfl": Launch.shuffle}


def launch(kernel, device, blocks, threads, params):
    """Runs the kernel to its end; `device` is the memory.Global that its pointers lie in."""
    device.writer[device.writer >= 0] = memory.HOST  # an earlier launch is over
    Launch(kernel, device, blocks, threads, params).run()
