"""Smooth priors of the rewards of `ma-lfl-bellman` and `ma-lfl-replay`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.alternation import AgentFit
from malfl_algos.ma_lfl.carried_rules import choice_of
from malfl_algos.ma_lfl.gradient_fit import fit_policy_gradient, reward_prior
from malfl_algos.ma_lfl.greedy_fit import fit_greedy, small_enough
from malfl_algos.ma_lfl.learner_models import LinearisedModel
from malfl_algos.ma_lfl.prior_shapes import MARGIN, SmoothPriors
from malfl_algos.ma_lfl.reward_models import OF_STATES, RewardModel, count_unknowns
from malfl_algos.ma_lfl.reward_priors import (
    RewardPrior,
    alike_states,
    own_cells,
    prior_of_alike_states,
)
from malfl_algos.ma_lfl.settings import GRADIENT, Solver
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.observers.bayesian_options import BayesianOptions, Settings
from malfl_algos.observers.state_coordinates import seen_states
from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["fits_with_smooth_prior", "has_smooth_prior", "smooth_prior_of", "smooth_priors"]

FloatArray = NDArray[np.float64]

MOST_SMOOTH, MOST_SMOOTH_ASKED = 1000, 2500
"""Largest number of unknowns for which `auto` tries a smooth prior, and for which there is one:
every step of its search factorises matrices of this size.
"""


def smooth_prior_of(
    options: BayesianOptions, trace: LearningTrace, game: MarkovGame | None, agent_index: int
) -> RewardPrior | None:
    """The prior of an agent's reward over the coordinates of the states; None: they have none.

    Args:
        trace, game: as `recover` takes them.
        agent_index: the agent.
    """
    seen = seen_states(trace, game)
    if seen is None or options.reward_model == "features":
        return None
    n_actions = trace.n_actions
    per_state = {"own_action": n_actions[agent_index], "joint": prod(n_actions)}
    alike = alike_states(seen, agent_index)
    return prior_of_alike_states(alike, per_state.get(options.reward_model, 1))


def smooth_priors(
    options: BayesianOptions,
    trace: LearningTrace,
    game: MarkovGame | None,
    solver: Solver,
    known: Mapping[str, FloatArray],
) -> tuple[SmoothPriors | None, str | None]:
    """The smooth priors to try, or why there are none. An agent whose policies are known needs
    none: they tell its reward all but exactly.

    Raises:
        InputError: if a smooth prior is asked for and not possible.
    """
    if options.prior == "iid" or solver == "low-rank":
        return None, None
    why = _without_smooth_prior(options, trace, solver)
    if why is None:
        found = [smooth_prior_of(options, trace, game, index) for index in range(trace.n_agents)]
        if None not in found:
            margin = MARGIN if options.prior == "auto" else -np.inf
            unknown = [agent not in known for agent in trace.agents]
            priors = [own if on else None for own, on in zip(found, unknown, strict=True)]
            return SmoothPriors(priors, margin, cells=_cells(options, trace, game)), None
        why = (
            "the states are mere numbers: give a game whose observations have coordinates, or "
            "a trace whose states are labels of several columns"
        )
    if options.prior == "smooth":
        raise InputError(f"prior smooth is not possible: {why}; or set prior to auto or iid")
    return None, why


def _cells(
    options: BayesianOptions, trace: LearningTrace, game: MarkovGame | None
) -> list[NDArray[np.int64] | None] | None:
    """Every agent's own cell by joint state, for `auto` and rewards of the state."""
    seen = seen_states(trace, game)
    if options.prior != "auto" or options.reward_model not in OF_STATES or seen is None:
        return None
    return [own_cells(seen, index) for index in range(trace.n_agents)]


def _without_smooth_prior(
    options: BayesianOptions, trace: LearningTrace, solver: Solver
) -> str | None:
    """Why there is no smooth prior whatever the states are."""
    if options.reward_model == "features":
        return "with features the prior is one of independent weights"
    if options._given() is not None:
        return "noise_variance and prior_variance are given"
    if solver == "iterative":
        return "the solver is iterative"
    n_unknowns = count_unknowns(options.reward_model, trace.n_states, trace.n_actions)
    most = MOST_SMOOTH_ASKED if options.prior == "smooth" else MOST_SMOOTH
    if n_unknowns > most:
        return f"{n_unknowns} unknowns, tried with up to {most}"
    return None


def has_smooth_prior(
    options: BayesianOptions,
    rule: str,
    trace: LearningTrace,
    base: RewardModel,
    maps: Sequence[FloatArray | None],
) -> bool:
    """Whether `alternate` does not fit the rewards of learners of this rule."""
    if choice_of(rule) == "soft" or base == "joint" or options._given() is not None:
        return rule == GRADIENT
    n_actions = max(trace.n_actions)
    n_unknowns = count_unknowns(base, trace.n_states, trace.n_actions)
    n_formed = max(n_unknowns if own is None else own.shape[1] for own in maps)
    return small_enough((trace.n_stages, trace.n_states, n_actions), n_formed)


def fits_with_smooth_prior(
    options: BayesianOptions,
    stages: Sequence[StageArrays],
    game: MarkovGame | None,
    settings: Settings,
    base: RewardModel,
    maps: Sequence[FloatArray | None],
    *,
    known_policies: Sequence[FloatArray | None],
    passes: int,
) -> list[AgentFit]:
    """The fits of rules whose data say little about single reward values."""
    shared: dict[str, Any] = {
        "known_policies": known_policies,
        "features": maps,
        "passes": passes,
    }
    if settings["rule"] == GRADIENT:
        assert game is not None
        discount = settings["discount"]
        return fit_policy_gradient(stages, game, base, discount=discount, **shared)
    n_states, *n_actions = stages[0].joint_counts.shape
    priors = [
        reward_prior(game, own, base, n, n_states) for own, n in zip(maps, n_actions, strict=True)
    ]
    model = options._model(game, settings)
    assert isinstance(model, LinearisedModel)
    models = [model] * len(n_actions)
    shared["temperature"] = settings["temperature"]
    return fit_greedy(stages, models, priors, **shared)
