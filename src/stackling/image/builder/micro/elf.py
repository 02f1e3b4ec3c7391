"""The shared libraries an ELF program asks for, read from the file itself (nothing of the guest is executed).

Format: System V ABI, "Dynamic Linking" (PT_INTERP, DT_NEEDED, DT_STRTAB), little-endian ELF64.
"""

import struct
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5


def needed(program: Path) -> tuple[list[str], str | None]:
    """Names of the libraries a program needs, and the path of its dynamic loader (None when static).

    A file that is no ELF file needs nothing.
    """
    data = program.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        return [], None
    (table,) = struct.unpack_from("<Q", data, 32)
    entry_size, entries = struct.unpack_from("<HH", data, 54)
    loads: list[tuple[int, int, int]] = []
    dynamic: tuple[int, int] | None = None
    loader = None
    for index in range(entries):
        kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", data, table + index * entry_size)
        if kind == _PT_LOAD:
            loads.append((address, offset, size))
        elif kind == _PT_DYNAMIC:
            dynamic = (offset, size)
        elif kind == _PT_INTERP:
            loader = data[offset : offset + size].rstrip(b"\0").decode()
    if dynamic is None:
        return [], loader
    tags = list(struct.iter_unpack("<QQ", data[dynamic[0] : dynamic[0] + dynamic[1] // 16 * 16]))
    strings = next((value for tag, value in tags if tag == _DT_STRTAB), None)
    if strings is None:
        return [], loader
    base = next(
        strings - address + offset for address, offset, size in loads if 0 <= strings - address < size
    )
    names = [
        data[base + value : data.index(b"\0", base + value)].decode()
        for tag, value in tags
        if tag == _DT_NEEDED
    ]
    return names, loader
