"""Tables as plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from malfl_algos.scores.means import INTERVAL
from malfl_algos.scores.registry import CORRELATION, GROUPS, ScoreEntry, score_groups

__all__ = ["score_text", "summary_text"]


def summary_text(summary: Mapping[str, Any]) -> str:
    """The content of `summary.json`: a table per group of scores, and the cross-correlation."""
    aggregate = summary["aggregate"]
    n_seeds = len({row["seed"] for row in summary["results"]})
    parts = []
    for group, entries in score_groups(aggregate[0]).items():
        if all(row[entry.name]["mean"] is None for row in aggregate for entry in entries):
            continue
        if group == CORRELATION:
            parts.append(_correlations(aggregate, entries, n_seeds))
            continue
        cells = [
            (row["family"], row["observer"], *(_number(row[e.name]["mean"], e) for e in entries))
            for row in aggregate
        ]
        heading = ("family", "observer", *(entry.heading or entry.title for entry in entries))
        parts.append(f"{_caption(group, entries)}: mean\n{_table(heading, cells)}")
    if len({row["family"] for row in summary["results"]}) > 1:
        cells = [
            (row["observer"], row["agent"], _verdict(row)) for row in summary["cross_correlation"]
        ]
        title = "Whether Pearson r is highest with the ground truth of the family itself"
        parts.append(f"{title}\n{_table(('observer', 'agent', 'verdict'), cells)}")
    return "\n\n".join(parts)


def score_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `rows_of_files`: tables of scores, and the reasons for missing scores."""
    parts = []
    for group, entries in score_groups(rows[0]).items():
        if all(row[entry.name] is None for row in rows for entry in entries):
            continue
        cells = [
            (row["agent"], *(_number(row[e.name], e) for e in entries), row["verdict"] or "-")
            for row in rows
        ]
        heading = ("agent", *(entry.heading or entry.title for entry in entries), "verdict")
        parts.append(f"{_caption(group, entries)}\n{_table(heading, cells)}")
    prediction = rows[0]["prediction"]
    if prediction is not None:
        parts.append(_predicted_stages(prediction["stages"], in_sample=prediction["in_sample"]))
    missing: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for name, reason in row["reasons"].items():
            missing.setdefault(reason, {}).setdefault(name, []).append(row["agent"])
    if missing:
        lines = [f"  {_missing(missing[why], len(rows))}: {why}" for why in missing]
        parts.append("\n".join(["Missing scores", *lines]))
    return "\n\n".join(parts)


def _caption(group: str, entries: Sequence[ScoreEntry]) -> str:
    units = ", ".join(dict.fromkeys(entry.unit for entry in entries if entry.unit))
    title = GROUPS.get(group, group)
    return f"{title} ({units})" if units else title


def _correlations(
    aggregate: Sequence[Mapping[str, Any]], entries: Sequence[ScoreEntry], n_seeds: int
) -> str:
    """The table of correlations: every agent and the mean over agents, with intervals."""
    cells = [
        (
            row["family"],
            row["observer"],
            agent,
            *(_mean(part[e.name], e) for e in entries),
            _words(part["verdict"]),
        )
        for row in aggregate
        for agent, part in (*row["agents"].items(), ("mean", row))
    ]
    titles = (entry.heading or entry.title for entry in entries)
    heading = ("family", "observer", "agent", *titles, "verdict")
    what = f"mean [{INTERVAL}] over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    return f"{GROUPS[CORRELATION]}: {what}\n{_table(heading, cells)}"


def _predicted_stages(stages: Sequence[int], *, in_sample: bool) -> str:
    which = f"Stages predicted, counted from 0: {', '.join(map(str, stages))}"
    if not in_sample:
        return f"{which}; held out: the rewards were recovered from earlier stages"
    return f"{which}; in sample: the rewards were recovered from them (see malfl recover --stages)"


def _missing(measures: Mapping[str, Sequence[str]], n_agents: int) -> str:
    """Names of scores; with the agents without this score, unless all are."""
    return ", ".join(
        name if len(agents) == n_agents else f"{name} ({', '.join(agents)})"
        for name, agents in measures.items()
    )


def _words(counts: Mapping[str, int]) -> str:
    """The words of several verdicts, with their numbers if there is more than one verdict."""
    found = {word: number for word, number in counts.items() if number}
    if sum(found.values()) == 1:
        return next(iter(found))
    return ", ".join(f"{word} {number}" for word, number in found.items()) or "-"


def _verdict(row: Mapping[str, Any]) -> str:
    if not row["distinct"]:
        return "same ground-truth reward in all families"
    return {True: "yes", False: "no", None: "undecided: values are missing"}[
        row["right_pairing_wins"]
    ]


def _mean(part: Mapping[str, Any], entry: ScoreEntry) -> str:
    mean = _number(part["mean"], entry)
    if part["interval"] is None:
        return mean
    low, high = (_number(end, entry) for end in part["interval"])
    return f"{mean} [{low}, {high}]"


def _number(value: float | None, entry: ScoreEntry) -> str:
    return "-" if value is None else f"{value:.{entry.digits}f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
