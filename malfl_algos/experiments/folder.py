"""The folder of a run: whether it can be written, which units are done, and its record."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from malfl_algos.experiments.config import (
    ExperimentConfig,
    PluginConfig,
    extended,
    to_mapping,
)
from malfl_algos.experiments.jobs import Outcome, Unit, has_transitions
from malfl_algos.experiments.makers import maker
from malfl_algos.experiments.named_games import game_checksum
from malfl_algos.experiments.records import (
    RECORD_NAME,
    DamagedRecord,
    holds_nothing,
    read_record,
    record_unit,
    stale_run,
    stored_config,
    versions,
    write_record,
)
from malfl_algos.plugins.loading import Plugin
from malfl_algos.storage.durable import (
    clear_the_way,
    file_checksum,
    keep_others,
    make_folder,
    partial_folder,
    replace_folder,
    sound_checksum,
    value_hash,
    write_bytes,
)
from malfl_algos.storage.outputs import check_writable
from malfl_algos.storage.yaml_files import yaml_text
from malfl_env.errors import InputError

__all__ = ["LEFTOVERS", "TABLES", "RunFolder", "open_run", "run_units"]

TABLES = ("summary.json", "cross_correlation.csv", "trend.csv")
_OWN = {
    *("trace.npz", "ground_truth.npz", "rewards.npz", "reward_functions.npz", "posterior.npz"),
    *("estimated_policies.npz", "targets.npz", "potentials.npz", "verdict.npz"),
    *("diagnostics.json", "trend.json", "result.json"),
}
"""Names of the files of units."""
LEFTOVERS = (".*", "figures/.*", "*/seed_*/.*")
"""Where a process that died may have left partial files in a run folder."""

Part = Literal["tables", "figures"]
_KINDS: tuple[Literal["learner"], Literal["observer"]] = ("learner", "observer")


@dataclass
class RunFolder:
    """A run in progress. Made by `open_run`; nothing is written before `begin`.

    A process that writes must hold the folder's lock, `malfl_algos.storage.lock.run_lock`.

    Args:
        root: the folder.
        config: the stored and the requested experiment together.
        files: checksums by path in the folder.
        parts: by name of a unit, and for "tables" and "figures": their state (done, failed or
            missing), the versions they were made with, and what they were made from.
        wall_seconds: by phase, summed over all calls and workers.
        earlier_versions: other versions under which parts of this run were made.
        stale: the configuration of an earlier run that is to be removed first.
        failures: units that failed in this call.
        plugins: the learner and the observers, each with its installed plugin.
        recorded: by label, the plugins of the call before; they made the units of folders whose
            parts do not name their plugin.
    """

    root: Path
    config: ExperimentConfig
    files: dict[str, str] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    wall_seconds: dict[str, float] = field(default_factory=dict)
    earlier_versions: list[dict[str, str]] = field(default_factory=list)
    stale: ExperimentConfig | None = None
    failures: list[Outcome] = field(default_factory=list)
    plugins: Sequence[tuple[PluginConfig, Plugin]] = ()
    recorded: Mapping[str, Any] = field(default_factory=dict)
    _record: str = field(default="", init=False)
    _places: dict[str, set[str]] = field(default_factory=dict, init=False)

    def begin(self, plugins: Sequence[tuple[PluginConfig, Plugin]]) -> list[str]:
        """Make the folder, remove the earlier run if there is one, and write `run.json` and
        `config.yaml`.

        Returns:
            A line for everything that was moved because it stands in the place of a file or folder.
        """
        self.plugins = plugins
        make_folder(self.root)
        if self.stale is not None:
            self._clear(self.stale)
        units = {unit.name for kind in _KINDS for unit in self.units(kind)}
        files = {*self.files, *TABLES, "config.yaml"}
        lines = clear_the_way(self.root, files=files, folders={*units, "figures"})
        self.save()
        write_bytes(self.root / "config.yaml", yaml_text(to_mapping(self.config)).encode())
        self.add_files([self.root / "config.yaml"])
        return lines

    def strays(self, unit: Unit) -> list[str]:
        """Files in a unit's folder that are named like ours and not recorded, by their path."""
        there = (path.relative_to(self.root).as_posix() for path in unit.folder.glob("*"))
        return sorted(
            name for name in there if name.rpartition("/")[2] in _OWN and name not in self.files
        )

    def units(self, kind: Literal["learner", "observer"]) -> Iterator[Unit]:
        """All units of a kind, done or not."""
        return run_units(self.root, self.config, kind)

    def is_done(self, unit: Unit, *, transitions: bool = False) -> bool:
        """Whether all files of a unit are present and unchanged.

        The files of an observer must also come from the present trace of its learner.

        Args:
            unit: the unit.
            transitions: whether its trace must hold the transitions.
        """
        part = self.parts.get(unit.name, {})
        if part.get("state") != "done" or not self.whole(f"{unit.name}/") or self.strays(unit):
            return False
        if unit.kind == "observer":
            learner = unit.learner_folder.relative_to(self.root).as_posix()
            return bool(part.get("trace") == self.parts.get(learner, {}).get("trace"))
        return not transitions or has_transitions(unit.folder / "trace.npz")

    def whole(self, prefix: str) -> set[str]:
        """The recorded files whose path starts with the prefix; empty if any has changed."""
        known = self.known(prefix)
        return known if known == self.sound(prefix) else set()

    def sound(self, prefix: str) -> set[str]:
        """The recorded files whose path starts with the prefix and that are unchanged."""
        return {
            path
            for path in self.known(prefix)
            if sound_checksum(self.root / path) == self.files[path]
        }

    def known(self, place: str) -> set[str]:
        """The recorded files in the folder of a unit or of the figures, or of one name.

        Args:
            place: `<name of the unit>/`, `figures/`, or the name of a file.
        """
        if not self._places:
            for path in self.files:
                self._places.setdefault(_place(path), set()).add(path)
        return self._places.get(place, set())

    def add(self, outcome: Outcome) -> None:
        """Move the files of a unit to their place, and record them."""
        unit: Unit = outcome.job
        self.add_seconds(unit.kind, outcome.seconds)
        if outcome.checksums is None:
            self.failures.append(outcome)
            if self.parts.get(unit.name, {}).get("state") != "done":
                self.parts[unit.name] = {"state": "failed", "fault": outcome.faults[0]}
        else:
            prefix = f"{unit.name}/"
            before = self.known(prefix)
            keep_others(
                unit.folder, partial_folder(unit.folder), {p[len(prefix) :] for p in before} | _OWN
            )
            replace_folder(partial_folder(unit.folder), unit.folder)
            self._set_files(before, {f"{prefix}{path}": c for path, c in outcome.checksums.items()})
            self.parts[unit.name] = {
                "state": "done",
                "checksum": value_hash(outcome.checksums),
                "versions": value_hash(versions()),
                "trace": outcome.trace,
                "plugin": maker(unit, self.plugins),
            }
        record_unit(
            self.root,
            self._record,
            unit.name,
            part=self.parts[unit.name],
            files={path: self.files[path] for path in self.known(f"{unit.name}/")},
            wall_seconds=self.wall_seconds,
        )

    def add_files(self, paths: Sequence[Path]) -> None:
        """Record files that belong to no unit."""
        self._note(paths)
        self.save()

    def made_from(self, part: Part) -> str:
        """A hash of everything that tables or figures depend on: units, versions, tables."""
        names = (unit.name for kind in _KINDS for unit in self.units(kind))
        units = {name: self.parts.get(name, {}).get("checksum") for name in names}
        tables = {name: self.files.get(name) for name in TABLES} if part == "figures" else {}
        return value_hash([to_mapping(self.config), units, tables, versions()])

    def is_current(self, part: Part) -> bool:
        """Whether tables or figures were made from the present units; files may be damaged."""
        return self.parts.get(part, {}).get("made_from") == self.made_from(part)

    def is_complete(self, part: Part) -> bool:
        """Whether all tables or figures were made from the present units."""
        return self.is_current(part) and self.parts[part].get("state") == "done"

    def begin_part(self, part: Part) -> None:
        """Forget the former tables or figures, which were made from other units."""
        self._set_files({*TABLES} if part == "tables" else self.known("figures/"), {})
        self._make(part, "begun", ())

    def add_figure(self, path: Path) -> None:
        """Record one figure, so that it is not drawn again."""
        self._make("figures", "begun", [path])

    def add_part(self, part: Part, paths: Sequence[Path]) -> None:
        """Record tables or figures as done."""
        self._make(part, "done", paths)

    def _make(self, part: Part, state: str, paths: Sequence[Path]) -> None:
        self._note(paths)
        made = {"versions": value_hash(versions()), "made_from": self.made_from(part)}
        self.parts[part] = {"state": state, **made}
        self.save()

    def add_seconds(self, phase: str, seconds: float) -> None:
        """Add wall time to a phase; the next `save` writes it."""
        self.wall_seconds[phase] = round(self.wall_seconds.get(phase, 0.0) + seconds, 3)

    def save(self) -> None:
        """Write `run.json`."""
        configuration = to_mapping(self.config)
        names = [unit.name for kind in _KINDS for unit in self.units(kind)]
        current: list[str] = [part for part in get_args(Part) if self.is_current(part)]
        content = {
            "versions": versions(),
            "earlier_versions": self.earlier_versions,
            "configuration": configuration,
            "configuration_hash": value_hash(configuration),
            "game_checksum": _game_checksum(self.config),
            "seeds": list(self.config.seeds),
            "plugins": [
                {"kind": plugin.kind, "label": wanted.label, **plugin.identity}
                for wanted, plugin in self.plugins
            ],
            "wall_seconds": self.wall_seconds,
            "failures": [
                {"unit": str(failed.job), "fault": fault, "traceback": story}
                for failed in self.failures
                for fault, story in zip(failed.faults, failed.tracebacks, strict=True)
            ],
            "parts": {
                name: self.parts.get(name, {"state": "missing"}) for name in (*names, *current)
            }
            | {part: {"state": "missing"} for part in get_args(Part) if part not in current},
            "files": dict(sorted(self.files.items())),
        }
        self._record = write_record(self.root, content)

    def _note(self, paths: Sequence[Path]) -> None:
        named = {path.relative_to(self.root).as_posix(): path for path in paths}
        self._set_files((), {name: file_checksum(path) for name, path in named.items()})

    def _set_files(self, gone: Collection[str], new: Mapping[str, str]) -> None:
        """Forget files and record others."""
        for name in [*gone]:
            self.known(_place(name)).discard(name)
            self.files.pop(name, None)
        for name, checksum in new.items():
            self.known(_place(name))
            self._places.setdefault(_place(name), set()).add(name)
            self.files[name] = checksum

    def _clear(self, stale: ExperimentConfig) -> None:
        """Remove what an earlier run wrote and nothing else.

        Its record stays until there is a new one, so that an interrupted removal can be repeated.
        """
        for kind in _KINDS:
            for unit in run_units(self.root, stale, kind):
                shutil.rmtree(unit.folder, ignore_errors=True)
                _remove_if_empty(unit.folder.parent)
                _remove_if_empty(unit.folder.parent.parent)
        for path in (*TABLES, *self.known("figures/")):
            (self.root / path).unlink(missing_ok=True)
        _remove_if_empty(self.root / "figures")
        self.files, self.parts = {}, {}
        self._places.clear()


def open_run(root: Path, asked: ExperimentConfig, *, overwrite: bool) -> RunFolder:
    """Inspect the folder in which a configuration is to run. Writes nothing.

    Args:
        root: absent, empty, or the folder of a run, of which the missing parts will be done.
        asked: the configuration.
        overwrite: replace the run in the folder.

    Raises:
        InputError: if the folder is a file, not writable or holds something else, if its run
            differs from the configuration, or if its record is damaged.
    """
    check_writable(root)
    if holds_nothing(root):
        return RunFolder(root, asked)
    if not (root / RECORD_NAME).is_file():
        raise InputError(
            f"the output folder {root} is not empty and not the folder of a run (no run.json): "
            "choose another folder"
        )
    if overwrite:
        stale, files = stale_run(root)
        return RunFolder(root, asked, files=files, stale=stale)
    try:
        record = read_record(root)
        stored = stored_config(root, record)
    except DamagedRecord as fault:
        raise DamagedRecord(
            f"{fault}; choose another folder, or start afresh with --overwrite"
        ) from fault
    try:
        config = extended(stored, asked)
    except InputError as fault:
        raise InputError(
            f"{root} holds another run: {fault}; choose another folder, or add --overwrite"
        ) from fault
    if record.get("game_checksum") != _game_checksum(config):
        raise InputError(
            f"{root} holds another run: the game {config.game} has changed since; choose another "
            "folder, or add --overwrite"
        )
    earlier = list(record["earlier_versions"])
    if record["versions"] not in (versions(), *earlier):
        earlier.append(record["versions"])
    seconds = dict(record["wall_seconds"])
    recorded = {str(own.get("label")): own for own in record.get("plugins", [])}
    files, parts = dict(record["files"]), dict(record["parts"])
    return RunFolder(root, config, files, parts, seconds, earlier, recorded=recorded)


def _game_checksum(config: ExperimentConfig) -> str | None:
    """Of a game that only has a name in the configuration; None for a grid world."""
    return game_checksum(config.game) if isinstance(config.game, str) else None


def run_units(
    root: Path, config: ExperimentConfig, kind: Literal["learner", "observer"]
) -> Iterator[Unit]:
    """All units of a kind that a configuration has."""
    plugins = (config.learner,) if kind == "learner" else config.observers
    for family in config.reward_families:
        for seed in config.seeds:
            for plugin in plugins:
                yield Unit(config, root, kind, family, seed, plugin)


def _place(path: str) -> str:
    """The place of a file as in `RunFolder.known`: `a/b/c/` of a unit, `figures/`, or its name."""
    parts = path.split("/")
    return "/".join([*parts[: 3 if len(parts) > 3 else 1], ""]) if len(parts) > 1 else path


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
