"""PTX text as values: parse(text) gives the kernels by name, each with its parameters, shared
variables, registers and instructions. It knows what nvcc emits for plain kernels, and raises
PtxError naming the line for anything else."""
import dataclasses
import re

TYPE_BYTES = {"pred": 1, "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "b32": 4,
              "u32": 4, "s32": 4, "f32": 4, "b64": 8, "u64": 8, "s64": 8}
# Said about the text or to the optimizer; nothing that changes what a kernel computes.
HINTS = re.compile(r"\.(version|target|address_size|maxntid|minnctapersm|reqntid|pragma)\b")
NAME = r"[%$\w]+"
ENTRY = re.compile(rf"(?:\.visible\s+)?\.entry\s+({NAME})\s*\($")
PARAM = re.compile(rf"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+({NAME})(?:\[(\d+)\])?,?$")
SHARED = re.compile(rf"\.shared\s+\.align\s+(\d+)\s+\.b8\s+({NAME})\[(\d+)\];$")
REGISTERS = re.compile(rf"\.reg\s+\.(\w+)\s+({NAME})(?:<(\d+)>)?;$")
# In one line, as compute_100's text has them: a register that lives in the block only, and its use.
BLOCK = re.compile(rf"\{{\s*\.reg\s+\.(\w+)\s+([a-z]\w*);\s*([^;]*;)\s*\}}$")
LABEL = re.compile(rf"({NAME}):$")
INSTRUCTION = re.compile(rf"(?:@(!?)({NAME})\s+)?([a-z]\w*)((?:\.[\w:]+)*)(?:\s+(.*))?;$")
OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+")
NUMBER = re.compile(r"(-?(?:0x[0-9a-fA-F]+|\d+))U?$")


class PtxError(Exception):
    """The text cannot be run, or did on the way what no kernel may do."""


@dataclasses.dataclass(frozen=True)
class Name:  # of a register, a special register, a label, a parameter or a shared variable
    name: str


@dataclasses.dataclass(frozen=True)
class Immediate:
    bits: int  # two's complement, or the bits of an fp32


@dataclasses.dataclass(frozen=True)
class Address:
    base: object  # Name or Immediate
    offset: int


@dataclasses.dataclass(frozen=True)
class Vector:
    parts: tuple


@dataclasses.dataclass(frozen=True)
class WithPredicate:  # d|p
    value: Name
    predicate: Name


@dataclasses.dataclass(frozen=True)
class Instruction:
    line: int
    text: str
    guard: object  # the Name of a predicate register, or None
    negated: bool
    opcode: str
    modifiers: tuple
    operands: tuple

    def error(self, message):
        return PtxError(f"line {self.line}: {message}: {self.text}")


class Kernel:
    """One entry. Offsets of parameters and shared variables are from the start of their space."""

    def __init__(self, name):
        self.name = name
        self.params, self.param_bytes = {}, 0
        self.shared, self.shared_bytes = {}, 0
        self.register_types = {}
        self.instructions, self.labels = [], {}

    def add_param(self, name, size, align):
        self.params[name], self.param_bytes = place(self.param_bytes, size, align)

    def add_shared(self, name, size, align):
        self.shared[name], self.shared_bytes = place(self.shared_bytes, size, align)


def place(end, size, align):
    """Where the next variable starts, and where it ends."""
    start = -(-end // align) * align
    return start, start + size


def parse_operand(text):
    number = NUMBER.match(text)
    if number:
        return Immediate(int(number[1], 0))
    if re.match(r"0[fF][0-9a-fA-F]{8}$", text):
        return Immediate(int(text[2:], 16))
    if text[0] == "{":
        return Vector(tuple(parse_operand(part.strip()) for part in text[1:-1].split(",")))
    if text[0] == "[":
        base, _, offset = text[1:-1].partition("+")
        return Address(parse_operand(base.strip()), int(offset or 0))
    if "|" in text:
        return WithPredicate(*(Name(part) for part in text.split("|")))
    if not re.match(NAME + r"(\.[xyz])?$", text):
        raise PtxError(f"operand {text} is of no known form")
    return Name(text)


def parse_instruction(number, line):
    match = INSTRUCTION.match(line)
    if not match:
        raise PtxError(f"line {number}: not understood: {line}")
    negated, guard, opcode, modifiers, texts = match.groups()
    try:
        operands = tuple(parse_operand(text) for text in OPERAND.findall(texts or ""))
    except PtxError as error:
        raise PtxError(f"line {number}: {error}: {line}") from error
    return Instruction(number, line, Name(guard) if guard else None, bool(negated), opcode,
                       tuple(modifiers.split(".")[1:]), operands)


def parse_block(kernel, number, kind, name, instruction):
    """Two blocks' registers are two, even of one name; a $ is in no name that nvcc gives one."""
    unique = f"{name}${number}"
    kernel.register_types[unique] = kind
    renamed = re.sub(rf"(?<![%$\w.]){name}(?![$\w])", lambda _: unique, instruction)
    kernel.instructions.append(parse_instruction(number, renamed))


def parse_body_line(kernel, number, line):
    if registers := REGISTERS.match(line):
        kind, prefix, count = registers.groups()
        names = [f"{prefix}{i}" for i in range(int(count))] if count else [prefix]
        kernel.register_types.update(dict.fromkeys(names, kind))
    elif shared := SHARED.match(line):
        kernel.add_shared(shared[2], int(shared[3]), int(shared[1]))
    elif block := BLOCK.match(line):
        parse_block(kernel, number, *block.groups())
    elif label := LABEL.match(line):
        kernel.labels[label[1]] = len(kernel.instructions)
    elif not HINTS.match(line):
        kernel.instructions.append(parse_instruction(number, line))


def parse_header_line(kernel, number, line):
    param = PARAM.match(line)
    if param:
        align, kind, name, count = param.groups()
        size = TYPE_BYTES[kind] * int(count or 1)
        kernel.add_param(name, size, int(align or TYPE_BYTES[kind]))
    elif line != ")" and not HINTS.match(line):
        raise PtxError(f"line {number}: not understood before a kernel's body: {line}")


def parse(text):
    kernels, kernel, in_body = {}, None, False
    for number, line in enumerate(text.split("\n"), 1):
        line = line.partition("//")[0].strip()
        entry = ENTRY.match(line)
        if entry and kernel is None:
            kernel = kernels[entry[1]] = Kernel(entry[1])
        elif kernel is None:
            if line and not HINTS.match(line):
                raise PtxError(f"line {number}: not understood outside of kernels: {line}")
        elif line == "{" and not in_body:
            in_body = True
        elif line == "}" and in_body:
            kernel, in_body = None, False
        elif line:
            (parse_body_line if in_body else parse_header_line)(kernel, number, line)
    if kernel is not None:
        raise PtxError(f"kernel {kernel.name} does not end")
    return kernels
