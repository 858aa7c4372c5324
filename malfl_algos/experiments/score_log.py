"""Scores of what an observer recovered, beside the losses that it logs for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from malfl_algos.scores.registry import score_names

__all__ = ["log_scores"]


def log_scores(log_dir: str, run: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Note the correlations with the true rewards.

    Args:
        log_dir: where the observer logs.
        run: name of the folder in it.
        rows: of `score_rows`, each with `n_stages`, which is the step; undefined scores are left
            out.

    Raises:
        ModuleNotFoundError: where tensorboard is not installed; it says how to.
    """
    from malfl_algos.networks.logging import tensorboard_log

    with tensorboard_log(log_dir, run=run) as log:
        assert log is not None
        for row in rows:
            seat = f"{row['observing']}/" if "observing" in row else ""
            for name in score_names("ground_truth"):
                if row[name] is not None:
                    log(f"{seat}{row['agent']}/{name}", row["n_stages"], row[name])
