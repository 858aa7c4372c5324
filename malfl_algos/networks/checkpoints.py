"""Checkpoints of a fit: a killed run resumes from them and ends with the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.storage.arrays import check_manifest, read_arrays, write_arrays
from malfl_algos.storage.durable import clear_leftovers
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["Checkpoint", "Checkpoints"]

KIND, VERSION = "malfl network checkpoint", 1

_MOMENT = 600.0
"""Seconds after which a partial file is no longer being written."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """A folder of checkpoints, all of one fit.

    Args:
        folder: of the files; None keeps no checkpoints.
        identity: data and settings of the fit, as JSON values. A checkpoint with another identity
            is rejected.
    """

    folder: Path | None
    identity: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.folder is not None and self.folder.is_dir():
            # recent ones may be of another process, which writes the same fit at this moment
            clear_leftovers(self.folder, ".*", older_than=_MOMENT)

    def named(self, name: str, **more: Any) -> Checkpoint | None:
        """Return the checkpoint of a part of the fit; `more` is added to its identity."""
        if self.folder is None:
            return None
        return Checkpoint(self.folder / f"{name}.npz", {**self.identity, **more})


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One checkpoint file, which is always replaced as a whole.

    Args:
        path: of the file.
        identity: see `Checkpoints`.
    """

    path: Path
    identity: Mapping[str, Any]

    def load(self) -> tuple[Arrays, dict[str, Any]] | None:
        """Return the arrays and the state that were saved last, or None if no file exists.

        Raises:
            InputError: if the file is damaged, is not a checkpoint, or belongs to another fit. The
                message names the file and the difference.
        """
        if not self.path.exists():
            return None
        arrays, manifest = read_arrays(self.path)
        check_manifest(self.path, manifest, KIND, version=VERSION)
        theirs, state = manifest.get("identity"), manifest.get("state")
        if not isinstance(theirs, dict) or not isinstance(state, dict):
            raise InputError(f"{self.path}: the manifest lacks identity or state")
        for key in sorted({*theirs, *self.identity}, key=lambda name: (name == "data", name)):
            here, there = self.identity.get(key), theirs.get(key)
            if here != there:
                raise InputError(
                    f"{self.path}: this checkpoint belongs to another fit: {key} is {shown(there)} "
                    f"there and {shown(here)} here; choose another checkpoint_dir, or remove it"
                )
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
                raise InputError(f"{self.path}: {name!r} holds values that are not finite")
        return arrays, state

    def save(self, arrays: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> None:
        """Save arrays and state; they replace what was saved before."""
        content = {"identity": dict(self.identity), "state": dict(state)}
        write_arrays(self.path, arrays, manifest={"format": KIND, "version": VERSION, **content})

    def broken(self, fault: Exception) -> InputError:
        """Return the error for contents that do not fit."""
        return InputError(
            f"{self.path}: the contents do not fit ({fault}); choose another checkpoint_dir, or "
            "remove the file"
        )
