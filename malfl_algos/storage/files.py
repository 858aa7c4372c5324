"""Files: whole or not at all, and nothing in them is ever executed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.storage.arrays import MANIFEST, check_array, read_npz
from malfl_algos.storage.durable import write_bytes
from malfl_env.errors import InputError

__all__ = ["check_manifest", "read_arrays", "write_arrays", "write_bytes", "write_json"]


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. A value that JSON does not know (NaN, infinity) is an error."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], *, manifest: Mapping[str, Any] | None = None
) -> None:
    """Write arrays, and JSON text that describes them, as one compressed npz, atomically.

    The same arrays and manifest give the same bytes.

    Raises:
        InputError: for anything but arrays of plain numbers, or a name that looks like a path.
    """
    content = {name: np.asarray(array) for name, array in arrays.items()}
    if manifest is not None:
        content[MANIFEST] = np.array(json.dumps(manifest, sort_keys=True, allow_nan=False))
    for name, array in content.items():
        check_array(name, array)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **content)
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read an npz: its arrays and its manifest (empty when it has none). Never unpickles.

    Raises:
        InputError: as `read_npz`, or where the manifest is no JSON mapping.
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
    """Refuse a file that is of another kind, or of a version that is not known."""
    if manifest.get("format") != kind or manifest.get("version") != version:
        raise InputError(
            f"{path}: expected a {kind} of version {version}, its manifest says "
            f"{manifest.get('format', 'nothing')!r} version {manifest.get('version', 'none')!r}"
        )
