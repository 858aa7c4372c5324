"""The tables of a sweep: a row per run, observer and agent, and means over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from malfl_algos.experiments.scoring import OF_A_RUN
from malfl_algos.scores.means import grouped, mean_of_rows
from malfl_algos.scores.registry import score_names
from malfl_algos.storage.tables import write_table

__all__ = ["Row", "Rows", "summary_rows", "write_tables"]

Row = Mapping[str, Any]
Rows = Sequence[Row]


def write_tables(
    root: Path, rows: Rows, *, keys: Sequence[str], log: Callable[[str], None]
) -> list[Path]:
    """Write `table.csv`, `table.parquet` and `summary.csv`.

    Args:
        root: the folder.
        rows: `run`, the keys of the grid, `family, seed, observer, agent`, `observing` where each
            agent observes the others, the scores of a run, and `reasons` for those missing.
        keys: of the grid, in their order.
        log: is told where Parquet cannot be written.

    Returns:
        The files written.
    """
    measures = score_names(*OF_A_RUN)
    observing = ["observing"] * any("observing" in row for row in rows)
    names = ["run", *keys, "family", "seed", "observer", *observing, "agent", *measures, "reasons"]
    table = [{**row, "reasons": _reasons_text(row["reasons"])} for row in rows]
    written = [root / "table.csv", root / "summary.csv"]
    write_table(written[0], table, names, numbers=measures)
    columns = [*keys, "family", "observer", "measure", "mean", "low", "high", "n_seeds"]
    summary = summary_rows(rows, keys=keys)
    write_table(written[1], summary, columns, numbers=("mean", "low", "high"))
    parquet = root / "table.parquet"
    if write_table(parquet, table, names, numbers=measures):
        return [*written, parquet]
    parquet.unlink(missing_ok=True)  # one of other rows, from an earlier call
    log(f'{parquet} needs pyarrow: pip install "malfl-env[data]"; table.csv is the same')
    return written


def summary_rows(rows: Rows, *, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Means over seeds, agents averaged within a seed, with 95 % Student t intervals.

    Returns:
        Per point of the grid, family, observer and measure: `mean, low, high, n_seeds`; None where
        there is no value, or fewer than two seeds for an interval.
    """
    return [
        {**values, "measure": measure, **mean_of_rows(group, measure).columns()}
        for values, group in grouped(rows, (*keys, "family", "observer"))
        for measure in score_names(*OF_A_RUN)
    ]


def _reasons_text(reasons: Mapping[str, str]) -> str | None:
    """As `coverage_1sd, sd_ratio: no posterior covariance is given`."""
    measures: dict[str, list[str]] = {}
    for measure, reason in reasons.items():
        measures.setdefault(reason, []).append(measure)
    parts = [f"{', '.join(names)}: {reason}" for reason, names in measures.items()]
    return "; ".join(parts) or None
