"""Medians and spreads, and how tables show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import floor, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray


def spread(values: Sequence[float] | NDArray[np.float64]) -> dict[str, Any]:
    """Median, quartiles and all values."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "median": float(median),
        "quartiles": [float(low), float(high)],
        "values": [float(value) for value in values],
    }


def cell(values: Mapping[str, Any]) -> str:
    """A spread, as the cell of a table."""
    low, high = values["quartiles"]
    if low == high:
        return number(values["median"])
    return f"{number(values['median'])} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    """Three digits, thousands apart."""
    decimals = 2 - floor(log10(value))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, ready for the docs."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
