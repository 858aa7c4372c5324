"""What a line of `benchmark.py` is: two pieces of code that are set to the same task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

DISCOUNT, TEMPERATURE, STEP_SIZE = 0.9, 3.0, 0.1


@dataclass(frozen=True)
class Contest:
    """One row of the table.

    Args:
        name: of the row.
        unit: "steps/s", "s" for the whole task, or "s/million" steps.
        ours, baseline: what is timed. A number in place of the baseline is seconds measured
            elsewhere.
        against: what the baseline is.
        ours_steps, baseline_steps: steps, or millions of them, that a call makes; 1 where the unit
            is "s".
        aim: ratio that we want.
        notes: facts that belong to the row.
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


def seconds_of(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = perf_counter()
    run()
    return perf_counter() - started
