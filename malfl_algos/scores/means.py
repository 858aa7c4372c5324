"""A score, its mean over seeds, and the interval of the mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from numbers import Real
from statistics import fmean, stdev
from typing import Any

from malfl_env.arguments import typed
from malfl_env.checks import shown
from malfl_env.errors import InputError

__all__ = ["INTERVAL", "MeanInterval", "Score", "grouped", "mean_interval", "mean_of_rows"]

INTERVAL = "95 % Student t interval"
"""The name of the interval in tables and figures."""

TOO_LARGE = "the numbers are too large or too small for floating-point arithmetic"
"""The reason for a score whose computation overflows."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """A number, or the reason why it is missing.

    Args:
        value: always finite; None if it is missing. A value that is not finite becomes None.
        reason: given exactly if value is None.
    """

    value: float | None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not isinstance(self.value, Real):
            raise InputError(f"value must be a number or None, got {shown(self.value)}")
        if self.value is not None and not isfinite(self.value):
            object.__setattr__(self, "reason", f"{TOO_LARGE}, which give {self.value}")
            object.__setattr__(self, "value", None)


@typed
@dataclass(frozen=True)
class MeanInterval:
    """A mean over seeds.

    Args:
        mean: None if no seed has a value.
        interval: lower and upper end; None if fewer than two seeds have a value.
        n_seeds: number of seeds that have a value.
        reason: given if mean or interval is None, or some values are missing.
    """

    mean: float | None
    interval: tuple[float, float] | None
    n_seeds: int
    reason: str | None = None

    def columns(self) -> dict[str, Any]:
        """The columns `mean, low, high, n_seeds` of a table."""
        low, high = self.interval or (None, None)
        return {"mean": self.mean, "low": low, "high": high, "n_seeds": self.n_seeds}

    def plain(self) -> dict[str, Any]:
        """The keys `mean, interval, n_seeds, reason` of a JSON file."""
        interval = None if self.interval is None else list(self.interval)
        return {
            "mean": self.mean,
            "interval": interval,
            "n_seeds": self.n_seeds,
            "reason": self.reason,
        }


@typed
def mean_interval(
    values_by_seed: Mapping[int, Sequence[float | None]], *, level: float = 0.95
) -> MeanInterval:
    """Mean over seeds with a Student t interval; agents are averaged within a seed.

    Args:
        values_by_seed: for each seed one value per agent; None for a missing value.
        level: confidence level of the interval, in (0, 1).
    """
    counted = {
        seed: [value for value in values if value is not None]
        for seed, values in values_by_seed.items()
    }
    means = [fmean(values) for values in counted.values() if values]
    n_values = sum(map(len, values_by_seed.values()))
    n_missing = n_values - sum(map(len, counted.values()))
    if not means:
        return MeanInterval(None, None, 0, "no seed has a value")
    missing = f"{n_missing} of {n_values} values are missing" if n_missing else None
    if len(means) == 1:
        alone = "one seed has no interval"
        return MeanInterval(means[0], None, 1, f"{alone}; {missing}" if missing else alone)
    from scipy.special import stdtrit

    mean = fmean(means)
    half = float(stdtrit(len(means) - 1, 0.5 + level / 2)) * stdev(means) / sqrt(len(means))
    return MeanInterval(mean, (mean - half, mean + half), len(means), missing)


@typed
def mean_of_rows(rows: Iterable[Row], name: str) -> MeanInterval:
    """Mean of one column of a table over its seeds.

    Args:
        rows: with a column `seed`; rows of one seed are averaged first.
        name: of the column; None in it is a missing value.
    """
    by_seed: dict[int, list[float | None]] = {}
    for row in rows:
        if name not in row or "seed" not in row:
            raise InputError(
                f"name must be a column of all rows, beside seed; got {name!r} and {shown(row)}"
            )
        by_seed.setdefault(row["seed"], []).append(row[name])
    return mean_interval(by_seed)


def grouped(rows: Iterable[Row], by: Sequence[str]) -> list[tuple[dict[str, Any], list[Row]]]:
    """Groups of rows with equal values in the columns `by`, in order of first appearance.

    Returns:
        Per group the values of these columns, and its rows.
    """
    groups: dict[str, tuple[dict[str, Any], list[Row]]] = {}
    for row in rows:
        values = {name: row[name] for name in by}
        groups.setdefault(json.dumps(values), (values, []))[1].append(row)
    return list(groups.values())
