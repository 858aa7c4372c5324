"""SHA-256: of files, by their path in the run folder, and of plain values."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

__all__ = ["file_checksum", "folder_checksums", "value_hash"]


def file_checksum(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def value_hash(value: Any) -> str:
    """SHA-256 of plain values, in hexadecimal; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(text.encode()).hexdigest()


def folder_checksums(folder: Path) -> dict[str, str]:
    """Checksums of all files in a folder, by their POSIX path in it."""
    return {
        path.relative_to(folder).as_posix(): file_checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
