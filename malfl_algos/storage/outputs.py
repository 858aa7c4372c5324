"""Checks of a place for outputs, before the work begins."""

from __future__ import annotations

import os
from pathlib import Path

from malfl_env.errors import InputError

__all__ = ["check_writable"]


def check_writable(folder: Path) -> None:
    """Reject a folder in which files cannot be made. It need not exist.

    Raises:
        InputError: naming the folder and what is wrong.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"the output folder {folder} cannot be made: {place} is a file")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(f"the output folder {folder} is not writable: no permission in {place}")
