"""Check a run folder against its record: every file, every unit, every number in a table."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malfl_algos.experiments.config import ExperimentConfig, load_config
from malfl_algos.experiments.folder import LEFTOVERS, TABLES, RunFolder
from malfl_algos.experiments.jobs import Unit
from malfl_algos.experiments.records import (
    RECORD_NAME,
    DamagedRecord,
    read_record,
    stored_config,
    versions,
)
from malfl_algos.experiments.rows import write_run_tables
from malfl_algos.storage.arrays import read_arrays
from malfl_algos.storage.durable import file_checksum, leftovers, value_hash
from malfl_algos.storage.lock import LOCK_NAME, lock_state
from malfl_env.errors import InputError

__all__ = ["Verdict", "check_lock", "fault_of_file", "verify"]

_OF_LEARNERS = ("trace.npz", "ground_truth.npz")
_OF_OBSERVERS = ("rewards.npz", "diagnostics.json")


@dataclass(frozen=True)
class Verdict:
    """The result of `verify`.

    Args:
        notes: remarks that are no errors, one line each.
        faults: what is wrong or missing, one line each, starting with the path.
    """

    notes: tuple[str, ...]
    faults: tuple[str, ...]


def verify(root: Path) -> Verdict:
    """Check a run folder against its record, and its tables against its units. Writes nothing.

    While a process works in the folder, missing parts are no faults.

    Raises:
        InputError: if there is no record, so that the folder is not that of a run.
    """
    if not (root / RECORD_NAME).is_file():
        raise InputError(f"{root} is not the folder of a run: it has no {RECORD_NAME}")
    notes, faults = check_lock(root)
    at_work = bool(notes)
    if not at_work:
        faults += [
            f"{path.relative_to(root).as_posix()}: left unfinished by a process that died"
            for path in leftovers(root, *LEFTOVERS)
        ]
    try:
        record = read_record(root)
        config = stored_config(root, record)
    except DamagedRecord as fault:
        return Verdict(tuple(notes), (*faults, str(fault)))
    folder = RunFolder(root, config, dict(record["files"]), dict(record["parts"]))
    faults += _check_configuration(root, record, config)
    damaged = _check_files(folder)
    if at_work and damaged:
        damaged = _still_damaged(folder, damaged)
    faults += damaged.values()
    faults += _check_units(folder, damaged, at_work=at_work)
    if not (at_work or faults):
        faults += _check_reports(folder)
    return Verdict(tuple(notes), tuple(faults))


def check_lock(root: Path) -> tuple[list[str], list[str]]:
    """What the lock of a folder tells: notes (a process is at work there) and faults."""
    found = lock_state(root)
    if found is None:
        return [], []
    holder, state = found
    if holder is None and state == "unknown":
        return [], [f"{LOCK_NAME}: cannot be read; if no run works there, remove it"]
    if state == "dead":
        return [], [f"{LOCK_NAME}: left by {holder or 'a process'}, which is gone"]
    doubt = "" if state == "alive" else " (whether it still runs cannot be checked from here)"
    return [f"in progress by {holder or 'another process'}{doubt}"], []


def _check_configuration(
    root: Path, record: Mapping[str, Any], config: ExperimentConfig
) -> Iterator[str]:
    if record.get("configuration_hash") != value_hash(record["configuration"]):
        yield f"{RECORD_NAME}: configuration_hash is not that of its configuration"
    if record.get("seeds") != list(config.seeds):
        yield f"{RECORD_NAME}: its seeds are not those of its configuration"
    known = [value_hash(made) for made in (record["versions"], *record["earlier_versions"])]
    for name, part in record["parts"].items():
        if part.get("state") == "done" and part.get("versions") not in known:
            yield f"{name}: made with versions that {RECORD_NAME} does not list"
    if not (root / "config.yaml").is_file():  # named with the files; opening a pipe would block
        return
    try:
        if load_config(root / "config.yaml") != config:
            yield f"config.yaml: not the configuration in {RECORD_NAME}"
    except InputError as fault:
        yield str(fault).replace(f"{root}/", "", 1)


def _check_files(folder: RunFolder) -> dict[str, str]:
    """Faults by path."""
    faults = {}
    for name, checksum in folder.files.items():
        fault = fault_of_file(folder.root / name, checksum)
        if fault:
            faults[name] = f"{name}: {fault}"
    return faults


def _still_damaged(folder: RunFolder, damaged: Mapping[str, str]) -> dict[str, str]:
    """The faults that are no consequence of the work in progress, which replaces files.

    Tables, figures and config.yaml may be in the folder before they are recorded. A unit is
    recorded just after its files, so the record is read again.
    """
    units = [name for name in damaged if name.count("/") > 2]
    try:
        files = read_record(folder.root)["files"] if units else {}
    except DamagedRecord:
        files = folder.files
    found = {
        name: fault_of_file(folder.root / name, files[name]) for name in units if name in files
    }
    return {name: f"{name}: {fault}" for name, fault in found.items() if fault}


def fault_of_file(path: Path, checksum: str, record: str = RECORD_NAME) -> str:
    """What is wrong with a file that a record holds; empty if nothing is."""
    if not path.is_file():
        if path.is_dir():
            return "a folder is in its place"
        if path.exists():
            return "it is not a regular file"
        return "a link that leads nowhere is in its place" if path.is_symlink() else "missing"
    try:
        if file_checksum(path) != checksum:
            return f"damaged: its checksum is not the one in {record}"
    except OSError as fault:
        return f"cannot be read: {fault.strerror}"
    unreadable = _unreadable(path)
    return f"not readable, although it is unchanged: {unreadable}" if unreadable else ""


def _unreadable(path: Path) -> str | None:
    try:
        if path.suffix == ".npz":
            read_arrays(path)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as fault:
        return str(fault)
    return None


def _check_units(folder: RunFolder, damaged: Mapping[str, str], *, at_work: bool) -> Iterator[str]:
    units = [*folder.units("learner"), *folder.units("observer")]
    for unit in units:
        part = folder.parts.get(unit.name, {})
        own = {path: folder.files[path] for path in folder.known(f"{unit.name}/")}
        state = part.get("state", "missing")
        if state == "failed":
            yield f"{unit.name}: failed: {part.get('fault')}"
        elif state != "done":
            if not at_work:
                yield f"{unit.name}: missing"
        else:
            yield from _check_unit(unit, folder, own)
        if not (at_work or damaged.keys() & own):
            yield from (f"{name}: not in {RECORD_NAME}" for name in folder.strays(unit))


def _check_unit(unit: Unit, folder: RunFolder, own: Mapping[str, str]) -> Iterator[str]:
    names = _OF_LEARNERS if unit.kind == "learner" else _OF_OBSERVERS
    kept = {path.rpartition("/")[2] for path in own}
    for name in names:
        if name not in kept:
            yield f"{unit.name}/{name}: not in {RECORD_NAME}"
    part = folder.parts[unit.name]
    if part.get("checksum") != value_hash({p[len(unit.name) + 1 :]: c for p, c in own.items()}):
        yield f"{unit.name}: its checksum is not that of its files"
    learner = unit.learner_folder.relative_to(folder.root).as_posix()
    if part.get("trace") != folder.parts.get(learner, {}).get("trace"):
        yield f"{unit.name}: made from another trace than {learner}/trace.npz"


def _check_reports(folder: RunFolder) -> Iterator[str]:
    """Whether tables and figures belong to the units, all of which are unchanged."""
    tables = [name for name in TABLES if folder.config.trend or name != "trend.csv"]
    yield from (f"{name}: missing" for name in tables if name not in folder.files)
    made_with = {name: folder.parts.get(name, {}).get("versions") for name in ("tables", "figures")}
    now = value_hash(versions())
    for part in ("tables", "figures"):
        if made_with[part] is None:
            yield f"{part}: missing"
        elif folder.parts[part].get("state") != "done":
            yield f"{part}: not all are made"
        elif made_with[part] == now and not folder.is_current(part):
            yield f"{part}: out of date: made from other files than the present ones"
    # other versions of packages may give other bytes
    if made_with["tables"] == now and all(name in folder.files for name in tables):
        yield from _check_tables(folder, tables)


def _check_tables(folder: RunFolder, tables: Sequence[str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as place:
        try:
            write_run_tables(folder.root, folder.config, into=Path(place))
        # files with the right checksum may still hold arrays or keys that do not fit
        except (ValueError, KeyError, TypeError) as fault:
            yield f"summary.json: cannot be made from the units: {fault}"
            return
        for name in tables:
            if (Path(place) / name).read_bytes() != (folder.root / name).read_bytes():
                yield f"{name}: its content differs from what the units give"
