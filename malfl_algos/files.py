"""Files: whole or not at all, and nothing in them is ever executed."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_manifest", "read_arrays", "write_arrays", "write_bytes", "write_json"]

MANIFEST = "manifest"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. A value that JSON does not know (NaN, infinity) is an error."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], *, manifest: Mapping[str, Any] | None = None
) -> None:
    """Write arrays, and JSON text that describes them, as one compressed npz, atomically.

    The same arrays and manifest give the same bytes.
    """
    content = {name: np.asarray(array) for name, array in arrays.items()}
    if manifest is not None:
        content[MANIFEST] = np.array(json.dumps(manifest, sort_keys=True, allow_nan=False))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **content)
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read an npz: its arrays and its manifest (empty when it has none). Never unpickles.

    Raises:
        ValueError: where the file is missing, cut, damaged, or holds anything but plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        manifest = json.loads(str(arrays.pop(MANIFEST, "{}")))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as fault:
        raise ValueError(
            f"{path}: not a readable npz of plain arrays (cut, damaged or of another kind): {fault}"
        ) from fault
    if not isinstance(manifest, dict):
        raise ValueError(f"{path}: its manifest must be a JSON mapping")
    return arrays, manifest


def check_manifest(path: Path, manifest: Mapping[str, Any], kind: str, *, version: int) -> None:
    """Refuse a file that is of another kind, or of a version that is not known."""
    if manifest.get("format") != kind or manifest.get("version") != version:
        raise ValueError(
            f"{path}: expected a {kind} of version {version}, its manifest says "
            f"{manifest.get('format', 'nothing')!r} version {manifest.get('version', 'none')!r}"
        )


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
