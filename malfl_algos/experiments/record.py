"""The record of a run, `run.json`: what was run, with what, and what came of it."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from malfl_algos.experiments.config import ExperimentConfig, from_mapping, load_config
from malfl_algos.storage.durable import is_leftover, value_hash, write_bytes
from malfl_algos.storage.lock import LOCK_NAME
from malfl_env.errors import InputError

__all__ = [
    "RECORD_NAME",
    "DamagedRecord",
    "holds_nothing",
    "read_record",
    "versions",
    "write_record",
]

RECORD_NAME = "run.json"
_FORMAT = "malfl run folder"
_VERSION = 2
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
    """A file `run.json` that is not as it was written, or no record of a run at all."""


def write_record(root: Path, content: Mapping[str, Any]) -> None:
    """Write `run.json`, with a checksum of itself."""
    write_bytes(root / RECORD_NAME, _text({"format": _FORMAT, "version": _VERSION, **content}))


def read_record(root: Path) -> dict[str, Any]:
    """The content of `run.json`, to the byte as it was written.

    Raises:
        DamagedRecord: where it is not; the message names it.
    """
    path = root / RECORD_NAME
    try:
        return _parsed(path.read_bytes())
    except (OSError, ValueError, RecursionError) as fault:
        raise DamagedRecord(f"{path}: not readable as the record of a run: {fault}") from fault


def holds_nothing(root: Path) -> bool:
    """Whether a folder is absent or empty, but for what a run leaves that hardly began.

    A log of the command (`> OUT/run.log`, the files of a batch system) does not count either.
    """
    return not root.exists() or all(
        path.name == LOCK_NAME or is_leftover(path.name) or _is_log(path) for path in root.iterdir()
    )


def _is_log(path: Path) -> bool:
    return path.suffix in (".log", ".out", ".err") and path.is_file()


def stored_config(root: Path, record: Mapping[str, Any]) -> ExperimentConfig:
    """The configuration in a record of a run folder; errors as in `read_record`."""
    try:
        return from_mapping(record.get("configuration", {}))
    except ValueError as fault:
        raise DamagedRecord(
            f"{root / RECORD_NAME}: not readable as the record of a run: {fault}"
        ) from fault


def stale_run(root: Path) -> tuple[ExperimentConfig, dict[str, str]]:
    """The configuration and the files of a run that is to be cleared away, damaged or not."""
    try:
        record = read_record(root)
        return stored_config(root, record), dict(record["files"])
    except DamagedRecord as damage:
        try:
            config = load_config(root / "config.yaml")
        except ValueError as fault:
            raise DamagedRecord(
                f"{damage}; nor is the configuration ({fault}): choose another folder"
            ) from fault
        pictures = (root / "figures").glob("*.png")
        return config, {path.relative_to(root).as_posix(): "" for path in pictures}


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
    """Of Python, the platform and the packages that results come from."""
    return dict(_versions())


def _text(content: Mapping[str, Any]) -> bytes:
    whole = {**content, "checksum": value_hash(content)}
    return (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode()


def _parsed(text: bytes) -> dict[str, Any]:
    content = json.loads(text)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"it is not the record of a {_FORMAT}")
    if content.get("version") != _VERSION:
        raise InputError(f"it is of version {content.get('version')}, this malfl knows {_VERSION}")
    content.pop("checksum", None)
    if _text(content) != text:
        raise InputError("it is damaged, or was edited: its checksum does not fit")
    kinds = {"files": dict, "parts": dict, "wall_seconds": dict, "earlier_versions": list}
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise InputError(f"its {key} must be a {'mapping' if kind is dict else 'list'}")
    for name, checksum in content["files"].items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or path.as_posix() != name:
            raise InputError(f"its files must lie in its folder, got {name!r}")
        if not (isinstance(checksum, str) and _SHA256.fullmatch(checksum)):
            raise InputError(f"the checksum of {name} must be SHA-256, got {checksum!r}")
    if not all(isinstance(part, dict) for part in content["parts"].values()):
        raise InputError("each of its parts must be a mapping")
    return content
