"""The line `conditioning`: how far a preconditioner is from the inverse of the precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from time import process_time
from unittest import mock

import numpy as np
import scipy.linalg
from benchmark_lines import DISCOUNT, TEMPERATURE, Contest
from benchmark_scaling_run import Job
from numpy.typing import NDArray

from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.ma_lfl import shared_values
from malfl_algos.ma_lfl.conjugate_gradients import conjugate_gradients
from malfl_algos.ma_lfl.learner_models import ExactEvaluation
from malfl_algos.ma_lfl.precision import MatrixFreeRows, Precision, Preconditioner
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.ma_lfl.value_diagonal import diagonal_preconditioner
from malfl_env import markov_game

FloatArray = NDArray[np.float64]

NOISE, PRIOR = 9e-7, 3.6
"""Variances of the learners' noise and of reward values, about those that are found."""


def conditioning(fast: bool) -> Iterator[Contest]:
    """The mean of agent 0's reward under known policies of exact learners, by conjugate gradients:
    with the factorised preconditioner, against the diagonal one.
    """
    for job in (Job(2, 2),) if fast else (Job(3, 3), Job(6, 2)):
        precision, right = _problem(job)
        diagonal = partial(diagonal_preconditioner, precision)
        shared = partial(shared_values.shared_preconditioner, precision)
        notes: dict[str, float] = {}
        with mock.patch.object(shared_values, "CHANGED", np.inf):  # no stage differs from the last
            notes |= _extremes("factorised, first stages not corrected", precision, shared())
        for name, made in (("factorised", shared), ("diagonal", diagonal)):
            notes |= _extremes(name, precision, made())
            notes[f"{name}: iterations"] = float(_iterations(precision, right, made))
        yield Contest(
            f"conditioning, {job.name}",
            "s",
            ours=partial(_iterations, precision, right, shared),
            baseline=partial(_iterations, precision, right, diagonal),
            against="diagonal preconditioner",
            notes=notes,
            clock=process_time,
        )


def _problem(job: Job) -> tuple[Precision, FloatArray]:
    """Precision of agent 0's reward, and the right side whose solution is its mean."""
    env = job.environment()
    game = markov_game(env)
    learner = MaSpi(DISCOUNT, TEMPERATURE, evaluation="exact", episodes=1, episode_length=1)
    learned = list(learner.learn(env, n_stages=job.n_stages, rng=np.random.default_rng(0)))
    joint = [[stage.joint_policy[agent] for agent in game.agents] for stage in learned]
    model = ExactEvaluation(game.without_rewards(), "state", DISCOUNT, TEMPERATURE)
    values = [
        model.values(StageArrays(stage.observed.counts), own, 0, n_stages=job.n_stages)
        for stage, own in zip(learned[:-1], joint[:-1], strict=True)
    ]
    response = np.stack([TEMPERATURE * np.log(own[0]) for own in joint[1:]])
    none = np.zeros(response.shape)
    rows = MatrixFreeRows(values, response, none, none, TEMPERATURE)
    precision = Precision(rows, np.full(response.shape, 1 / NOISE), PRIOR)
    return precision, precision.moment(response - np.stack([own.offset for own in values]))


def _iterations(precision: Precision, right: FloatArray, made: Callable[[], Preconditioner]) -> int:
    """Iterations until the mean is found, the preconditioner made first."""
    return int(conjugate_gradients(precision, right[:, None], made())[1][0])


def _extremes(name: str, precision: Precision, nearby: Preconditioner) -> dict[str, float]:
    """Extreme eigenvalues of the preconditioned precision, from the matrices."""
    unit = np.eye(precision.rows.n_unknowns)
    matrix, inverse = precision(unit), nearby.apply(unit)
    root = scipy.linalg.cholesky((inverse + inverse.T) / 2, lower=True)
    found = scipy.linalg.eigvalsh(root.T @ ((matrix + matrix.T) / 2) @ root)
    return {
        f"{name}: smallest eigenvalue": float(found[0]),
        f"{name}: largest eigenvalue": float(found[-1]),
    }
