"""Reading npz archives that anybody may have made: plain numbers, no larger than they may be.

Sizes are compared with what the archive says of itself, with what its compression can hold and
with the limit before memory is taken; what inflates is never more than was declared. Nothing is
unpickled, and names never become paths.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Collection, Iterable
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from malfl_env import checks
from malfl_env.errors import InputError

__all__ = ["MANIFEST", "array_names", "check_array", "read_npz"]

MANIFEST = "manifest"
"""The one array that is text."""

_SUFFIX = ".npy"
_MAX_MANIFEST_BYTES = 64 * 2**20
_MAX_RATIO = 1032  # of deflate: no byte stands for more
_BLOCK = 1 << 20
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path, *, only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an npz archive, in native byte order and C order.

    Args:
        path: of the archive.
        only: names of the arrays to read; None: all.

    Raises:
        InputError: where the file is missing, cut, damaged, holds anything but plain numbers (and
            the manifest), lies about its sizes, or needs more memory than the limit: for one array
            `malfl_env.checks.MAX_TABLE_BYTES`, for all together twice as much. It names the file.
    """
    return _opened(path, only, content=True)


def array_names(path: Path) -> tuple[str, ...]:
    """Names of the arrays of an npz archive, from its table of contents; errors as `read_npz`."""
    return tuple(_opened(path, None, content=False))


def check_array(name: str, array: NDArray[Any]) -> None:
    """Refuse to write what `read_npz` would refuse to read.

    Raises:
        InputError: for a name that could be a path out of a folder, or anything but plain numbers.
    """
    _check_name(name)
    _check_dtype(name, array.dtype)


def _opened(path: Path, only: Collection[str] | None, *, content: bool) -> dict[str, NDArray[Any]]:
    try:
        # what numpy or zipfile only warns of (an odd header, say) is no file of ours
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("error")
            members = _members(archive.infolist())
            if not content:
                return {name: np.empty(0) for name in members}
            return {
                name: _read_member(archive, name, info)
                for name, info in members.items()
                if only is None or name in only
            }
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except MemoryError:
        raise InputError(f"{path}: its arrays do not fit in the memory there is") from None
    # zipfile and numpy raise anything at all over bytes that were made to break them
    except Exception as fault:
        words = " ".join(str(fault).split())[:300] or type(fault).__name__
        raise InputError(
            f"{path}: not a readable npz of plain arrays (cut, damaged or of another kind): {words}"
        ) from fault


def _members(infos: Iterable[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The members by the names of their arrays; their declared sizes are possible and allowed."""
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        name = info.filename.removesuffix(_SUFFIX)
        _check_name(name)
        if name == info.filename:
            raise InputError(f"its member {name!r} is no array")
        if name in members:
            raise InputError(f"it has {name!r} twice")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{name!r} is compressed in a way that numpy never uses")
        if info.file_size > _MAX_RATIO * (info.compress_size + 1):
            raise InputError(
                f"{name!r} claims {info.file_size} bytes, more than its {info.compress_size} "
                "compressed ones can hold"
            )
        members[name] = info
        total += info.file_size
        checks.check_table_bytes(info.file_size, f"the array {name!r}")
    if total > 2 * checks.MAX_TABLE_BYTES:
        raise InputError(
            f"its arrays take {total} bytes of memory, the limit is {2 * checks.MAX_TABLE_BYTES}, "
            "twice malfl_env.checks.MAX_TABLE_BYTES"
        )
    if MANIFEST in members and members[MANIFEST].file_size > _MAX_MANIFEST_BYTES:
        raise InputError(f"its manifest is larger than {_MAX_MANIFEST_BYTES} bytes")
    return members


def _read_member(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as stream:
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise InputError(f"{name!r} has an npy header of version {version}")
        shape, fortran_order, dtype = _HEADERS[version](stream)
        _check_dtype(name, dtype)
        if not all(type(size) is int and size >= 0 for size in shape):
            raise InputError(f"{name!r} has the shape {shape}")
        n_bytes = prod(shape) * dtype.itemsize
        if n_bytes != info.file_size - stream.tell():
            raise InputError(
                f"the header of {name!r} claims {n_bytes} bytes, there are "
                f"{info.file_size - stream.tell()}"
            )
        content = np.empty(n_bytes, dtype=np.uint8)
        filled = 0
        while block := stream.read(_BLOCK):
            content[filled : filled + len(block)] = np.frombuffer(block, dtype=np.uint8)
            filled += len(block)
    if filled != n_bytes:
        raise InputError(f"{name!r} ends after {filled} bytes of {n_bytes}")
    if dtype.kind == "b" and n_bytes and content.max() > 1:
        raise InputError(f"{name!r} holds bytes that are neither true nor false")
    array = content.view(dtype).reshape(shape, order="F" if fortran_order else "C")
    return np.asarray(array, dtype=dtype.newbyteorder("="), order="C")


def _check_name(name: str) -> None:
    parts = name.split("/")
    if (
        not all(parts)
        or {".", ".."} & set(parts)
        or not name.isprintable()
        or "\\" in name
        or PurePosixPath(name).is_absolute()
    ):
        raise InputError(f"the name of an array must not look like a path elsewhere, got {name!r}")


def _check_dtype(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in ("U" if name == MANIFEST else "biuf") or dtype.itemsize == 0:
        raise InputError(f"{name!r} must be an array of plain numbers, it is of {dtype}")
