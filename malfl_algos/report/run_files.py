"""What the report reads of a run folder: tables, rewards, policies and visits, as arrays."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ground_truth import GroundTruth
from malfl_algos.storage.arrays import read_arrays, read_npz
from malfl_env.errors import InputError

__all__ = [
    "averages",
    "distinct",
    "read_csv",
    "read_ground_truth",
    "read_recovered",
    "read_results",
    "read_state_counts",
]

FloatArray = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]

MEASURES = ("pearson", "spearman")


def read_results(output_dir: Path) -> Rows:
    """The rows of `summary.json`.

    Raises:
        InputError: where the file is missing or is not a run's summary.
    """
    path = output_dir / "summary.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is {output_dir} a finished run folder?") from None
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise InputError(f"{path}: not the summary of a run: {fault!r}") from fault
    if not isinstance(results, list) or not results:
        raise InputError(f"{path}: it has no results to draw")
    return results


def read_csv(path: Path, columns: Collection[str]) -> Rows:
    """The rows of a table, as text; none where the file does not exist.

    Raises:
        InputError: where a column is missing.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = sorted({*columns, *MEASURES}.difference(reader.fieldnames or ()))
        if missing:
            raise InputError(f"{path}: the column {missing[0]!r} is missing")
        return list(reader)


def distinct(rows: Rows, column: str) -> list[str]:
    """The values of a column as text, each once, in order of appearance."""
    return list(dict.fromkeys(str(row[column]) for row in rows))


def averages(rows: Rows, axes: Mapping[str, Sequence[str]]) -> FloatArray:
    """Pearson's and Spearman's correlations of a table, as an array over some of its columns.

    What is not among the columns is averaged over: leave out `agent` and agents are averaged within
    a seed. Correlations that are null (JSON) or empty (CSV) are left out of the average.

    Args:
        rows: of a table that has these columns, `pearson` and `spearman`.
        axes: column to its values, as text, in the order of the result's axes; rows with other
            values are left out.

    Returns:
        `(*lengths of axes, 2)`; NaN where no row has a number.
    """
    places = {column: {v: i for i, v in enumerate(values)} for column, values in axes.items()}
    shape = tuple(len(values) for values in axes.values())
    total, count = np.zeros((2, *shape)), np.zeros((2, *shape))
    for row in rows:
        index = tuple(places[column].get(str(row[column]), -1) for column in axes)
        if -1 in index:
            continue
        for position, measure in enumerate(MEASURES):
            if row[measure] not in (None, ""):
                total[position][index] += float(row[measure])
                count[position][index] += 1
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.moveaxis(mean, 0, -1)


def read_ground_truth(output_dir: Path, family: str, seed: str) -> tuple[GroundTruth, Path]:
    """True rewards and policies of one unit of work, and the learner's folder that they lie in.

    Raises:
        InputError: where there is none, or it cannot be read.
    """
    unit = output_dir / family / f"seed_{seed}"
    found = sorted(unit.glob("*/ground_truth.npz"))
    if not found:
        raise InputError(f"{unit}: no learner's folder in it has a ground_truth.npz")
    return GroundTruth.load(found[0]), found[0].parent


def read_recovered(
    output_dir: Path, family: str, seed: str, observer: str
) -> dict[str, FloatArray]:
    """Recovered rewards per agent id.

    Empty where the observer's folder has no single answer: with more than two agents and the seat
    of an agent every observing agent has its own.
    """
    path = output_dir / family / f"seed_{seed}" / observer / "rewards.npz"
    return read_arrays(path)[0] if path.exists() else {}


def read_state_counts(learner_dir: Path) -> FloatArray:
    """Visits per stage and joint state, `(n_stages, n_states)`.

    Only the counts are unpacked: a trace may carry millions of transitions beside them.
    """
    path = learner_dir / "trace.npz"
    try:
        counts = read_npz(path, only={"joint_counts"}).get("joint_counts")
    except ValueError as fault:
        raise InputError(f"{path}: not a readable learning trace: {fault}") from fault
    if counts is None or counts.ndim < 3 or counts.dtype != np.int64:
        raise InputError(f"{path}: not a readable learning trace: its counts are missing or none")
    visits = counts.sum(axis=tuple(range(2, counts.ndim)))
    return np.asarray(visits, dtype=np.float64)
