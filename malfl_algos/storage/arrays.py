"""Arrays in npz archives, written atomically; `malfl_env.npz` has the format and reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from malfl_algos.storage.durable import write_bytes
from malfl_env.npz import (
    MANIFEST,
    array_names,
    check_array,
    check_manifest,
    npz_bytes,
    read_arrays,
    read_header,
    read_npz,
)

__all__ = [
    "MANIFEST",
    "array_names",
    "check_array",
    "check_manifest",
    "read_arrays",
    "read_header",
    "read_npz",
    "write_arrays",
]


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], *, manifest: Mapping[str, Any] | None = None
) -> None:
    """Write arrays, and JSON text that describes them, as one compressed npz, atomically.

    The same arrays and manifest give the same bytes.

    Raises:
        InputError: for arrays that are not plain numbers, or a name that looks like a path.
    """
    write_bytes(path, npz_bytes(arrays, manifest=manifest))
