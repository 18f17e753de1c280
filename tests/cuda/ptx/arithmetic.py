"""What the arithmetic instructions compute, as the PTX ISA says: resolve(instruction) gives the
types of the sources, the type of the result and a function of numpy arrays.

fp32 is IEEE with denormals, every operation says how it rounds, and a NaN result is always
0x7fffffff, as on a GPU. An operation that ptxas may contract (add.f32 without .rn) is an error, and
so is every opcode and modifier that is not here."""
import dataclasses

import numpy as np

NUMPY = {"pred": np.bool_, "b8": np.uint8, "u8": np.uint8, "s8": np.int8, "b16": np.uint16,
         "u16": np.uint16, "s16": np.int16, "b32": np.uint32, "u32": np.uint32, "s32": np.int32,
         "f32": np.float32, "b64": np.uint64, "u64": np.uint64, "s64": np.int64}
INTEGERS = ("u16", "s16", "u32", "s32", "u64", "s64")
UNTYPED = ("pred", "b16", "b32", "b64")
NAN_BITS = 0x7FFFFFFF


@dataclasses.dataclass(frozen=True)
class Operation:
    sources: tuple  # types
    result: str     # type
    compute: object
    # cvt takes a narrower type from a wider register and extends into one.
    any_width: bool = False


def canonical(values):
    values = np.asarray(values, np.float32)
    return np.where(np.isnan(values), np.uint32(NAN_BITS).view(np.float32), values)


def toward_zero(rounded, too_large):
    """Nearest results of which some are rounded away from zero, as truncated ones."""
    return np.where(too_large, np.nextafter(rounded, np.float32(0)), rounded)


def add_rz(a, b):
    total = a + b
    part = total - a  # the error of an addition is an fp32 itself (Knuth's two-sum)
    error = (a - (total - part)) + (b - part)
    return toward_zero(total, np.where(total > 0, error < 0, (error > 0) & (total < 0)))


def multiply_rz(a, b):
    exact = a.astype(np.float64) * b.astype(np.float64)
    rounded = exact.astype(np.float32)
    return toward_zero(rounded, np.isfinite(exact) & (np.abs(rounded) > np.abs(exact)))


FLOAT = {("add", "rn"): np.add, ("sub", "rn"): np.subtract, ("mul", "rn"): np.multiply,
         ("div", "rn"): np.divide, ("add", "rz"): add_rz, ("sub", "rz"): lambda a, b: add_rz(a, -b),
         ("mul", "rz"): multiply_rz}
INTEGER = {"add": np.add, "sub": np.subtract, "min": np.minimum, "max": np.maximum}


def float_min_max(opcode):
    """One NaN loses, and -0 is below +0."""
    pick = np.fmin if opcode == "min" else np.fmax
    join = np.bitwise_or if opcode == "min" else np.bitwise_and

    def compute(a, b):
        equal_bits = join(a.view(np.uint32), b.view(np.uint32)).view(np.float32)
        return canonical(np.where(a == b, equal_bits, pick(a, b)))
    return compute


def multiply_high(a, b):
    return (a.astype(np.int64) * b.astype(np.int64) >> 32) if a.dtype == np.int32 else (
        a.astype(np.uint64) * b.astype(np.uint64) >> np.uint64(32))


def binary(opcode, modifiers):
    match modifiers:
        case (kind,) if kind in INTEGERS and opcode in INTEGER:
            return Operation((kind, kind), kind, INTEGER[opcode])
        case (rounding, "f32") if (opcode, rounding) in FLOAT:
            compute = FLOAT[opcode, rounding]
            return Operation(("f32", "f32"), "f32", lambda a, b: canonical(compute(a, b)))
        case ("f32",) if opcode in ("min", "max"):
            return Operation(("f32", "f32"), "f32", float_min_max(opcode))
    return None


def multiply(opcode, modifiers):
    match modifiers:
        case ("lo", kind) if kind in INTEGERS:
            return Operation((kind, kind), kind, np.multiply)
        case ("hi", ("u32" | "s32") as kind):
            return Operation((kind, kind), kind,
                             lambda a, b: multiply_high(a, b).astype(NUMPY[kind]))
        case ("wide", ("u16" | "s16" | "u32" | "s32") as kind):
            wide = kind[0] + str(2 * int(kind[1:]))
            return Operation((kind, kind), wide,
                             lambda a, b: a.astype(NUMPY[wide]) * b.astype(NUMPY[wide]))
    return binary(opcode, modifiers)


def multiply_add(_, modifiers):
    product = multiply("mul", modifiers) if modifiers[:1] in (("lo",), ("wide",)) else None
    return product and Operation((*product.sources, product.result), product.result,
                                 lambda a, b, c: product.compute(a, b) + c)


def reciprocal(_, modifiers):
    if modifiers == ("rn", "f32"):
        return Operation(("f32",), "f32", lambda a: canonical(np.float32(1) / a))
    return None


def negate(_, modifiers):
    if modifiers in (("s16",), ("s32",), ("s64",)):
        return Operation(modifiers, modifiers[0], np.negative)
    return None


def copy_sign(_, modifiers):
    """The sign of the first on the second: bits are moved, so a NaN keeps its other bits."""
    if modifiers != ("f32",):
        return None
    sign = np.uint32(1 << 31)
    return Operation(("b32", "b32"), "b32", lambda a, b: a & sign | b & ~sign)


def bitwise(opcode, modifiers):
    compute = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
               "not": np.invert}[opcode]
    if len(modifiers) != 1 or modifiers[0] not in UNTYPED:
        return None
    return Operation(modifiers * (1 if opcode == "not" else 2), modifiers[0], compute)


def shift(opcode, modifiers):
    allowed = ("b16", "b32", "b64") if opcode == "shl" else INTEGERS + ("b16", "b32", "b64")
    if len(modifiers) != 1 or modifiers[0] not in allowed:
        return None
    kind = modifiers[0]
    width, move = int(kind[1:]), np.left_shift if opcode == "shl" else np.right_shift

    def compute(a, count):
        count = np.minimum(count, width)
        near = move(a, np.minimum(count, width - 1).astype(a.dtype))
        beyond = move(near, np.array(1, a.dtype))  # a shift by the whole width, which C lacks
        return np.where(count == width, beyond, near)
    return Operation((kind, "u32"), kind, compute)


def funnel_shift(_, modifiers):
    match modifiers:
        case (("l" | "r") as way, ("wrap" | "clamp") as mode, "b32"):
            pass
        case _:
            return None

    def compute(low, high, count):
        count = np.minimum(count, 32) if mode == "clamp" else count & np.uint32(31)
        both = high.astype(np.uint64) << np.uint64(32) | low
        if way == "l":
            return (both << count.astype(np.uint64) >> np.uint64(32)).astype(np.uint32)
        return (both >> count.astype(np.uint64)).astype(np.uint32)
    return Operation(("b32", "b32", "u32"), "b32", compute)


def permute_bytes(a, b, selector):
    both = b.astype(np.uint64) << np.uint64(32) | a
    result = np.zeros(np.broadcast(a, b, selector).shape, np.uint32)
    for i in range(4):
        control = (selector >> np.uint32(4 * i)).astype(np.uint64)
        byte = both >> (control & np.uint64(7)) * np.uint64(8) & np.uint64(255)
        sign = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
        byte = np.where(control & np.uint64(8), sign, byte)
        result |= byte.astype(np.uint32) << np.uint32(8 * i)
    return result


def permute(_, modifiers):
    return Operation(("b32",) * 3, "b32", permute_bytes) if modifiers == ("b32",) else None


ORDERED = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
           "gt": np.greater, "ge": np.greater_equal}


def set_predicate(_, modifiers):
    match modifiers:
        case (compare, kind) if compare in ORDERED and kind in INTEGERS + ("b16", "b32", "b64"):
            if kind[0] == "b" and compare not in ("eq", "ne"):
                return None
            return Operation((kind, kind), "pred", ORDERED[compare])
        case (compare, "f32") if compare in ORDERED:
            ordered = ORDERED[compare]
            return Operation(("f32", "f32"), "pred",
                             lambda a, b: ordered(a, b) & ~np.isnan(a) & ~np.isnan(b))
        case (compare, "f32") if compare[-1] == "u" and compare[:-1] in ORDERED:
            ordered = ORDERED[compare[:-1]]
            return Operation(("f32", "f32"), "pred",
                             lambda a, b: ordered(a, b) | np.isnan(a) | np.isnan(b))
    return None


def select(_, modifiers):
    if len(modifiers) != 1 or modifiers[0] not in INTEGERS + ("b16", "b32", "b64", "f32"):
        return None
    kind = "b" + modifiers[0][1:]  # a mere move: a NaN keeps its bits
    return Operation((kind, kind, "pred"), kind, lambda a, b, chosen: np.where(chosen, a, b))


def float_to_integer(kind):
    limits = np.iinfo(NUMPY[kind])

    def compute(value, rounded):
        inside = np.clip(rounded.astype(np.float64), limits.min, limits.max)
        return np.where(np.isnan(value), 0, inside).astype(NUMPY[kind])
    return compute


def convert(_, modifiers):
    integers = INTEGERS + ("u8", "s8")
    match modifiers:
        case (to, source) if to in integers and source in integers:
            return Operation((source,), to, lambda a: a.astype(NUMPY[to]), any_width=True)
        case ("rn", "f32", source) if source in integers:
            return Operation((source,), "f32", lambda a: a.astype(np.float32), any_width=True)
        case (("rni" | "rzi") as rounding, ("s32" | "u32") as to, "f32"):
            round_to = np.rint if rounding == "rni" else np.trunc
            clamp = float_to_integer(to)
            return Operation(("f32",), to, lambda a: clamp(a, round_to(a)))
    return None


RESOLVERS = {"add": binary, "sub": binary, "min": binary, "max": binary, "div": binary,
             "mul": multiply, "mad": multiply_add, "rcp": reciprocal, "neg": negate, "copysign": copy_sign,
             "and": bitwise, "or": bitwise, "xor": bitwise, "not": bitwise, "shl": shift,
             "shr": shift, "shf": funnel_shift, "prmt": permute, "setp": set_predicate,
             "selp": select, "cvt": convert}


def resolve(instruction):
    resolver = RESOLVERS.get(instruction.opcode)
    if resolver is None:
        raise instruction.error(f"unknown opcode {instruction.opcode}")
    operation = resolver(instruction.opcode, instruction.modifiers)
    if operation is None:
        raise instruction.error(f"unknown or inexact modifiers {'.'.join(instruction.modifiers)}")
    if len(instruction.operands) != 1 + len(operation.sources):
        raise instruction.error(f"wants {1 + len(operation.sources)} operands")
    return operation
