"""Everything that can be said of one file of recovered rewards, and what the rest would need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.parts import reachable_states
from malfl_algos.experiments.scoring import posterior_parts
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.scores.inputs import (
    HeldOut,
    Reference,
    ScoringInputs,
    reference,
    with_policies,
)
from malfl_algos.scores.registry import score_agent
from malfl_algos.storage.arrays import read_arrays
from malfl_algos.trace import LearningTrace
from malfl_env import MarkovGame
from malfl_env.errors import InputError

__all__ = ["Judged", "judged_rows", "read_judged"]

FloatArray = NDArray[np.float64]

NEEDS_TRUTH = "needs the ground-truth rewards: --ground-truth FILE"
NEEDS_TRACE = "needs the trace: --trace FILE"
NEEDS_GAME = "needs the game, and this is not the paper's: --config FILE"


@dataclass(frozen=True, eq=False)
class Judged:
    """Recovered rewards, and what they are to be judged by.

    Args:
        rewards: per agent id.
        posterior: `agent_<i>_sd` and `agent_<i>_covariance`; empty where there is none.
        n_stages: how many stages of the trace they were recovered from; None: not known.
        truth: the ground-truth rewards and policies.
        trace: stages, the last of them possibly unknown to the rewards.
        game: the dynamics; None where they are not known.
        discount, temperature: the learners'.
    """

    rewards: Mapping[str, FloatArray]
    posterior: Mapping[str, FloatArray]
    n_stages: int | None
    truth: GroundTruth | None
    trace: LearningTrace | None
    game: MarkovGame | None
    discount: float
    temperature: float


def read_judged(
    rewards: Path,
    *,
    ground_truth: Path | None,
    trace: Path | None,
    config: ExperimentConfig,
    config_given: bool,
) -> Judged:
    """Read what there is; `posterior.npz` and `diagnostics.json` beside the rewards, too.

    Args:
        rewards: `rewards.npz`.
        ground_truth, trace: at least one of the two.
        config: of the game.
        config_given: whether somebody said so. If not, a game that does not fit is not known.

    Raises:
        InputError: where files are missing or damaged, or not of one game.
    """
    if ground_truth is None and trace is None:
        raise InputError(
            "nothing to score against: give --ground-truth FILE (the ground-truth rewards), "
            "--trace FILE (to predict what the agents did), or both"
        )
    arrays = read_arrays(rewards)[0]
    truth = None if ground_truth is None else GroundTruth.load(ground_truth)
    seen = None if trace is None else LearningTrace.load(trace)
    game: MarkovGame | None = config.markov_game(config.reward_families[0]).without_rewards()
    if truth is not None:
        _check_agents(rewards, arrays, str(ground_truth), tuple(truth.rewards))
        shapes = [policies.shape[1:] for policies in truth.joint_policies.values()]
        game = _same_game(game, shapes, str(ground_truth), config_given=config_given)
    if seen is not None:
        _check_agents(rewards, arrays, str(trace), seen.agents)
        shapes = [(seen.n_states, n) for n in seen.n_actions]
        game = _same_game(game, shapes, str(trace), config_given=config_given)
        _check_shapes(rewards, arrays, (seen.n_states, *seen.n_actions))
    if truth is not None:
        n_actions = tuple(policies.shape[-1] for policies in truth.joint_policies.values())
        n_states = len(next(iter(truth.rewards.values())))
        _check_shapes(rewards, arrays, (n_states, *n_actions))
    posterior = rewards.with_name("posterior.npz")
    return Judged(
        rewards=arrays,
        posterior=read_arrays(posterior)[0] if posterior.exists() else {},
        n_stages=_stages_used(rewards.with_name("diagnostics.json"), arrays),
        truth=truth,
        trace=seen,
        game=game,
        discount=config.discount,
        temperature=config.temperature,
    )


def judged_rows(judged: Judged) -> list[dict[str, Any]]:
    """One row per agent with every score, null where there is none.

    Returns:
        Rows `agent`, the scores of the registry, `reasons` for those that are null, and
        `prediction`: `stages`, the numbers of the predicted stages counted from 0, and `in_sample`,
        whether the rewards were recovered from these very stages (as is assumed where it is not
        known); null without a prediction.

    Raises:
        InputError: where the rewards do not fit what they are judged by.
    """
    held_out, reason = _held_out(judged)
    inputs = ScoringInputs(
        judged.rewards,
        None if judged.truth is None else _reference(judged.truth, judged),
        **posterior_parts(judged.posterior),
        held_out=held_out,
        missing={"ground_truth": NEEDS_TRUTH, "dynamics": NEEDS_GAME, "trace": reason},
    )
    prediction = None
    if held_out is not None:
        known, n_stages = judged.n_stages, len(held_out.joint_counts)
        stages = list(range(held_out.first_stage, n_stages))
        prediction = {"stages": stages, "in_sample": known is None or known >= n_stages}
    return [
        {"agent": agent, **score_agent(inputs, agent), "prediction": prediction}
        for agent in judged.rewards
    ]


def _reference(truth: GroundTruth, judged: Judged) -> Reference:
    game = judged.game
    if game is None:
        return Reference(truth.rewards)
    base = reference(
        game.with_rewards([truth.rewards[agent] for agent in game.agents]),
        discount=judged.discount,
        temperature=judged.temperature,
        states=reachable_states(game),
    )
    return with_policies(base, truth.joint_policies)


def _held_out(judged: Judged) -> tuple[HeldOut | None, str]:
    """The stages to predict, or the reason why there are none."""
    trace, game = judged.trace, judged.game
    if trace is None:
        return None, NEEDS_TRACE
    if game is None:
        return None, NEEDS_GAME
    if trace.n_stages < 2:
        return None, "the trace has one stage alone: there is none before it to predict from"
    holed = [agent for agent, r in judged.rewards.items() if not np.all(np.isfinite(r))]
    if holed:
        return None, f"the reward of {holed[0]} has values that are not finite"
    return HeldOut(
        game,
        judged.rewards,
        [stage.counts for stage in trace.stages],
        first_stage=min(judged.n_stages or trace.n_stages, trace.n_stages - 1),
        discount=judged.discount,
        temperature=judged.temperature,
    ), ""


def _check_agents(
    rewards: Path, arrays: Mapping[str, FloatArray], other: str, agents: tuple[str, ...]
) -> None:
    if not arrays or not set(arrays) <= set(agents):
        raise InputError(
            f"{rewards} has rewards of {', '.join(arrays) or 'nobody'}, "
            f"{other} is of {', '.join(agents)}"
        )


def _check_shapes(rewards: Path, arrays: Mapping[str, FloatArray], whole: tuple[int, ...]) -> None:
    for agent, reward in arrays.items():
        if reward.shape not in (whole[:1], whole) or reward.dtype != np.float64:
            raise InputError(
                f"{rewards} does not fit: the reward of {agent} must be float64 of shape "
                f"{whole[:1]} or {whole}, got {reward.dtype} {reward.shape}"
            )


def _same_game(
    game: MarkovGame | None, shapes: list[tuple[int, ...]], path: str, *, config_given: bool
) -> MarkovGame | None:
    """The game, if a file is of one with these (joint states, actions) per agent."""
    if game is None or shapes == [(game.n_states, n) for n in game.n_actions]:
        return game
    if config_given:
        raise InputError(
            f"{path} is of a game with {shapes[0][0]} joint states and actions "
            f"{tuple(shape[-1] for shape in shapes)}, the configuration's has {game.n_states} and "
            f"{game.n_actions}"
        )
    return None


def _stages_used(diagnostics: Path, agents: Iterable[str]) -> int | None:
    """How many stages the rewards were recovered from, of all agents the most."""
    try:
        content = json.loads(diagnostics.read_text(encoding="utf-8"))
        return max(int(content[agent]["n_stages"]) for agent in agents)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
