"""Tables of the benchmark of observers, from the files of its cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmark_observers_plan import GAMES, LEARNERS, OBSERVERS

from malfl_algos.scores.means import mean_of_rows
from malfl_algos.storage.durable import write_bytes
from malfl_algos.storage.tables import write_table

__all__ = ["benchmark_rows", "write_tables"]

Row = Mapping[str, Any]

WORDS = ("believe", "doubt", "do not believe")


def benchmark_rows(contents: Iterable[Row]) -> list[dict[str, Any]]:
    """One row per game, learner, seed, observer and agent, in the order of the plan."""
    rows = [{**content["cell"], **row} for content in contents for row in content["rows"]]
    places = [list(known) for known in (GAMES, LEARNERS, OBSERVERS)]

    def place(row: Row) -> list[Any]:
        keys = ("game", "learner", "observer")
        at = [known.index(row[key]) for key, known in zip(keys, places, strict=True)]
        return [*at, row["seed"], row["agent"]]

    return sorted(rows, key=place)


def write_tables(root: Path, contents: Sequence[Row]) -> str:
    """Write `rows.csv` and `benchmark.md` into a folder; returns the text of the latter."""
    rows = benchmark_rows(contents)
    columns = [{k: v for k, v in row.items() if k != "settings"} for row in rows]
    write_table(root / "rows.csv", columns)
    seeds = sorted({row["seed"] for row in rows})
    parts = [f"Seeds {', '.join(map(str, seeds))}; every number is a mean over seeds and agents."]
    for game in GAMES:
        own = [row for row in rows if row["game"] == game]
        if own:
            parts.append(f"## {game}\n\n{_wide(own, 'pearson')}")
    parts.append(f"## All figures\n\n{_long(rows)}")
    refused = _refused(contents)
    if refused:
        parts.append(f"## Rejected\n\n{refused}")
    text = "\n\n".join(parts) + "\n"
    write_bytes(root / "benchmark.md", text.encode())
    return text


def _wide(rows: Sequence[Row], measure: str) -> str:
    """One line per learner, one column per observer."""
    observers = [name for name in OBSERVERS if any(row["observer"] == name for row in rows)]
    lines = []
    for learner in LEARNERS:
        own = [row for row in rows if row["learner"] == learner]
        if own:
            by = {name: [row for row in own if row["observer"] == name] for name in observers}
            lines.append((learner, *(_number(_mean(by[name], measure), 2) for name in observers)))
    return _markdown(("learner", *observers), lines)


def _long(rows: Sequence[Row]) -> str:
    """One line per game, learner and observer."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["game"], row["learner"], row["observer"]), []).append(row)
    lines = []
    for key, own in groups.items():
        pearson = mean_of_rows(own, "pearson")
        interval = pearson.interval
        words = Counter(row["verdict"] for row in own)
        lines.append(
            (
                *key,
                _number(pearson.mean, 3)
                + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""),
                _number(_least(own), 3),
                _number(_mean(own, "spearman"), 3),
                _number(_mean(own, "coverage_2sd"), 2),
                ", ".join(f"{word} {words[word]}" for word in WORDS if words[word]),
                _number(_mean(own, "seconds"), 2),
            )
        )
    heading = ("game", "learner", "observer", "Pearson r [95 %]", "least", "Spearman rho")
    return _markdown((*heading, "within 2 sd", "verdict", "seconds"), lines)


def _refused(contents: Sequence[Row]) -> str:
    """Observers that rejected a trace, with the number of seeds and the first reason."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for content in contents:
        for observer, reason in content["refused"].items():
            key = (content["cell"]["game"], content["cell"]["learner"], observer)
            found.setdefault(key, []).append(reason)
    lines = [(*key, str(len(own)), own[0].replace("|", "/")) for key, own in found.items()]
    return _markdown(("game", "learner", "observer", "seeds", "why"), lines) if lines else ""


def _mean(rows: Sequence[Row], measure: str) -> float | None:
    values = [row[measure] for row in rows if row[measure] is not None]
    return fmean(values) if values else None


def _least(rows: Sequence[Row]) -> float | None:
    return min((row["pearson"] for row in rows if row["pearson"] is not None), default=None)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _markdown(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    table = [heading, ["---"] * len(heading), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)
