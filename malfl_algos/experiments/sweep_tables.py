"""The tables of a sweep: a row per run, observer and agent, and means over seeds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any, Literal
from zlib import crc32

import numpy as np

from malfl_algos.experiments.scoring import TRUTH_MEASURES
from malfl_algos.scores.bootstrap import bootstrap_interval
from malfl_algos.storage.durable import write_bytes

__all__ = ["MEASURES", "Row", "Rows", "bootstrap_rng", "seed_means", "summary_rows", "write_tables"]

Row = Mapping[str, Any]
Rows = Sequence[Row]
Kind = Literal["whole", "number", "truth", "text"]

MEASURES = ("pearson", "spearman", *TRUTH_MEASURES)
_SUMMARY = ("mean", "low", "high")


def write_tables(
    root: Path, rows: Rows, *, keys: Sequence[str], log: Callable[[str], None]
) -> list[Path]:
    """Write `table.csv`, `table.parquet` and `summary.csv`.

    The same rows give the same bytes (of Parquet, with the same version of pyarrow).

    Args:
        root: the folder.
        rows: `run`, the keys of the grid, `family, seed, observer, agent`, `observing` where each
            agent observes the others, the scores in `MEASURES`, and `reasons` for those missing.
        keys: of the grid, in their order.
        log: is told where Parquet cannot be written.

    Returns:
        The files written.
    """
    observing = ["observing"] * any("observing" in row for row in rows)
    names = ["run", *keys, "family", "seed", "observer", *observing, "agent", *MEASURES, "reasons"]
    table = [{**row, "reasons": _reasons_text(row["reasons"])} for row in rows]
    written = [root / "table.csv", root / "summary.csv"]
    columns = _columns(table, names)
    write_bytes(written[0], _csv_bytes(columns))
    summary = summary_rows(rows, keys=keys)
    names = [*keys, "family", "observer", "measure", *_SUMMARY, "n_seeds"]
    write_bytes(written[1], _csv_bytes(_columns(summary, names)))
    parquet = root / "table.parquet"
    if find_spec("pyarrow") is None:
        parquet.unlink(missing_ok=True)  # one of other rows, from an earlier call
        log(f'{parquet} needs pyarrow: pip install "malfl-env[data]"; table.csv is the same')
        return written
    write_bytes(parquet, _parquet_bytes(columns))
    return [*written, parquet]


def summary_rows(rows: Rows, *, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Means over seeds, agents averaged within a seed, with 95 % bootstrap intervals.

    Returns:
        Per point of the grid, family, observer and measure: `mean, low, high, n_seeds`; None where
        there is no value, or fewer than two seeds for an interval.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    named = (*keys, "family", "observer")
    for row in rows:
        groups.setdefault(tuple(json.dumps(row[name]) for name in named), []).append(row)
    return [
        {
            **{name: group[0][name] for name in named},
            "measure": measure,
            **_statistics(seed_means(group, measure), rng=bootstrap_rng(*key, measure)),
        }
        for key, group in groups.items()
        for measure in MEASURES
    ]


def seed_means(rows: Rows, measure: str) -> list[float]:
    """The mean of a measure for each seed that has a value, in the order of seeds."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        if row[measure] is not None:
            by_seed.setdefault(row["seed"], []).append(row[measure])
    return [fmean(by_seed[seed]) for seed in sorted(by_seed)]


def bootstrap_rng(*names: str) -> np.random.Generator:
    """Randomness for one interval: a function of what it is an interval of, of nothing else."""
    sequence = np.random.SeedSequence(crc32("\n".join(names).encode()))
    return np.random.default_rng(sequence)


def _reasons_text(reasons: Mapping[str, str]) -> str | None:
    """As `coverage_1sd, sd_ratio: no posterior covariance is given`."""
    measures: dict[str, list[str]] = {}
    for measure, reason in reasons.items():
        measures.setdefault(reason, []).append(measure)
    told = [f"{', '.join(names)}: {reason}" for reason, names in measures.items()]
    return "; ".join(told) or None


def _statistics(values: Sequence[float], *, rng: np.random.Generator) -> dict[str, Any]:
    low, high = bootstrap_interval(values, rng=rng) or (None, None)
    mean = fmean(values) if values else None
    return {**dict(zip(_SUMMARY, (mean, low, high), strict=True)), "n_seeds": len(values)}


def _columns(rows: Rows, names: Sequence[str]) -> dict[str, tuple[Kind, list[Any]]]:
    """Values of one kind, column by column; None where there is none."""
    columns: dict[str, tuple[Kind, list[Any]]] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        kind = "number" if name in (*MEASURES, *_SUMMARY) else _kind(values)
        columns[name] = kind, [_of_kind(value, kind) for value in values]
    return columns


def _kind(values: Sequence[Any]) -> Kind:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return "truth"
    if kinds == {int}:
        return "whole" if all(-(2**63) <= v < 2**63 for v in values if v is not None) else "text"
    return "number" if kinds in ({float}, {int, float}) else "text"


def _of_kind(value: Any, kind: Kind) -> Any:
    if value is None or kind in ("whole", "truth"):
        return value
    if kind == "number":
        return float(value)
    return value if isinstance(value, str) else json.dumps(value)


def _csv_bytes(columns: Mapping[str, tuple[Kind, list[Any]]]) -> bytes:
    """Numbers in full precision; nothing where there is none."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    lists = [
        [json.dumps(v) if kind == "truth" and v is not None else v for v in values]
        for kind, values in columns.values()
    ]
    table.writerows(zip(*lists, strict=True))
    return text.getvalue().encode()


def _parquet_bytes(columns: Mapping[str, tuple[Kind, list[Any]]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"whole": pa.int64(), "number": pa.float64(), "truth": pa.bool_(), "text": pa.string()}
    arrays = {name: pa.array(values, types[kind]) for name, (kind, values) in columns.items()}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(arrays), buffer)
    return buffer.getvalue()
