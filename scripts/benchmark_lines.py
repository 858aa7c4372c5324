"""A line of `benchmark.py`: two programs on the same task, and the numbers of its table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, log10
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

DISCOUNT, TEMPERATURE, STEP_SIZE = 0.9, 3.0, 0.1


@dataclass(frozen=True)
class Contest:
    """One row of the table.

    Args:
        name: of the row.
        unit: "steps/s", "s" for the whole task, or "s/million" steps.
        ours, baseline: the timed programs. A baseline may be a number: seconds measured elsewhere.
        against: description of the baseline.
        ours_steps, baseline_steps: steps, or millions of steps, per call; 1 for the unit "s".
        aim: the desired ratio.
        notes: facts that belong to the row.
        clock: in seconds; `process_time`, for example, where other work runs beside.
    """

    name: str
    unit: str
    ours: Callable[[], object]
    baseline: Callable[[], object] | float
    against: str
    ours_steps: float = 1
    baseline_steps: float = 1
    aim: float | None = None
    notes: Mapping[str, float] = field(default_factory=dict)
    clock: Callable[[], float] = perf_counter


def seconds_of(run: Callable[[], object], clock: Callable[[], float] = perf_counter) -> float:
    """Time of one call."""
    started = clock()
    run()
    return clock() - started


def spread(values: Sequence[float] | NDArray[np.float64]) -> dict[str, Any]:
    """Median, quartiles and all values."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "median": float(median),
        "quartiles": [float(low), float(high)],
        "values": [float(value) for value in values],
    }


def cell(values: Mapping[str, Any]) -> str:
    """A result of `spread` as the cell of a table."""
    low, high = values["quartiles"]
    if low == high:
        return number(values["median"])
    return f"{number(values['median'])} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    """The number with three digits and separated thousands."""
    decimals = 2 - floor(log10(value))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
