"""JSON records with a checksum: of a run, of a sweep, and of each run of a sweep.

`run.json` holds the configuration, versions and files of a run; `sweep.json` holds the grid of a
sweep. A record in which any byte has changed is rejected.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from malfl_algos.experiments.config import ExperimentConfig, from_mapping, load_config
from malfl_algos.experiments.journal import add_line, lines, remove_journal
from malfl_algos.storage.durable import is_of_system, value_hash, write_bytes
from malfl_algos.storage.lock import LOCK_NAME
from malfl_env.errors import InputError

__all__ = [
    "RECORD_NAME",
    "DamagedRecord",
    "holds_nothing",
    "read_checked",
    "read_record",
    "record_unit",
    "stale_run",
    "stored_config",
    "versions",
    "versions_that_count",
    "write_checked",
    "write_record",
]

RECORD_NAME = "run.json"
_RUN = ("malfl run folder", 2)
_PACKAGES = (
    "malfl-env",
    "numpy",
    "scipy",
    "numba",
    "gymnasium",
    "pettingzoo",
    "joblib",
    "torch",
    "stable-baselines3",
)
_SHA256 = re.compile("[0-9a-f]{64}")


class DamagedRecord(InputError):
    """A record that has changed since it was written, or is not of the expected kind."""


def write_checked(path: Path, kind: tuple[str, int], content: Mapping[str, Any]) -> None:
    """Write a record of a kind (format and version), with its checksum."""
    write_bytes(path, _text({"format": kind[0], "version": kind[1], **content}))


def read_checked(path: Path, kind: tuple[str, int]) -> dict[str, Any]:
    """The content of a record, in which no byte may have changed.

    Raises:
        DamagedRecord: naming what is wrong.
    """
    try:
        text = path.read_bytes()
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as fault:
        raise DamagedRecord(f"it cannot be read: {fault}") from fault
    if not isinstance(content, dict) or content.get("format") != kind[0]:
        raise DamagedRecord(f"it is not the record of a {kind[0]}")
    if content.get("version") != kind[1]:
        raise DamagedRecord(
            f"its version is {content.get('version')}, but this malfl reads version {kind[1]}"
        )
    content.pop("checksum", None)
    try:
        fits = _text(content) == text
    except (ValueError, RecursionError):
        fits = False
    if not fits:
        raise DamagedRecord("it is damaged, or was edited: its checksum does not fit")
    return content


def write_record(root: Path, content: Mapping[str, Any]) -> str:
    """Write `run.json`, which makes its journal obsolete; returns its checksum."""
    write_checked(root / RECORD_NAME, _RUN, content)
    remove_journal(root)
    return value_hash({"format": _RUN[0], "version": _RUN[1], **content})


def record_unit(
    root: Path,
    record: str,
    name: str,
    *,
    part: Mapping[str, Any],
    files: Mapping[str, str],
    wall_seconds: Mapping[str, float],
) -> None:
    """Record a unit beside `run.json`, which is not written again.

    Args:
        root: the run folder.
        record: the checksum of `run.json`, from `write_record`.
        name: of the unit.
        part: its entry in `parts`.
        files: all its files, by their path in the run folder, with their checksums.
        wall_seconds: of the whole run.
    """
    add_line(
        root, record, {"unit": name, "part": part, "files": files, "wall_seconds": wall_seconds}
    )


def read_record(root: Path) -> dict[str, Any]:
    """The content of `run.json` and of its journal, its parts checked.

    Raises:
        DamagedRecord: naming the file and what is wrong.
    """
    path = root / RECORD_NAME
    try:
        content = _check_parts(read_checked(path, _RUN))
        further = list(lines(root, value_hash(content)))
        return _check_parts(_with_lines(content, further)) if further else content
    except DamagedRecord as fault:
        raise DamagedRecord(f"{path}: not readable as the record of a run: {fault}") from fault


def _with_lines(content: dict[str, Any], further: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The record with the lines of its journal; a later line of a unit replaces an earlier one."""
    units = {line["unit"]: line for line in further}
    files = {
        name: checksum
        for name, checksum in content["files"].items()
        if "/".join(name.split("/")[:3]) not in units
    }
    for line in units.values():
        files |= line["files"]
    return {
        **content,
        "parts": content["parts"] | {name: line["part"] for name, line in units.items()},
        "files": files,
        "wall_seconds": further[-1]["wall_seconds"],
    }


def holds_nothing(root: Path) -> bool:
    """Whether a folder is absent or empty, apart from a lock and partial files of a run.

    A log of the command (`> OUT/run.log`, the files of a batch system), hidden files and what
    systems make (`lost+found`) do not count, either.
    """
    return not root.exists() or all(
        path.name == LOCK_NAME or is_of_system(path.name) or _is_log(path)
        for path in root.iterdir()
    )


def _is_log(path: Path) -> bool:
    return path.suffix in (".log", ".out", ".err") and path.is_file()


def stored_config(root: Path, record: Mapping[str, Any]) -> ExperimentConfig:
    """The configuration in a record of a run folder; errors as in `read_record`."""
    try:
        return from_mapping(record.get("configuration", {}))
    except InputError as fault:
        raise DamagedRecord(
            f"{root / RECORD_NAME}: not readable as the record of a run: {fault}"
        ) from fault


def stale_run(root: Path) -> tuple[ExperimentConfig, dict[str, str]]:
    """The configuration and the files of a run that is to be removed; it may be damaged."""
    try:
        record = read_record(root)
        return stored_config(root, record), dict(record["files"])
    except DamagedRecord as damage:
        try:
            if not (root / "config.yaml").is_file():  # opening a pipe would block
                raise InputError("it is no regular file")
            config = load_config(root / "config.yaml")
        except InputError as fault:
            raise DamagedRecord(
                f"{damage}; config.yaml is not readable, either ({fault}): choose another folder"
            ) from fault
        figures = (root / "figures").glob("*.png")
        return config, {path.relative_to(root).as_posix(): "" for path in figures}


@lru_cache(maxsize=1)
def _versions() -> Mapping[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that results may depend on."""
    return dict(_versions())


def versions_that_count() -> dict[str, str]:
    """The versions without the platform: hosts may differ in their kernels."""
    return {name: number for name, number in versions().items() if name != "platform"}


def _text(content: Mapping[str, Any]) -> bytes:
    whole = {**content, "checksum": value_hash(content)}
    return (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode()


def _check_parts(content: dict[str, Any]) -> dict[str, Any]:
    kinds = {"files": dict, "parts": dict, "wall_seconds": dict, "earlier_versions": list}
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise DamagedRecord(f"its {key} must be a {'mapping' if kind is dict else 'list'}")
    for name, checksum in content["files"].items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or path.as_posix() != name:
            raise DamagedRecord(f"its files must lie in its folder, got {name!r}")
        if not (isinstance(checksum, str) and _SHA256.fullmatch(checksum)):
            raise DamagedRecord(f"the checksum of {name} must be SHA-256, got {checksum!r}")
    if not all(isinstance(part, dict) for part in content["parts"].values()):
        raise DamagedRecord("each of its parts must be a mapping")
    if not isinstance(content.get("versions"), dict):
        raise DamagedRecord("its versions must be a mapping")
    plugins = content.get("plugins", [])
    if not isinstance(plugins, list) or not all(isinstance(own, dict) for own in plugins):
        raise DamagedRecord("its plugins must be a list of mappings")
    return content
