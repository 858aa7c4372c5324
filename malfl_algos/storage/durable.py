"""Files and folders that are complete or absent, even if the process or the power fails; JSON and
checksums.

A file or folder has a name that ends in `.partial` until it is complete. A folder that is being
replaced has a name that ends in `.replaced` for that moment. If such a name remains, a process has
died, and `clear_leftovers` removes the file or folder.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = [
    "NoSpace",
    "clear_leftovers",
    "clear_the_way",
    "file_checksum",
    "folder_checksums",
    "is_leftover",
    "is_of_system",
    "is_special",
    "json_bytes",
    "keep_others",
    "leftovers",
    "make_folder",
    "naming_no_space",
    "partial_file",
    "partial_folder",
    "replace_folder",
    "sound_checksum",
    "sync_folder",
    "value_hash",
    "write_bytes",
    "write_json",
    "write_where_told",
]

_PARTIAL, _REPLACED = ".partial", ".replaced"
_OF_SYSTEMS = {"lost+found", "Thumbs.db", "desktop.ini", "@eaDir", "System Volume Information"}
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class NoSpace(OSError):
    """A file could not be written because the disk is full; the message names it."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file: a reader sees the old content or the new one, never a part of it.

    When this returns, the content is on the disk. A file that has this content already is not
    written.

    Raises:
        NoSpace: if the disk is full, or a quota or limit is reached.
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


def write_where_told(path: Path, content: bytes) -> None:
    """Write a file that a user named: atomically, but through links, pipes and devices.

    `write_bytes` would replace `/dev/null` or `/dev/stdout` by a file.

    Raises:
        NoSpace: as `write_bytes`.
    """
    if path.is_symlink() and not is_special(path):
        path = path.resolve()
    if not is_special(path):
        write_bytes(path, content)
        return
    with naming_no_space(path), path.open("wb") as stream:
        stream.write(content)


def is_special(path: Path) -> bool:
    """Whether a path is a pipe, a device or a socket, also through links."""
    return path.exists() and not (path.is_file() or path.is_dir())


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. A value that JSON cannot express (NaN, infinity) is an error."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """JSON text with a line for each value; errors as in `write_json`."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def make_folder(folder: Path) -> None:
    """Make a folder and its parents if necessary, so that they survive a loss of power."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def replace_folder(partial: Path, target: Path) -> None:
    """Move a complete folder to its final place; a folder at that place is replaced.

    A process that dies in between leaves the old folder, the new one, or the old one under a name
    from which `clear_leftovers` restores it.
    """
    replaced = target.with_name(f".{target.name}{_REPLACED}")
    if os.path.lexists(target):
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(target, replaced)
    os.replace(partial, target)
    sync_folder(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def keep_others(source: Path, target: Path, known: Collection[str]) -> None:
    """Add the files of a folder that is to be replaced, except the known ones, to the new folder.

    They are linked, so that they are in both folders until the old one is removed.

    Args:
        source: the old folder; it may be missing.
        target: the new folder; what it has already stays.
        known: paths in the old folder, in POSIX form, that are not kept.
    """
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            continue
        if name.as_posix() not in known and not os.path.lexists(target / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target / name, follow_symlinks=False)
            except (OSError, NotImplementedError):  # a file system without links
                shutil.copy2(path, target / name, follow_symlinks=False)


def clear_the_way(root: Path, *, files: Iterable[str], folders: Iterable[str]) -> list[str]:
    """Rename folders in the place of files, and other things in the place of folders.

    Other things in the place of a file, such as a link, need not be renamed: a new file replaces
    them.

    Args:
        root: a folder.
        files, folders: paths in it, in POSIX form.

    Returns:
        A line for everything that was renamed.
    """
    wanted = {name: False for name in files} | {name: True for name in folders}
    for name in list(wanted):
        wanted |= {parent.as_posix(): True for parent in PurePosixPath(name).parents[:-1]}
    lines = []
    for name, is_folder in sorted(wanted.items()):
        path = root / name
        if os.path.lexists(path) and path.is_dir() != is_folder and (is_folder or path.is_dir()):
            kind = "folder" if path.is_dir() else "file"
            moved = path.with_name(f"{path.name}.moved-{secrets.token_hex(4)}")
            os.replace(path, moved)
            lines.append(f"{name}: a {kind} was in its place and is now {moved.name}")
    return lines


def partial_file(path: Path) -> Path:
    """A unique temporary name for a file that is being written."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")


def partial_folder(path: Path) -> Path:
    """The temporary name of a folder that is being written."""
    return path.with_name(f".{path.name}{_PARTIAL}")


def is_leftover(name: str) -> bool:
    """Whether a name belongs to a file or folder that is incomplete or being replaced."""
    return name.startswith(".") and name.endswith((_PARTIAL, _REPLACED))


def is_of_system(name: str) -> bool:
    """Whether systems and file managers make files of this name; they are ignored, and kept."""
    return name.startswith(".") or name in _OF_SYSTEMS


def leftovers(root: Path, *patterns: str) -> list[Path]:
    """Files and folders that dead processes left, among the paths of these patterns in a folder."""
    found = {path for pattern in patterns for path in root.glob(pattern)}
    return sorted(path for path in found if is_leftover(path.name))


def clear_leftovers(root: Path, *patterns: str, older_than: float = 0.0) -> None:
    """Remove leftovers; a replaced folder returns if its replacement is missing.

    Args:
        root, patterns: as in `leftovers`.
        older_than: seconds since the last change of a leftover that is removed; more than 0 where
            other processes may write in the folder.
    """
    for path in leftovers(root, *patterns):
        if older_than and not _is_older(path, older_than):
            continue
        if path.name.endswith(_REPLACED):
            target = path.with_name(path.name[1 : -len(_REPLACED)])
            if not target.exists():
                os.replace(path, target)
                continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_older(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime > seconds
    except OSError:  # another process has removed it
        return False


def sync_folder(folder: Path) -> None:
    """Write the list of a folder's files to the disk, if the system can."""
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


def sound_checksum(path: Path) -> str:
    """The checksum of a regular file; empty if there is none that can be read."""
    try:
        return file_checksum(path) if path.is_file() else ""
    except OSError:
        return ""


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
    """Turn the system's error for a full disk into a `NoSpace` that names the file."""
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
