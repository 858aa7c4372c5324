"""The targets of the study on the paper's protocol: required numbers and desired numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["TARGETS", "Bounds", "Target", "check_targets"]

BOTH = ("homogeneous", "heterogeneous")


@dataclass(frozen=True)
class Bounds:
    """The range of a measured number, ends included; None: no bound on that side."""

    low: float | None = None
    high: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low is None:
            return f"at most {self.high:g}"
        return f"{self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Target:
    """One number of the study that has a target.

    Args:
        observer, games, learner, data: of the summary; each game has its own line.
        measure: of the summary.
        statistic: "mean" over seeds, agents averaged within a seed; "min" over seeds and agents.
        must, aim: the required and the desired range; None: no such target.
    """

    observer: str
    games: tuple[str, ...]
    learner: str
    data: str
    measure: str
    statistic: Literal["mean", "min"]
    must: Bounds | None
    aim: Bounds | None = None

    def __str__(self) -> str:
        return (
            f"{self.observer}, {self.learner} learners, data {self.data}: "
            f"{self.measure} {self.statistic}"
        )


def _correlation(
    observer: str,
    games: tuple[str, ...] | str,
    data: str,
    must: float,
    aim: float | None,
    *,
    learner: str = "td",
    measure: str = "pearson",
    statistic: Literal["mean", "min"] = "mean",
) -> Target:
    return Target(
        observer,
        (games,) if isinstance(games, str) else games,
        learner,
        data,
        measure,
        statistic,
        Bounds(must),
        None if aim is None else Bounds(aim),
    )


_REPLAY, _BELLMAN = "ma-lfl-replay", "ma-lfl-bellman"
_COVERAGE = Bounds(0.90, 0.99)

TARGETS: Sequence[Target] = (
    _correlation(_REPLAY, BOTH, "full", 0.993, 0.997),
    _correlation(_REPLAY, BOTH, "full", 0.985, 0.99, statistic="min"),
    _correlation(_REPLAY, BOTH, "full", 0.975, None, measure="spearman"),
    _correlation(_REPLAY, "homogeneous", "1/10", 0.91, 0.96),
    _correlation(_REPLAY, "heterogeneous", "1/10", 0.99, 0.997),
    _correlation(_REPLAY, "homogeneous", "1/100", 0.50, 0.75),
    _correlation(_REPLAY, "heterogeneous", "1/100", 0.85, 0.93),
    _correlation(_BELLMAN, BOTH, "full", 0.97, 0.985),
    _correlation(_BELLMAN, BOTH, "full", 0.93, 0.97, statistic="min"),
    _correlation(_BELLMAN, BOTH, "full", 0.955, None, measure="spearman"),
    _correlation(_BELLMAN, "homogeneous", "1/10", 0.80, 0.90),
    _correlation(_BELLMAN, "heterogeneous", "1/10", 0.95, 0.97),
    _correlation(_BELLMAN, BOTH, "full", 0.99, 0.998, learner="exact"),
    _correlation(_BELLMAN, "random-rewards", "policies", 0.9999, None, learner="exact"),
    *(
        Target(observer, BOTH, "td", data, "coverage_2sd", "mean", must, aim)
        for data, must, aim in (("full", _COVERAGE, None), ("1/10", None, _COVERAGE))
        for observer in (_BELLMAN, _REPLAY)
    ),
    *(
        Target(
            observer, BOTH, "td", "full", "regret", "mean", Bounds(None, 0.02), Bounds(None, 0.005)
        )
        for observer in (_BELLMAN, _REPLAY)
    ),
)


def check_targets(summary: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The measured numbers beside their targets.

    Args:
        summary: from `study_tables.summarise`.

    Returns:
        Per target and game a row of text: `target, game, measured, must, aim, seeds, must_met,
        aim_met`; the last two are empty if nothing was measured.
    """
    rows = []
    for target in TARGETS:
        for game in target.games:
            wanted = {
                "game": game,
                "learner": target.learner,
                "data": target.data,
                "observer": target.observer,
                "measure": target.measure,
            }
            found = [row for row in summary if all(row[k] == v for k, v in wanted.items())]
            value = found[0][target.statistic] if found else None
            rows.append(
                {
                    "target": str(target),
                    "game": game,
                    "measured": "not run" if value is None else f"{value:.4f}",
                    "must": str(target.must or ""),
                    "aim": str(target.aim or ""),
                    "seeds": str(found[0]["n_seeds"]) if found else "0",
                    "must_met": _verdict(target.must, value),
                    "aim_met": _verdict(target.aim, value),
                }
            )
    return rows


def _verdict(bounds: Bounds | None, value: float | None) -> str:
    if bounds is None or value is None:
        return ""
    return "yes" if bounds.holds(value) else "no"
