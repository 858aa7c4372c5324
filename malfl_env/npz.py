"""Arrays in npz archives: as bytes, and read by NumPy after a check of the declared sizes.

An archive may come from an untrusted source. Before memory is allocated, the sizes that its
directory declares are compared with the file, with the largest compression ratio, with the limit of
`malfl_env.checks`, and with the header of each array. Nothing is unpickled, and names never become
paths.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from malfl_env import checks
from malfl_env.errors import InputError

__all__ = [
    "MANIFEST",
    "array_names",
    "check_array",
    "check_manifest",
    "npz_bytes",
    "read_arrays",
    "read_header",
    "read_npz",
]

MANIFEST = "manifest"
"""Name of the only array that is text."""

LARGE, LARGE_LEVEL = 2**20, 1
"""Above this number of bytes arrays are compressed at this level of zlib: steps of a game take a
seventh of the time, and a twentieth more space.
"""

_SUFFIX = ".npy"
_MAX_MEMBERS = 2**16
_MAX_MANIFEST_BYTES = 64 * 2**20
_MAX_RATIO = 1032  # deflate cannot compress more than this
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def npz_bytes(
    arrays: Mapping[str, NDArray[Any]], *, manifest: Mapping[str, Any] | None = None
) -> bytes:
    """Arrays, and JSON text that describes them, as one compressed npz.

    The same arrays and manifest give the same bytes.

    Raises:
        InputError: for arrays that are not plain numbers, or a name that looks like a path.
    """
    content = {name: np.asarray(array) for name, array in arrays.items()}
    if manifest is not None:
        content[MANIFEST] = np.array(json.dumps(manifest, sort_keys=True, allow_nan=False))
    for name, array in content.items():
        check_array(name, array)
    buffer = io.BytesIO()
    level = LARGE_LEVEL if sum(array.nbytes for array in content.values()) > LARGE else None
    # not np.savez_compressed: it takes names as keywords and fails for an agent named "file"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, array in content.items():
            with archive.open(f"{name}{_SUFFIX}", "w", force_zip64=True) as stream:
                npy.write_array(stream, array, allow_pickle=False)
    return buffer.getvalue()


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read the arrays and the manifest (empty if it has none) of an npz. Never unpickles.

    Raises:
        InputError: as `read_npz`, or if the manifest is not a JSON mapping.
    """
    arrays = read_npz(path)
    try:
        manifest = json.loads(str(arrays.pop(MANIFEST, "{}")))
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{path}: its manifest is not JSON: {fault}") from fault
    if not isinstance(manifest, dict):
        raise InputError(f"{path}: its manifest must be a JSON mapping")
    return arrays, manifest


def check_manifest(path: Path, manifest: Mapping[str, Any], kind: str, *, version: int) -> None:
    """Reject a file of another kind, or of an unknown version."""
    if manifest.get("format") != kind or manifest.get("version") != version:
        raise InputError(
            f"{path}: expected a {kind} of version {version}, its manifest says "
            f"{manifest.get('format', 'nothing')!r} version {manifest.get('version', 'none')!r}"
        )


def read_npz(
    path: Path, *, only: Collection[str] | None = None, text: bool = False
) -> dict[str, NDArray[Any]]:
    """The arrays of an npz archive, in native byte order and C order.

    Args:
        path: of the archive.
        only: names of the arrays to read; None: all.
        text: whether arrays of text are allowed besides the manifest.

    Raises:
        InputError: if the file is missing, truncated or damaged, holds arrays that are not plain
            numbers (except text), declares wrong sizes, or needs more memory than the
            limit: `malfl_env.checks.MAX_TABLE_BYTES` for one array, twice as much for all together.
            The message names the file.
    """
    return _opened(path, only, content=True, text=text)


def array_names(path: Path) -> tuple[str, ...]:
    """Names of the arrays of an npz archive, from its directory; errors as `read_npz`."""
    return tuple(_opened(path, None, content=False))


def check_array(name: str, array: NDArray[Any]) -> None:
    """Reject an array that `read_npz` would reject, before it is written.

    Raises:
        InputError: for a name that could be a path out of a folder, or values that are not plain
            numbers.
    """
    _check_name(name)
    _check_dtype(name, array.dtype)


def _opened(
    path: Path, only: Collection[str] | None, *, content: bool, text: bool = False
) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive.infolist())
            if not content:
                return {name: np.empty(0) for name in members}
            return {
                name: _read_member(archive, name, info, text=text)
                for name, info in members.items()
                if only is None or name in only
            }
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except MemoryError:
        raise InputError(f"{path}: its arrays do not fit in the available memory") from None
    # zipfile and NumPy raise exceptions of any type for malicious bytes
    except Exception as fault:
        words = " ".join(str(fault).split())[:300] or type(fault).__name__
        raise InputError(
            f"{path}: not a readable npz of plain arrays (truncated, damaged or of another kind): "
            f"{words}"
        ) from fault


def _members(infos: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The members by the names of their arrays, after a check of their declared sizes."""
    if len(infos) > _MAX_MEMBERS:
        raise InputError(f"it has {len(infos)} members, at most {_MAX_MEMBERS} are allowed")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.removesuffix(_SUFFIX)
        _check_name(name)
        if name == info.filename:
            raise InputError(f"its member {name!r} is not an array")
        if name in members:
            raise InputError(f"duplicate member {name!r}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{name!r} has a compression that NumPy does not use")
        if info.file_size > _MAX_RATIO * (info.compress_size + 1):
            raise InputError(
                f"{name!r} declares {info.file_size} bytes, more than its {info.compress_size} "
                "compressed bytes can hold"
            )
        members[name] = info
        checks.check_table_bytes(info.file_size, f"the array {name!r}")
    total = sum(info.file_size for info in infos)
    if total > 2 * checks.MAX_TABLE_BYTES:
        raise InputError(
            f"its arrays take {total} bytes of memory, the limit is {2 * checks.MAX_TABLE_BYTES}, "
            "twice malfl_env.checks.MAX_TABLE_BYTES"
        )
    if MANIFEST in members and members[MANIFEST].file_size > _MAX_MANIFEST_BYTES:
        raise InputError(f"its manifest is larger than {_MAX_MANIFEST_BYTES} bytes")
    return members


def _read_member(
    archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo, *, text: bool
) -> NDArray[Any]:
    with archive.open(info) as stream:
        shape, _, dtype = read_header(stream)
        if not (text and dtype.kind == "U"):
            _check_dtype(name, dtype)
        if not all(type(size) is int and size >= 0 for size in shape):
            raise InputError(f"{name!r} has the shape {shape}")
        n_bytes, left = prod(shape) * dtype.itemsize, info.file_size - stream.tell()
        if n_bytes != left:  # before NumPy allocates the declared size
            raise InputError(f"the header of {name!r} declares {n_bytes} bytes, it has {left}")
        stream.seek(0)
        array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
        stream.read()  # to the end, where zipfile compares the checksum, also of an empty array
    if dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise InputError(f"{name!r} holds bytes that are neither true nor false")
    if dtype.kind == "U" and np.any(_code_points(array) > sys.maxunicode):
        raise InputError(f"{name!r} holds code points beyond those of Unicode")
    return np.asarray(array, dtype=dtype.newbyteorder("="), order="C")


def _code_points(array: NDArray[Any]) -> NDArray[np.uint32]:
    flat = np.ascontiguousarray(array.reshape(-1))
    return flat.view(np.dtype(np.uint32).newbyteorder(flat.dtype.byteorder))


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype from the npy header of an array of plain numbers."""
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise InputError(f"npy headers of version {version} are not supported, only 1.0 and 2.0")
    return _HEADERS[version](stream)


def _check_name(name: str) -> None:
    parts = name.split("/")
    if (
        not all(parts)
        or {".", ".."} & set(parts)
        or not name.isprintable()
        or "\\" in name
        or PurePosixPath(name).is_absolute()
    ):
        raise InputError(f"the name of an array must not lead out of the archive, got {name!r}")


def _check_dtype(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in ("U" if name == MANIFEST else "biuf") or dtype.itemsize == 0:
        raise InputError(f"{name!r} must be an array of plain numbers, its dtype is {dtype}")
