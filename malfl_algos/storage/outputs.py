"""Checks of a place for outputs, before the work begins."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from malfl_algos.storage.durable import NoSpace, naming_no_space
from malfl_env.errors import InputError

__all__ = ["check_writable"]


def check_writable(folder: Path) -> None:
    """Reject a folder in which files cannot be made. It need not exist.

    An empty folder is made and removed, since the permissions of system folders such as `/proc` and
    `/sys` do not tell that nothing can be made in them.

    Raises:
        InputError: naming the folder and what is wrong.
        NoSpace: if the disk is full.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"the output folder {folder} cannot be made: {place} is a file")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(f"the output folder {folder} is not writable: no permission in {place}")
    try:
        with naming_no_space(folder), tempfile.TemporaryDirectory(prefix=".", dir=place):
            pass
    except NoSpace:
        raise
    except OSError as fault:
        raise InputError(
            f"the output folder {folder} is not writable: no folder can be made in {place} "
            f"({fault.strerror}); choose another folder"
        ) from fault
