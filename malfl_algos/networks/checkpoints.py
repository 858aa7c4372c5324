"""Checkpoints of a fit: a run that was killed resumes from them, to the same bytes."""

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

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """A folder of them, all of one fit.

    Args:
        folder: where they lie; None: none are kept.
        identity: what the fit is of and how it is made, as JSON can hold it: a checkpoint with
            another identity is rejected.
    """

    folder: Path | None
    identity: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.folder is not None and self.folder.is_dir():
            clear_leftovers(self.folder, ".*")

    def named(self, name: str, **more: Any) -> Checkpoint | None:
        """The checkpoint of a part, `more` being part of its identity."""
        if self.folder is None:
            return None
        return Checkpoint(self.folder / f"{name}.npz", {**self.identity, **more})


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One file, replaced as a whole.

    Args:
        path: of the file.
        identity: see `Checkpoints`.
    """

    path: Path
    identity: Mapping[str, Any]

    def load(self) -> tuple[Arrays, dict[str, Any]] | None:
        """What was saved last; None where nothing was.

        Raises:
            InputError: for a file that is damaged, no checkpoint, or of another fit; it names the
                file, and what differs.
        """
        if not self.path.exists():
            return None
        arrays, manifest = read_arrays(self.path)
        check_manifest(self.path, manifest, KIND, version=VERSION)
        theirs, state = manifest.get("identity"), manifest.get("state")
        if not isinstance(theirs, dict) or not isinstance(state, dict):
            raise InputError(f"{self.path}: its manifest lacks identity or state")
        for key in sorted({*theirs, *self.identity}, key=lambda name: (name == "data", name)):
            here, there = self.identity.get(key), theirs.get(key)
            if here != there:
                raise InputError(
                    f"{self.path}: this checkpoint is of another fit: {key} is {shown(there)} "
                    f"there and {shown(here)} here: take another checkpoint_dir, or remove it"
                )
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
                raise InputError(f"{self.path}: {name!r} holds values that are not finite")
        return arrays, state

    def save(self, arrays: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> None:
        """Save, in place of what was saved before."""
        said = {"identity": dict(self.identity), "state": dict(state)}
        write_arrays(self.path, arrays, manifest={"format": KIND, "version": VERSION, **said})

    def broken(self, fault: Exception) -> InputError:
        """The error for contents that do not fit."""
        return InputError(
            f"{self.path}: not what this fit writes ({fault}): take another checkpoint_dir, or "
            "remove it"
        )
