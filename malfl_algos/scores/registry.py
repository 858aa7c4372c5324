"""The list of all scores. Every score in it is computed, tabled, printed and drawn.

To add a score, write its function and its entry in `SCORES`; no other file needs a change.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.scores.agreement import pearson, spearman
from malfl_algos.scores.distances import RewardSpace, epic, starc
from malfl_algos.scores.inputs import Need, Reference, ScoringInputs
from malfl_algos.scores.means import Score
from malfl_algos.scores.prediction import PREDICTIONS
from malfl_env.arguments import typed
from malfl_env.checks import check_choice, shown
from malfl_env.errors import InputError

__all__ = [
    "CORRELATION",
    "GROUPS",
    "SCORES",
    "ScoreEntry",
    "score_agent",
    "score_groups",
    "score_names",
]

FloatArray = NDArray[np.float64]

CORRELATION = "correlation"
GROUPS = {
    CORRELATION: "Correlation with the ground-truth reward over joint states",
    "distance": "Distance from the ground-truth reward up to shaping, and regret",
    "calibration": "Calibration: share of ground-truth values within 1, 2, 3 posterior sd",
    "log_likelihood": "Log-likelihood of the actions played in the predicted stages",
    "divergence": "KL divergence of the actions played from the predicted policies",
}
"""Titles of groups. The scores of a group are printed in one table and drawn in one figure; a group
without an entry here is titled by its name."""


@typed
@dataclass(frozen=True)
class ScoreEntry:
    """One score.

    Args:
        name: of the score in rows, tables, options and files.
        title: the label of axes and figures.
        group: the printed table and the figure of this score; one of `GROUPS`, or a new one.
        function: of the inputs and an agent id; called only if all needed inputs are there.
        needs: the inputs that it needs beside the recovered rewards.
        heading: of its column in printed tables; "" means the title.
        digits: decimals in print.
        bounds: smallest and largest possible value; None means unbounded.
        lower_is_better: None if neither end is better.
        unit: "" for a pure number.
    """

    name: str
    title: str
    group: str
    function: Callable[[ScoringInputs, str], Score]
    needs: tuple[Need, ...]
    heading: str = ""
    digits: int = 3
    bounds: tuple[float | None, float | None] = (None, None)
    lower_is_better: bool | None = None
    unit: str = ""


def score_names(*available: Need) -> list[str]:
    """The names of the scores that need only these inputs, in the order of the registry.

    Args:
        available: names of inputs, those of `ScoreEntry.needs`.
    """
    return [name for name, entry in SCORES.items() if set(entry.needs) <= set(available)]


def score_groups(names: Container[str]) -> dict[str, list[ScoreEntry]]:
    """The scores with these names, by group."""
    groups: dict[str, list[ScoreEntry]] = {}
    for name, entry in SCORES.items():
        if name in names:
            groups.setdefault(entry.group, []).append(entry)
    return groups


@typed
def score_agent(
    inputs: ScoringInputs, agent: str, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Scores of one agent's reward as columns of a row.

    Args:
        inputs: of the scores.
        agent: id of the agent.
        names: of the scores; None means all.

    Returns:
        A value per name, None if it is missing, and `reasons`: the reason per missing value.
    """
    for name in names or ():
        check_choice("names", name, SCORES)
    if agent not in inputs.rewards:
        raise InputError(
            f"agent must be one of those with a reward, {shown(list(inputs.rewards))}; got "
            f"{shown(agent)}"
        )
    found = {name: _score(SCORES[name], inputs, agent) for name in names or SCORES}
    values: dict[str, Any] = {name: score.value for name, score in found.items()}
    reasons = {name: score.reason for name, score in found.items() if score.value is None}
    return {**values, "reasons": reasons}


def _score(entry: ScoreEntry, inputs: ScoringInputs, agent: str) -> Score:
    for need in entry.needs:
        reason = inputs.lacks(need, agent)
        if reason is not None:
            return Score(None, reason)
    with np.errstate(all="ignore"):  # a score that is not finite is missing, with a reason
        return entry.function(inputs, agent)


def _truth(inputs: ScoringInputs) -> Reference:
    assert inputs.reference is not None
    return inputs.reference


def _correlation(name: str, title: str, measure: Callable[..., Score]) -> ScoreEntry:
    def function(inputs: ScoringInputs, agent: str) -> Score:
        truth = _truth(inputs)
        return measure(inputs.rewards[agent], truth.truth[agent], states=truth.states)

    return ScoreEntry(
        name,
        title,
        CORRELATION,
        function,
        ("ground_truth",),
        bounds=(-1.0, 1.0),
        lower_is_better=False,
    )


def _distance(
    name: str,
    title: str,
    heading: str,
    measure: Callable[[FloatArray, FloatArray, RewardSpace], Score],
    *,
    averaged: bool,
) -> ScoreEntry:
    """A distance over joint actions. If averaged: over the agent's own actions, with the others
    averaged over their ground-truth policies of the last stage."""

    def function(inputs: ScoringInputs, agent: str) -> Score:
        truth = _truth(inputs)
        space, reason = truth.joint, truth.missing.get("joint")
        if averaged:
            index = list(truth.truth).index(agent)
            space = truth.averaged[index] if truth.averaged else None
            reason = "the policies of the last stage are not known"
        if space is None:
            return Score(None, reason)
        return measure(inputs.rewards[agent], truth.truth[agent], space)

    return ScoreEntry(
        name,
        title,
        "distance",
        function,
        ("ground_truth", "dynamics"),
        heading,
        bounds=(0.0, 1.0),
        lower_is_better=True,
    )


def _calibrated(name: str, title: str, heading: str, most: float | None) -> ScoreEntry:
    def function(inputs: ScoringInputs, agent: str) -> Score:
        return inputs.calibrations[agent][name]

    needs: tuple[Need, ...] = ("ground_truth", "posterior_covariance")
    return ScoreEntry(name, title, "calibration", function, needs, heading, bounds=(0.0, most))


def _predicted(prediction: str, quantity: Literal["log_likelihood", "divergence"]) -> ScoreEntry:
    def function(inputs: ScoringInputs, agent: str) -> Score:
        held_out = inputs.held_out
        assert held_out is not None
        score = getattr(held_out.predictions[agent][prediction], quantity)
        assert isinstance(score, Score)
        return score

    heading, likelihood = prediction.replace("_", " "), quantity == "log_likelihood"
    return ScoreEntry(
        f"{prediction}_{quantity}",
        f"{quantity.replace('_', '-')}, {heading}",
        quantity,
        function,
        ("trace", "dynamics"),
        heading,
        digits=5,
        bounds=(None, 0.0) if likelihood else (0.0, None),
        lower_is_better=not likelihood,
        unit="nats per step",
    )


_ENTRIES = (
    _correlation("pearson", "Pearson r", pearson),
    _correlation("spearman", "Spearman rho", spearman),
    _distance("epic", "EPIC distance", "EPIC", epic, averaged=False),
    _distance("starc", "STARC distance", "STARC", starc, averaged=False),
    _distance("epic_averaged", "EPIC distance, averaged", "EPIC avg", epic, averaged=True),
    _distance("starc_averaged", "STARC distance, averaged", "STARC avg", starc, averaged=True),
    ScoreEntry(
        "regret",
        "regret",
        "distance",
        lambda inputs, agent: inputs.regrets[agent],
        ("ground_truth", "dynamics"),
        bounds=(0.0, None),
        lower_is_better=True,
    ),
    _calibrated("coverage_1sd", "share of values within 1 sd", "1 sd", 1.0),
    _calibrated("coverage_2sd", "share of values within 2 sd", "2 sd", 1.0),
    _calibrated("coverage_3sd", "share of values within 3 sd", "3 sd", 1.0),
    _calibrated("sd_ratio", "posterior sd / ground-truth sd", "sd ratio", None),
    *(
        _predicted(prediction, quantity)
        for quantity in ("log_likelihood", "divergence")
        for prediction in PREDICTIONS
    ),
)
SCORES: dict[str, ScoreEntry] = {entry.name: entry for entry in _ENTRIES}
"""By name, in the order of columns."""
