"""Arrays from files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from luciole.errors import CompileError, printable
from luciole.importers.files import read_file
from luciole.ir.types import Array

#: Arrays of one file may take so many bytes in memory; a bound on files that unpack to much more than they are.
MAXIMUM_ARRAY_BYTES = 1 << 32


def load_arrays(path: Path) -> dict[str | int, Array]:
    """The arrays of an `.npz` by name, or of an `.npy` as position 0.

    Pickled objects are refused. Raises `CompileError` for whatever is wrong with the file.
    """
    data = read_file(path)
    try:
        if data.startswith(b"\x93NUMPY"):
            return {0: _array(data)}
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            if sum(entry.file_size for entry in entries) > MAXIMUM_ARRAY_BYTES:
                raise ValueError(f"the arrays take more than {MAXIMUM_ARRAY_BYTES} bytes")
            return {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries}
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds on damaged files
        raise CompileError.of(
            "bad-data",
            f'"{printable(str(path))}" holds no arrays: {printable(str(error))}',
            help="give an .npz (numpy.savez) with arrays by name, or an .npy (numpy.save) for a single one",
        ) from None


def _array(data: bytes) -> Array:
    """The array of an `.npy` file. Raises `ValueError` for objects, and for a size that is not that of the data."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"version {version} of the array format is not known")
    shape, is_fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("an array holds pickled Python objects, which are never loaded")
    elements = 1
    for extent in shape:
        elements *= extent
    if elements * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"an array of shape {list(shape)} and type {dtype} has {len(data) - stream.tell()} bytes")
    array = np.frombuffer(data, dtype, elements, stream.tell())
    return array.reshape(shape, order="F" if is_fortran else "C")
