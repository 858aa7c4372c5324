"""Tables as plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["score_text", "summary_text"]


def summary_text(summary: Mapping[str, Any]) -> str:
    """The correlation table and the verdicts on the cross-correlation, from the content of
    `summary.json`."""
    rows = []
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
    """Scores per agent."""
    return _table(
        ("agent", "Pearson", "Spearman", ""),
        [
            (row["agent"], _number(row["pearson"]), _number(row["spearman"]), row["reason"] or "")
            for row in rows
        ],
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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
