"""Which libraries a shared object asks for (DT_NEEDED), read from the file: ELF, 64 bits."""
import struct

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NEEDED, DT_STRTAB = 1, 5


class NotElf(ValueError):
    """The file is no 64-bit ELF file, or is cut short."""


def needed_libraries(path):
    """The names, in the file's order. Raises OSError or NotElf."""
    with open(path, "rb") as file:
        try:
            return _needed(file)
        except struct.error:
            raise NotElf(f"{path} is cut short") from None


def _read(file, offset, size):
    file.seek(offset)
    return file.read(size)


def _needed(file):
    head = _read(file, 0, 64)
    if head[:5] != b"\x7fELF\x02":
        raise NotElf(f"{file.name} is no 64-bit ELF file")
    order = "<" if head[5] == 1 else ">"
    table, = struct.unpack_from(order + "Q", head, 32)
    size, count = struct.unpack_from(order + "HH", head, 54)
    segments = []
    for index in range(count):
        kind, _, *numbers = struct.unpack(order + "IIQQQQQQ",
                                          _read(file, table + index * size, 56))
        segments.append((kind, *numbers[:2], numbers[3]))  # offset, address, bytes in the file
    entries = []
    for kind, offset, _, length in segments:
        if kind == PT_DYNAMIC:
            entries = list(struct.iter_unpack(order + "QQ", _read(file, offset, length)))
    strings = next((value for tag, value in entries if tag == DT_STRTAB), 0)
    for kind, offset, address, length in segments:
        if kind == PT_LOAD and address <= strings < address + length:
            text = _read(file, strings - address + offset, address + length - strings)
            return [text[value:text.index(b"\0", value)].decode() for tag, value in entries
                    if tag == DT_NEEDED]
    return []
