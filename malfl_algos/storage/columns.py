"""Columns on disk: .npy files that are written in chunks with checksums and mapped when read.

A column may be larger than the memory. Reading never executes anything from a file.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from malfl_algos.storage.arrays import check_array, read_header
from malfl_algos.storage.durable import naming_no_space
from malfl_env.errors import InputError

__all__ = ["ColumnWriter", "map_column"]


class ColumnWriter:
    """Writes one .npy file chunk by chunk.

    Args:
        path: of the new file.
        like: an array `(n, ...)` with the dtype and row shape of the column.
    """

    def __init__(self, path: Path, like: NDArray[Any]) -> None:
        check_array(path.stem, like)
        self._path = path
        self._dtype, self._row = like.dtype.newbyteorder("="), like.shape[1:]
        self._chunks: list[dict[str, Any]] = []
        self._n_rows = 0
        with naming_no_space(path):
            self._stream = path.open("xb")
            self._stream.write(self._header())

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows `(n, ...)`.

        Raises:
            InputError: for rows of another dtype or shape.
            NoSpace: if the disk is full.
        """
        if rows.dtype != self._dtype or rows.shape[1:] != self._row:
            raise InputError(
                f"{self._path.stem}: rows of all chunks must have one type and shape; the first: "
                f"{self._dtype} {self._row}, this one {rows.dtype} {rows.shape[1:]}"
            )
        content = np.ascontiguousarray(rows, dtype=self._dtype).data.cast("B")
        with naming_no_space(self._path):
            self._stream.write(content)
        self._chunks.append({"rows": len(rows), "sha256": sha256(content).hexdigest()})
        self._n_rows += len(rows)

    def close(self) -> dict[str, Any]:
        """Finish the file; returns its entry for the manifest."""
        with naming_no_space(self._path), self._stream as stream:
            stream.seek(0)
            stream.write(self._header())  # numpy pads headers, so any number of rows fits
        return {"dtype": self._dtype.str, "row": list(self._row), "chunks": self._chunks}

    def abandon(self) -> None:
        """Close the incomplete file."""
        self._stream.close()

    def _header(self) -> bytes:
        buffer = io.BytesIO()
        shape = (self._n_rows, *self._row)
        description = npy.header_data_from_array_1_0(np.empty((0, *self._row), self._dtype))
        npy.write_array_header_1_0(buffer, {**description, "shape": shape})
        return buffer.getvalue()


def map_column(path: Path, entry: Mapping[str, Any], *, verify: bool) -> NDArray[Any]:
    """Map a column that `ColumnWriter` wrote.

    Args:
        path: of the file.
        entry: the result of `ColumnWriter.close`.
        verify: whether all chunks are read once and compared with their checksums.

    Returns:
        `(n_rows, ...)`, read-only, in native byte order.

    Raises:
        InputError: if the file is missing, truncated, damaged or a different one; the message names
            it.
    """
    try:
        n_rows = sum(chunk["rows"] for chunk in entry["chunks"])
        array = _mapped(path, (n_rows, *entry["row"]), np.dtype(entry["dtype"]))
        if verify:
            _verify(array, entry["chunks"])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    # numpy raises exceptions of any type for malicious bytes
    except Exception as fault:
        words = " ".join(str(fault).split())[:300] or type(fault).__name__
        raise InputError(f"{path}: truncated, damaged, or not of this trace: {words}") from fault
    return array


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    with path.open("rb") as stream:
        found = read_header(stream)
        offset = stream.tell()
        n_bytes = stream.seek(0, io.SEEK_END) - offset
    if found != (shape, False, dtype):
        raise InputError(f"it holds {found[2]} {found[0]}, the manifest says {dtype} {shape}")
    check_array(path.stem, np.empty(0, dtype))
    if prod(shape) * dtype.itemsize != n_bytes or n_bytes == 0:
        raise InputError(
            f"it holds {n_bytes} bytes of data, expected {prod(shape) * dtype.itemsize}"
        )
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)


def _verify(array: NDArray[Any], chunks: list[Mapping[str, Any]]) -> None:
    first = 0
    for number, chunk in enumerate(chunks):
        rows = array[first : first + chunk["rows"]]
        first += chunk["rows"]
        content = rows.reshape(-1).view(np.uint8)
        if sha256(content.data).hexdigest() != chunk["sha256"]:
            raise InputError(f"chunk {number} was changed after writing: its checksum differs")
        if rows.dtype == np.bool_ and content.max(initial=0) > 1:
            raise InputError("it holds bytes that are neither true nor false")
