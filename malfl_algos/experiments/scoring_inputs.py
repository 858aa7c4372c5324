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
from malfl_algos.experiments.recovery import score_rows
from malfl_algos.experiments.scoring import (
    PREDICTION_MEASURES,
    TRUTH_MEASURES,
    columns,
    judge,
    prediction_measures,
    truth_scores,
    with_policies,
)
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.scores.correlation import Score
from malfl_algos.scores.prediction import prediction_scores
from malfl_algos.storage.arrays import read_arrays
from malfl_algos.trace import LearningTrace
from malfl_env import MarkovGame
from malfl_env.errors import InputError

__all__ = ["Judged", "judged_rows", "read_judged"]

FloatArray = NDArray[np.float64]

NEEDS_TRUTH = "needs the true rewards: --ground-truth FILE"
NEEDS_TRACE = "needs the trace: --trace FILE"
NEEDS_GAME = "needs the game, and this is not the paper's: --config FILE"


@dataclass(frozen=True, eq=False)
class Judged:
    """Recovered rewards, and what they are to be judged by.

    Args:
        rewards: per agent id.
        posterior: `agent_<i>_sd` and `agent_<i>_covariance`; empty where there is none.
        n_stages: how many stages of the trace they were recovered from; None: not known.
        truth: the true rewards and policies.
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
            "nothing to judge by: give --ground-truth FILE (the true rewards), --trace FILE (to "
            "predict what the agents did), or both"
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
        Rows `agent, pearson, spearman, reason` (of `pearson`), the columns of `TRUTH_MEASURES` and
        `PREDICTION_MEASURES`, `reasons` for those that are null, and `prediction`: `stages`, the
        numbers of the predicted stages counted from 0, and `in_sample`, whether the rewards were
        recovered from these very stages (as is assumed where it is not known); null without a
        prediction.

    Raises:
        InputError: where the rewards do not fit what they are judged by.
    """
    correlations, further = _against_truth(judged)
    predictions, prediction = _on_trace(judged)
    return [
        {
            "agent": agent,
            **correlations[agent],
            **columns({**further[agent], **predictions[agent]}),
            "prediction": prediction,
        }
        for agent in judged.rewards
    ]


def _against_truth(
    judged: Judged,
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Score]]]:
    truth, game = judged.truth, judged.game
    if truth is None:
        none = {"pearson": None, "spearman": None, "reason": NEEDS_TRUTH}
        return dict.fromkeys(judged.rewards, none), _no_scores(
            judged.rewards, TRUTH_MEASURES, NEEDS_TRUTH
        )
    states = None if game is None else reachable_states(game)
    rows = score_rows({"": judged.rewards}, truth.rewards, states)
    correlations = {row.pop("agent"): row for row in rows}
    if game is None or states is None:
        return correlations, _no_scores(judged.rewards, TRUTH_MEASURES, NEEDS_GAME)
    base = judge(
        game.with_rewards([truth.rewards[agent] for agent in game.agents]),
        discount=judged.discount,
        temperature=judged.temperature,
        states=states,
    )
    base = with_policies(base, truth.joint_policies)
    return correlations, truth_scores(base, judged.rewards, judged.posterior)


def _on_trace(
    judged: Judged,
) -> tuple[dict[str, dict[str, Score]], dict[str, Any] | None]:
    trace, game = judged.trace, judged.game
    reason = NEEDS_TRACE if trace is None else NEEDS_GAME if game is None else None
    if trace is not None and trace.n_stages < 2:
        reason = "the trace has one stage alone: there is none before it to predict from"
    holed = [agent for agent, r in judged.rewards.items() if not np.all(np.isfinite(r))]
    if holed:
        reason = f"the reward of {holed[0]} has values that are not finite"
    if reason is not None or trace is None or game is None:
        return _no_scores(judged.rewards, PREDICTION_MEASURES, reason or ""), None
    in_sample = judged.n_stages is None or judged.n_stages >= trace.n_stages
    first_stage = min(judged.n_stages or trace.n_stages, trace.n_stages - 1)
    predictions = prediction_scores(
        game,
        judged.rewards,
        trace,
        first_stage=first_stage,
        discount=judged.discount,
        temperature=judged.temperature,
    )
    scores = {agent: prediction_measures(own) for agent, own in predictions.items()}
    stages = list(range(first_stage, trace.n_stages))
    return scores, {"stages": stages, "in_sample": in_sample}


def _no_scores(
    agents: Iterable[str], measures: Iterable[str], reason: str
) -> dict[str, dict[str, Score]]:
    none = dict.fromkeys(measures, Score(None, reason))
    return {agent: none for agent in agents}


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
