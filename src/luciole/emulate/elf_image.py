"""Writes an executable ELF file from bytes with addresses: what an emulator's `-kernel` takes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from luciole.emulate.cores import Family
from luciole.emulate.loader import Segment

#: `e_machine` of each family (System V ABI; EM_ARM, EM_RISCV, EM_AARCH64) and `e_flags` (Arm: EABI version 5).
_MACHINES = {
    Family.THUMB: (40, 0x0500_0000),
    Family.RISCV32: (243, 0),
    Family.RISCV64: (243, 0),
    Family.AARCH64: (183, 0),
}


def write_executable(family: Family, entry: int, segments: Sequence[Segment]) -> bytes:
    """An ELF executable that puts `segments`, with all permissions, at their addresses and starts at `entry`."""
    loaded = [segment for segment in segments if segment.data]
    is_64 = family.pointer_bytes == 8
    header_bytes, entry_bytes = (64, 56) if is_64 else (52, 32)
    machine, flags = _MACHINES[family]
    identity = b"\x7fELF" + bytes([2 if is_64 else 1, 1, 1]) + bytes(9)
    layout = "<16sHHIQQQIHHHHHH" if is_64 else "<16sHHIIIIIHHHHHH"
    header = struct.pack(
        layout, identity, 2, machine, 1, entry, header_bytes, 0, flags, header_bytes, entry_bytes, len(loaded), 0, 0, 0
    )
    offset = header_bytes + entry_bytes * len(loaded)
    table, body = b"", b""
    for segment in loaded:
        size, address = len(segment.data), segment.address
        if is_64:
            table += struct.pack("<IIQQQQQQ", 1, 7, offset, address, address, size, size, 4)
        else:
            table += struct.pack("<IIIIIIII", 1, offset, address, address, size, size, 7, 4)
        body += segment.data
        offset += size
    return header + table + body
