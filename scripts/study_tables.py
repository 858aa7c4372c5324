"""Tables of a study, from the files of its cells: means over seeds, targets, chosen settings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Any

from study_plan import (
    DATA,
    DEFAULT_OBSERVERS,
    GAMES,
    LEARNERS,
    OBSERVERS,
    Cell,
    left_out,
)
from study_targets import check_targets

from malfl_algos.experiments.scoring import OF_A_RUN
from malfl_algos.scores.agreement import CALIBRATION
from malfl_algos.scores.means import grouped, mean_of_rows
from malfl_algos.scores.prediction import PREDICTIONS
from malfl_algos.scores.registry import score_names
from malfl_algos.storage.durable import write_bytes
from malfl_algos.storage.tables import write_table
from malfl_algos.verdict.words import WORDS
from malfl_env.errors import InputError

__all__ = ["read_cell", "read_cells", "study_rows", "summarise", "write_study_tables"]

Row = Mapping[str, Any]
Rows = Sequence[Row]

KEYS = ("game", "learner", "data", "observer")
TITLES: Mapping[str, str] = {
    "pearson": "Pearson r with the ground-truth reward: mean [95 % interval], minimum",
    "spearman": "Spearman rho: mean [95 % interval], minimum",
    "starc_averaged": "STARC distance, the others averaged over their last policies: mean",
    "regret": "Regret of learning from the recovered reward: mean [95 % interval]",
}


def read_cell(path: Path) -> dict[str, Any]:
    """The file of a cell.

    Raises:
        InputError: if it is damaged, naming it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not {"cell", "rows", "refused"} <= set(content):
            raise InputError("not the file of a cell")
    except (OSError, ValueError) as fault:
        raise InputError(f"{path}: {fault}; delete it and run again") from fault
    return content


def read_cells(root: Path) -> list[dict[str, Any]]:
    """All cells of a study's folder, in the order of their names. Raises as `read_cell`."""
    return [read_cell(path) for path in sorted(root.glob("cells/*/*/*/seed_*.json"))]


def study_rows(contents: Iterable[Row]) -> list[dict[str, Any]]:
    """One row per game, learner, data, seed, observer and agent, in the order of the plan."""
    rows = [
        {
            **{
                key: content["cell"][key] for key in ("game", "learner", "data", "episodes", "seed")
            },
            **row,
        }
        for content in contents
        for row in content["rows"]
    ]
    places = [list(known) for known in (GAMES, LEARNERS, DATA, OBSERVERS)]

    def place(row: Row) -> list[Any]:
        at = [known.index(row[key]) for key, known in zip(KEYS, places, strict=True)]
        return [*at, row["seed"], row["agent"]]

    return sorted(rows, key=place)


def summarise(rows: Rows) -> list[dict[str, Any]]:
    """Means over seeds, agents averaged within a seed.

    Returns:
        Per game, learner, data, observer and measure a row `mean, low, high` (95 % Student t
        interval), `min, max` (over seeds and agents), `n_seeds, n_values`; None for missing
        values.
    """
    return [
        {**values, "measure": measure, **_statistics(group, measure)}
        for values, group in grouped(rows, KEYS)
        for measure in score_names(*OF_A_RUN)
    ]


def write_study_tables(root: Path) -> str:
    """Write `rows.csv`, `summary.csv`, `targets.csv` and `study.md` from the cells in a folder.

    Returns:
        The table of targets, as Markdown.
    """
    contents = read_cells(root)
    rows = study_rows(contents)
    summary = summarise(rows)
    targets = check_targets(summary)
    for name, table in (("rows", rows), ("summary", summary), ("targets", targets)):
        write_table(root / f"{name}.csv", table)
    headline = _markdown(
        ("target", "game", "measured", "must", "aim", "seeds", "must met", "aim met"),
        [tuple(row.values()) for row in targets],
    )
    parts = [f"## Targets\n\n{_sizes(rows)}\n\n{headline}"]
    for learner in (name for name in LEARNERS if any(row["learner"] == name for row in rows)):
        own = [row for row in summary if row["learner"] == learner]
        for measure, title in TITLES.items():
            parts.append(f"## {learner} learners. {title}\n\n{_by_data(own, measure)}")
    parts.append(f"## Calibration: means over seeds and agents\n\n{_calibration(summary)}")
    predicted = _held_out(rows)
    if predicted:
        parts.append(
            "## Held-out prediction of the last stage from all stages before it: mean log "
            f"likelihood of a step, in nats\n\n{predicted}"
        )
    parts.append(f"## Settings chosen by the evidence\n\n{_chosen(rows)}")
    parts.append(f"## Median seconds of a recovery, all agents together\n\n{_seconds(rows)}")
    parts.append(f"## Verdicts on the rewards, without ground truth\n\n{_verdicts(rows)}")
    rejected = _rejected(contents)
    if rejected:
        parts.append(f"## Rejected or not run\n\n{rejected}")
    write_bytes(root / "study.md", ("\n\n".join(parts) + "\n").encode())
    return headline


def _sizes(rows: Rows) -> str:
    """The number of episodes of each amount of data."""
    sizes = {row["data"]: row["episodes"] for row in rows}
    parts = [f"data {name}: {sizes[name]}" for name in DATA if name in sizes]
    return f"Episodes per stage, the same for learner and observer: {', '.join(parts)}."


def _statistics(rows: Rows, measure: str) -> dict[str, Any]:
    values = [row[measure] for row in rows if row[measure] is not None]
    return {
        **mean_of_rows(rows, measure).columns(),
        "min": min(values, default=None),
        "max": max(values, default=None),
        "n_values": len(values),
    }


def _by_data(summary: Rows, measure: str) -> str:
    """One row per game and observer, one column per amount of data."""
    own = {tuple(row[k] for k in KEYS): row for row in summary if row["measure"] == measure}
    data = [name for name in DATA if any(key[2] == name for key in own)]
    lines = []
    for game, learner, observer in dict.fromkeys((key[0], key[1], key[3]) for key in own):
        found = [own.get((game, learner, amount, observer)) for amount in data]
        lines.append((game, observer, *(_spread(row, measure) for row in found)))
    return _markdown(("game", "observer", *(f"data {name}" for name in data)), lines)


def _spread(row: Row | None, measure: str) -> str:
    if row is None or row["mean"] is None:
        return ""
    text = f"{row['mean']:.3f}"
    if measure == "starc_averaged":
        return text
    if row["low"] is not None:
        text += f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{text}, {row['min']:.3f}" if measure in ("pearson", "spearman") else text


def _calibration(summary: Rows) -> str:
    means: dict[tuple[Any, ...], dict[str, float | None]] = {}
    for row in summary:
        if row["measure"] in CALIBRATION and row["mean"] is not None:
            means.setdefault(tuple(row[k] for k in KEYS), {})[row["measure"]] = row["mean"]
    return _markdown(
        (*KEYS, "within 1 sd", "2 sd", "3 sd", "sd ratio"),
        [(*key, *(_number(own.get(name)) for name in CALIBRATION)) for key, own in means.items()],
    )


def _held_out(rows: Rows) -> str:
    """Held-out predictions of the last stage beside those without rewards; empty if there are
    none."""
    names = [f"{name}_log_likelihood" for name in PREDICTIONS]
    scored = [row for row in rows if row.get(names[0]) is not None]
    lines = []
    for key, group in _groups(scored).items():
        found = [_statistics(group, name) for name in names]
        lines.append((*key, *(_spread(one, "log_likelihood") for one in found)))
    return _markdown((*KEYS, "by the rewards", "no change", "uniform"), lines) if lines else ""


def _chosen(rows: Rows) -> str:
    """Settings that observers chose by evidence, over all rewards of a group of cells."""
    lines = []
    for key, group in _groups([row for row in rows if row["log_evidence"] is not None]).items():
        settings = [row["settings"] for row in group]
        models = Counter(own["learner_model"] for own in settings)
        hits = Counter(name for row in group for name in row["bounds_hit"])
        lines.append(
            (
                *key,
                str(len(group)),
                ", ".join(f"{name} {n}" for name, n in models.most_common()),
                _range([own["step_size"] for own in settings]),
                _range([own["improvement"] for own in settings if "improvement" in own]),
                _range([own["prior_variance"] for own in settings]),
                ", ".join(f"{name} {n}" for name, n in hits.most_common()),
                str(sum(not own["settled"] for own in settings)),
            )
        )
    chosen = ("learner model", "step size", "share kept", "prior variance")
    heading = ("rewards", *chosen, "on a bound")
    return _markdown((*KEYS, *heading, "not converged"), lines)


def _seconds(rows: Rows) -> str:
    """Median seconds of a recovery, all agents together; one column per amount of data."""
    found = {key: median(row["seconds"] for row in own) for key, own in _groups(rows).items()}
    data = [name for name in DATA if any(key[2] == name for key in found)]
    lines = []
    for game, learner, observer in dict.fromkeys((key[0], key[1], key[3]) for key in found):
        own = [found.get((game, learner, amount, observer)) for amount in data]
        cells = ["" if value is None else f"{value:.2f}" for value in own]
        lines.append((game, learner, observer, *cells))
    return _markdown(("game", "learner", "observer", *(f"data {name}" for name in data)), lines)


def _verdicts(rows: Rows) -> str:
    """Number of rewards by word, with the range of their Pearson r."""
    lines = []
    for key, own in _groups(rows).items():
        cells = []
        for word in WORDS:
            found = [row["pearson"] for row in own if row.get("verdict") == word]
            scored = [value for value in found if value is not None]
            cells.append(f"{len(found)} ({_range(scored)})" if scored else str(len(found)))
        lines.append((*key, *cells))
    return _markdown((*KEYS, *WORDS), lines)


def _groups(rows: Rows) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by game, learner, data and observer."""
    return {tuple(values.values()): own for values, own in grouped(rows, KEYS)}


def _rejected(contents: Iterable[Row]) -> str:
    """Observers that rejected a cell or were not run, with the first reason and the number of
    seeds."""
    first: dict[tuple[Any, ...], str] = {}
    counts: Counter[tuple[Any, ...]] = Counter()
    for content in contents:
        known = {key.name for key in fields(Cell)}
        cell = Cell(**{key: value for key, value in content["cell"].items() if key in known})
        reasons = {label: left_out(cell, label) for label in DEFAULT_OBSERVERS}
        for observer, reason in {**reasons, **content["refused"]}.items():
            if reason is not None:
                key = (cell.game, cell.learner, cell.data, observer)
                first.setdefault(key, reason)
                counts[key] += 1
    lines = [(*key, str(counts[key]), reason) for key, reason in first.items()]
    return _markdown((*KEYS, "seeds", "why"), lines) if lines else ""


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _markdown(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    table = [heading, ["---"] * len(heading), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)
