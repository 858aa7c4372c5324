"""What happened in a run since its record was written, a line per unit.

`run.json` lists every unit, so writing it after each of n units takes time in the square of n. A
unit is therefore recorded by one line in `run.journal`, until `run.json` is written again. A
journal belongs to one version of `run.json`, whose checksum its first line has: lines beside any
other version are in it already, or of a run that was replaced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from malfl_algos.storage.durable import naming_no_space, sync_folder

__all__ = ["JOURNAL_NAME", "add_line", "lines", "remove_journal"]

JOURNAL_NAME = "run.journal"


def add_line(root: Path, record: str, content: Mapping[str, Any]) -> None:
    """Add a line to the journal. When this returns, it is on the disk.

    Args:
        root: the run folder.
        record: checksum of the present `run.json`.
        content: JSON.

    Raises:
        NoSpace: if the disk is full.
    """
    path = root / JOURNAL_NAME
    fresh = not path.exists()
    with naming_no_space(path), path.open("ab") as stream:
        stream.write((_line({"record": record}) if fresh else b"") + _line(content))
        stream.flush()
        os.fsync(stream.fileno())
    if fresh:
        sync_folder(root)


def lines(root: Path, record: str) -> Iterator[dict[str, Any]]:
    """The lines of the journal of a record, up to the first one that is damaged or incomplete.

    Args:
        root: the run folder.
        record: checksum of the present `run.json`.
    """
    try:
        content = (root / JOURNAL_NAME).read_bytes()
    except OSError:  # no journal; a pipe or a folder in its place is removed with it
        return
    for number, line in enumerate(content.splitlines(keepends=True)):
        checksum, _, text = line.partition(b" ")
        if sha256(text).hexdigest().encode() != checksum:
            return
        entry = json.loads(text)
        if number == 0:
            if entry != {"record": record}:
                return
        else:
            yield entry


def remove_journal(root: Path) -> None:
    """Remove the journal, after its lines have been written into `run.json`."""
    (root / JOURNAL_NAME).unlink(missing_ok=True)


def _line(content: Mapping[str, Any]) -> bytes:
    text = (json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n").encode()
    return sha256(text).hexdigest().encode() + b" " + text
