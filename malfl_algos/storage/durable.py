"""Files and folders that are whole or not there, even where the process or the power fails; JSON
and checksums.

What is being made has a name that ends in `.partial`; a folder that gives way to a new one has a
name that ends in `.replaced` for that moment. Whatever has such a name later was left by a process
that died, and `clear_leftovers` removes it.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

__all__ = [
    "NoSpace",
    "clear_leftovers",
    "file_checksum",
    "folder_checksums",
    "is_leftover",
    "leftovers",
    "make_folder",
    "naming_no_space",
    "partial_file",
    "partial_folder",
    "replace_folder",
    "sync_folder",
    "value_hash",
    "write_bytes",
    "write_json",
]

_PARTIAL, _REPLACED = ".partial", ".replaced"
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class NoSpace(OSError):
    """A file could not be written for want of room; the message names it."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file: a reader sees the old content or the new, never a part of it.

    When this returns, the content is on the disk. A file that has it already is left alone.

    Raises:
        NoSpace: where the disk is full, or a quota or limit is reached.
    """
    with naming_no_space(path):
        if _has(path, content):
            return
        make_folder(path.parent)
        temporary = partial_file(path)
        try:
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. A value that JSON does not know (NaN, infinity) is an error."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if need be, so that they outlive a loss of power."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def replace_folder(partial: Path, target: Path) -> None:
    """Let a complete folder take the place of another, or of none.

    A process that dies in between leaves the old one, the new one, or the old one under a name
    that `clear_leftovers` takes back.
    """
    replaced = target.with_name(f".{target.name}{_REPLACED}")
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(target, replaced)
    os.replace(partial, target)
    sync_folder(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def partial_file(path: Path) -> Path:
    """A name of its own for what will become a file."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")


def partial_folder(path: Path) -> Path:
    """The name of what will become a folder."""
    return path.with_name(f".{path.name}{_PARTIAL}")


def is_leftover(name: str) -> bool:
    """Whether a name is of something that is not complete, or gives way to something."""
    return name.startswith(".") and name.endswith((_PARTIAL, _REPLACED))


def leftovers(root: Path, *patterns: str) -> list[Path]:
    """What was left by a process that died, among the paths of these patterns in a folder."""
    found = {path for pattern in patterns for path in root.glob(pattern)}
    return sorted(path for path in found if is_leftover(path.name))


def clear_leftovers(root: Path, *patterns: str) -> None:
    """Remove them; a folder that gave way to one that never came takes its place again."""
    for path in leftovers(root, *patterns):
        if path.name.endswith(_REPLACED):
            target = path.with_name(path.name[1 : -len(_REPLACED)])
            if not target.exists():
                os.replace(path, target)
                continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Put what a folder lists on the disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no such call
            os.fsync(handle)
    finally:
        os.close(handle)


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


@contextmanager
def naming_no_space(path: Path) -> Iterator[None]:
    """Turn the system's words for a full disk into ones that name the file."""
    try:
        yield
    except OSError as fault:
        if fault.errno not in _FULL:
            raise
        raise NoSpace(
            f"{path}: no space to write it ({fault.strerror}): make room, or raise the quota or "
            "the limit of file sizes, and run the same command again"
        ) from fault


def _has(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False
