"""Tables as plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["score_text", "summary_text"]

_SCORES: Sequence[tuple[str, int, Mapping[str, str]]] = (
    (
        "Against the true rewards (avg: the others averaged over what they played last)",
        3,
        {
            "pearson": "Pearson",
            "spearman": "Spearman",
            "epic": "EPIC",
            "starc": "STARC",
            "epic_averaged": "EPIC avg",
            "starc_averaged": "STARC avg",
            "regret": "regret",
        },
    ),
    (
        "True values within 1, 2, 3 posterior deviations; mean deviation over the truth's",
        3,
        {
            "coverage_1sd": "1 sd",
            "coverage_2sd": "2 sd",
            "coverage_3sd": "3 sd",
            "sd_ratio": "sd ratio",
        },
    ),
    (
        "Log-likelihood of what was played next, nats a step (higher is better)",
        5,
        {
            "predicted_log_likelihood": "predicted",
            "no_change_log_likelihood": "no change",
            "uniform_log_likelihood": "uniform",
        },
    ),
    (
        "Divergence of what was played next from what was predicted, nats a step (0 is best)",
        5,
        {
            "predicted_divergence": "predicted",
            "no_change_divergence": "no change",
            "uniform_divergence": "uniform",
        },
    ),
)
"""Title, decimals, and measures with their names in the heading."""
_FURTHER = {
    "epic": "EPIC",
    "starc": "STARC",
    "epic_averaged": "EPIC avg",
    "starc_averaged": "STARC avg",
    "regret": "regret",
    "coverage_2sd": "2-sd coverage",
    "sd_ratio": "sd ratio",
}


def summary_text(summary: Mapping[str, Any]) -> str:
    """The correlation table, the other scores and the verdicts on the cross-correlation, from the
    content of `summary.json`."""
    rows: list[tuple[str, ...]] = []
    for row in summary["aggregate"]:
        parts = [*row["agents"].items(), ("mean", row)]
        for agent, part in parts:
            rows.append(
                (
                    row["family"],
                    row["observer"],
                    agent,
                    _mean(part["pearson"]),
                    _mean(part["spearman"]),
                )
            )
    n_seeds = len({row["seed"] for row in summary["results"]})
    lines = [
        f"Correlation of recovered with true rewards, mean [95 % interval] over {n_seeds} seed(s)",
        _table(("family", "observer", "agent", "Pearson", "Spearman"), rows),
    ]
    further = {name: _FURTHER[name] for name in _FURTHER if name in summary["aggregate"][0]}
    if further:
        rows = [
            (row["family"], row["observer"], *(_number(row[name]["mean"]) for name in further))
            for row in summary["aggregate"]
        ]
        lines += ["", "Distance, regret and calibration, means over seeds and agents"]
        lines += [_table(("family", "observer", *further.values()), rows)]
    if len({row["family"] for row in summary["results"]}) > 1:
        lines += ["", "Cross-correlation: does the family's own truth win?"]
        lines += [
            _table(
                ("observer", "agent", "verdict"),
                [
                    (row["observer"], row["agent"], _verdict(row))
                    for row in summary["cross_correlation"]
                ],
            )
        ]
    return "\n".join(lines)


def score_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Scores per agent, from `judged_rows`: tables of those that there are, and what keeps the
    others away."""
    parts = []
    for title, digits, names in _SCORES:
        cells = [(row["agent"], *(_number(row[m], digits) for m in names)) for row in rows]
        if any(row[measure] is not None for row in rows for measure in names):
            parts.append(f"{title}\n{_table(('agent', *names.values()), cells)}")
    prediction = rows[0]["prediction"]
    if prediction is not None:
        parts.append(_predicted_stages(prediction["stages"], in_sample=prediction["in_sample"]))
    missing: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for measure in (m for *_, names in _SCORES for m in names if row[m] is None):
            reason = row["reasons"].get(measure, row["reason"])
            missing.setdefault(reason, {}).setdefault(measure, []).append(row["agent"])
    if missing:
        lines = [f"  {_left_out(missing[why], len(rows))}: {why}" for why in missing]
        parts.append("\n".join(["Left out", *lines]))
    return "\n\n".join(parts)


def _predicted_stages(stages: Sequence[int], *, in_sample: bool) -> str:
    which = f"Stages predicted, counted from 0: {', '.join(map(str, stages))}"
    if not in_sample:
        return f"{which}; held out, the rewards were recovered from earlier ones"
    return f"{which}; in sample, the rewards were recovered from it (malfl recover --stages)"


def _left_out(measures: Mapping[str, Sequence[str]], n_agents: int) -> str:
    """Names of measures, with the agents that lack them where not all do."""
    return ", ".join(
        name if len(agents) == n_agents else f"{name} ({', '.join(agents)})"
        for name, agents in measures.items()
    )


def _verdict(row: Mapping[str, Any]) -> str:
    if not row["distinct"]:
        return "same true reward in all families"
    return {True: "yes", False: "no", None: "undecided: values are missing"}[
        row["right_pairing_wins"]
    ]


def _mean(part: Mapping[str, Any]) -> str:
    if part["interval"] is None:
        return _number(part["mean"])
    low, high = part["interval"]
    return f"{_number(part['mean'])} [{_number(low)}, {_number(high)}]"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
