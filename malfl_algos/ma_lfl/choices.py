"""The working response of all stages, for soft and for epsilon-greedy choices of actions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.expected_updates import ExpectedQ
from malfl_algos.ma_lfl.greedy import Choice, exploration, greedy_response
from malfl_algos.ma_lfl.improvement import joint_response
from malfl_algos.ma_lfl.learner_models import LearnerModel
from malfl_algos.ma_lfl.policy_estimation import Response, working_response
from malfl_algos.ma_lfl.posterior import Evidence

__all__ = [
    "first_greedy",
    "greedy_choices",
    "open_scale",
    "repeats",
    "soft_choices",
]

FloatArray = NDArray[np.float64]

FIRST_VARIANCE = 4.0
"""Prior variance of q in the first response of greedy choices, in units of alpha squared."""
SHARED_NOISE = 1.5
"""Number of a Q-learner's rows that count as one, because they share noise. It was chosen so that 2
standard deviations cover what they should on the paper's games.
"""


def soft_choices(
    drift: FloatArray,
    noise: FloatArray,
    counts: FloatArray,
    policies: FloatArray,
    evidence: Evidence,
    *,
    first_counts: FloatArray,
    temperature: float,
) -> tuple[Response, FloatArray]:
    """The working response of every stage at the mode of counts and prediction, and its policies.

    Args:
        drift: as `malfl_algos.ma_lfl.data_fit.Fitted` has it.
        noise: variance of the learner's noise, same shape.
        counts, policies: of every stage.
        evidence: the chosen settings.
        first_counts: counts of the first stage plus pseudo-counts, for learners that keep a share
            of their log policy.
        temperature: alpha.
    """
    if evidence.retained == 0:
        later, predicted = working_response(
            drift, evidence.row_variance(noise), counts[1:], temperature=temperature
        )
        return _with_first(later), np.concatenate([policies[:1], predicted])
    return joint_response(
        drift,
        evidence.row_variance(noise),
        counts[1:],
        first_counts=first_counts,
        start=temperature * np.log(np.maximum(policies, 1e-300)),
        retained=evidence.retained,
        temperature=temperature,
    )


def greedy_choices(
    drift: FloatArray,
    spread: FloatArray,
    counts: FloatArray,
    policies: FloatArray,
    temperature: float,
    *,
    moving: bool,
) -> tuple[Response, FloatArray, FloatArray]:
    """As `soft_choices`, for epsilon-greedy choices; and epsilon of every stage but the first."""
    found = greedy_response(
        drift,
        spread,
        counts[1:],
        exploration(counts[1:]),
        temperature=temperature,
        moving=moving,
    )
    later = np.concatenate([policies[:1], found.policy])
    return _with_first(found.response), later, found.epsilon


def first_greedy(
    counts: FloatArray, policies: FloatArray, temperature: float, *, moving: bool
) -> Response:
    """The working response of epsilon-greedy choices before anything is known of q."""
    flat = np.zeros(counts[1:].shape)
    wide = np.full(flat.shape, FIRST_VARIANCE * temperature**2)
    return greedy_choices(flat, wide, counts, policies, temperature, moving=moving)[0]


def repeats(model: LearnerModel, choice: Choice, n_improvements: int) -> float:
    """Number of rows whose errors repeat each other; 1: the errors are independent.

    How the share of an action follows from q depends on noise that is nearly the same in every
    stage. The q of expected updates at the end of a stage has noise that states share with the
    states that lead to them; `SHARED_NOISE` rows count as one.
    """
    if not isinstance(model, ExpectedQ):
        return 1.0
    if model.moving:
        return SHARED_NOISE * n_improvements if choice == "greedy" else 1.0
    return SHARED_NOISE


def open_scale(epsilon: FloatArray | None) -> dict[str, Any]:
    """Diagnostics of epsilon-greedy choices, which tell nothing about the scale of the reward."""
    if epsilon is None:
        return {}
    return {
        "scale": "open",
        "scale_reason": (
            "epsilon-greedy choices show only which action is the best; the unit is such that the "
            "greedy action is drawn from a softmax of q at the temperature"
        ),
        "epsilon": [None, *map(float, epsilon)],
    }


def _with_first(later: Response) -> Response:
    """A response of all stages, of which the first says nothing."""
    first = np.full((1, *later.mean.shape[1:]), np.inf)
    return Response(
        np.concatenate([np.zeros(first.shape), later.mean]),
        np.concatenate([first, later.variance]),
        later.log_constant,
    )
