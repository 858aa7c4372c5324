"""SHA-256 of files, by their path in the run folder."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

__all__ = ["file_checksum", "folder_checksums"]


def file_checksum(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_checksums(folder: Path, *, root: Path) -> dict[str, str]:
    """Checksums of all files in a folder, by their POSIX path in `root`."""
    return {
        path.relative_to(root).as_posix(): file_checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
