"""The folder of a run: may one write there, what is done in it, and its record `run.json`."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from malfl_algos.experiments.checksums import file_checksum
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig, from_mapping, to_mapping
from malfl_algos.experiments.resume import extended
from malfl_algos.experiments.units import Outcome, Unit, has_transitions
from malfl_algos.experiments.yaml_files import yaml_text
from malfl_algos.files import write_bytes, write_json
from malfl_algos.plugins import Plugin

__all__ = ["RunFolder", "check_writable", "open_run"]

_FORMAT = "malfl run folder"
_TABLES = ("summary.json", "cross_correlation.csv", "trend.csv")
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


@dataclass
class RunFolder:
    """A run on its way. Made by `open_run`; nothing is written before `begin`.

    Args:
        root: the folder.
        config: what is run: what was there and what was asked for, together.
        files: checksums by path in the folder.
        wall_seconds: by phase, summed over all calls and workers.
        earlier_versions: other versions under which parts of this run were made.
        stale: the configuration that is to be cleared away, when starting afresh.
        failures: units that failed in this call.
    """

    root: Path
    config: ExperimentConfig
    files: dict[str, str] = field(default_factory=dict)
    wall_seconds: dict[str, float] = field(default_factory=dict)
    earlier_versions: list[dict[str, str]] = field(default_factory=list)
    stale: ExperimentConfig | None = None
    failures: list[Outcome] = field(default_factory=list)
    plugins: Sequence[tuple[PluginConfig, Plugin]] = ()

    def begin(self, plugins: Sequence[tuple[PluginConfig, Plugin]]) -> None:
        """Make the folder, clear it where asked, and write `run.json` and `config.yaml`."""
        self.plugins = plugins
        self.root.mkdir(parents=True, exist_ok=True)
        if self.stale is not None:
            self._clear(self.stale)
        self.save()
        write_bytes(self.root / "config.yaml", yaml_text(to_mapping(self.config)).encode())
        self.add_files([self.root / "config.yaml"])

    def units(self, kind: Literal["learner", "observer"]) -> Iterator[Unit]:
        """All units of a kind, done or not."""
        return _units(self.root, self.config, kind)

    def is_done(self, unit: Unit, *, transitions: bool = False) -> bool:
        """Whether a unit's files are all there and as they were written.

        Args:
            unit: the unit.
            transitions: whether its trace must hold the transitions.
        """
        prefix = unit.folder.relative_to(self.root).as_posix() + "/"
        own = {path: known for path, known in self.files.items() if path.startswith(prefix)}
        whole = bool(own) and all(
            (self.root / path).is_file() and file_checksum(self.root / path) == known
            for path, known in own.items()
        )
        return whole and (not transitions or has_transitions(unit.folder / "trace.npz"))

    def add(self, outcome: Outcome) -> None:
        """Record what came of a unit."""
        self.add_seconds(outcome.unit.kind, outcome.seconds)
        if outcome.fault is not None:
            self.failures.append(outcome)
        else:
            prefix = outcome.unit.folder.relative_to(self.root).as_posix() + "/"
            self.files = {p: c for p, c in self.files.items() if not p.startswith(prefix)}
            self.files |= outcome.checksums
        self.save()

    def add_files(self, paths: Sequence[Path]) -> None:
        """Record files that belong to no unit."""
        for path in paths:
            self.files[path.relative_to(self.root).as_posix()] = file_checksum(path)
        self.save()

    def add_seconds(self, phase: str, seconds: float) -> None:
        """Add wall time to a phase; the next `save` writes it."""
        self.wall_seconds[phase] = round(self.wall_seconds.get(phase, 0.0) + seconds, 3)

    def save(self) -> None:
        """Write `run.json`."""
        content = {
            "format": _FORMAT,
            "versions": _versions(),
            "earlier_versions": self.earlier_versions,
            "configuration": to_mapping(self.config),
            "seeds": list(self.config.seeds),
            "plugins": [
                {
                    "kind": plugin.kind,
                    "label": wanted.label,
                    "name": plugin.name,
                    "distribution": plugin.distribution,
                    "version": plugin.version,
                }
                for wanted, plugin in self.plugins
            ],
            "wall_seconds": self.wall_seconds,
            "failures": [
                {"unit": str(failed.unit), "fault": failed.fault, "traceback": failed.traceback}
                for failed in self.failures
            ],
            "files": dict(sorted(self.files.items())),
        }
        write_json(self.root / "run.json", content)

    def _clear(self, stale: ExperimentConfig) -> None:
        """Remove what an earlier run wrote and nothing else; `run.json` last, to be resumable."""
        for kind in ("learner", "observer"):
            for unit in _units(self.root, stale, kind):
                shutil.rmtree(unit.folder, ignore_errors=True)
                _remove_if_empty(unit.folder.parent)
                _remove_if_empty(unit.folder.parent.parent)
        figures = [PurePosixPath(path) for path in self.files]
        for path in (
            *_TABLES,
            *(f"figures/{p.name}" for p in figures if p.parent.name == "figures"),
        ):
            (self.root / path).unlink(missing_ok=True)
        _remove_if_empty(self.root / "figures")
        self.files = {}
        for name in ("config.yaml", "run.json"):
            (self.root / name).unlink(missing_ok=True)


def open_run(root: Path, asked: ExperimentConfig, *, overwrite: bool) -> RunFolder:
    """Look at a folder in which a configuration is to be run. Writes nothing.

    Args:
        root: absent, empty, or the folder of a run, whose missing parts are then what is left to
            do.
        asked: the configuration.
        overwrite: start afresh in the folder of a run.

    Raises:
        ValueError: where the folder is a file, not writable, or holds something else, or its run
            differs from what is asked.
    """
    check_writable(root)
    if not root.exists() or not any(root.iterdir()):
        return RunFolder(root, asked)
    stored, record = _read_record(root)
    files = dict(record.get("files", {}))
    if overwrite:
        return RunFolder(root, asked, files=files, stale=stored)
    try:
        config = extended(stored, asked)
    except ValueError as fault:
        raise ValueError(
            f"{root} holds another run: {fault}; choose another folder, or --overwrite"
        ) from fault
    earlier = list(record.get("earlier_versions", []))
    if record.get("versions") not in (_versions(), *earlier):
        earlier.append(record.get("versions"))
    return RunFolder(root, config, files, dict(record.get("wall_seconds", {})), earlier)


def check_writable(folder: Path) -> None:
    """Refuse a folder in which files cannot be made. It need not exist.

    Raises:
        ValueError: naming the folder and what is wrong.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"the output folder {folder} cannot be made: {place} is a file")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise ValueError(f"the output folder {folder} is not writable: no permission in {place}")


def _read_record(root: Path) -> tuple[ExperimentConfig, dict[str, Any]]:
    """The configuration and the record of the run in a folder."""
    path = root / "run.json"
    if not path.is_file():
        raise ValueError(
            f"the output folder {root} is not empty and not the folder of a run (no run.json): "
            "choose another"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            raise ValueError(f"it is not the record of a {_FORMAT}")
        if not all(isinstance(record.get(key, {}), dict) for key in ("files", "wall_seconds")):
            raise ValueError("its files and wall_seconds must be mappings")
        return from_mapping(record.get("configuration", {})), record
    except (OSError, ValueError) as fault:
        raise ValueError(
            f"{path}: not readable as the record of a run: {fault}; choose another folder"
        ) from fault


def _units(
    root: Path, config: ExperimentConfig, kind: Literal["learner", "observer"]
) -> Iterator[Unit]:
    plugins = (config.learner,) if kind == "learner" else config.observers
    for family in config.reward_families:
        for seed in config.seeds:
            for plugin in plugins:
                yield Unit(config, root, kind, family, seed, plugin)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
