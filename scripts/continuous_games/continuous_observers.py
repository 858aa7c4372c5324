"""The observers in the study of continuous games, all with the same reward features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from continuous_baselines import BASELINES, AgentSteps
from continuous_learning import HeldOut, NextReward, Settings, random_stream
from malfl_sb3.randomness import torch_settings
from numpy.typing import NDArray

from malfl_algos import LearningTrace
from malfl_algos.networks.recovered_functions import RecoveredFunctions
from malfl_algos.networks.relations import Group, relation_names, relations, with_relations
from malfl_algos.plugins import load_observer
from malfl_algos.verdict.moved import judge_moves

__all__ = ["GROUPS", "LAST", "OBSERVERS", "OPTIONS", "OURS", "Recovered", "recover"]

FloatArray = NDArray[np.float64]

OURS, LAST = "ma-lfl-network", "log-policy"
OBSERVERS = (OURS, *BASELINES, LAST)

_GOOD = (
    Group("goal", 0, 1),
    Group("landmarks", 2, 2),
    Group("adversary", 6, 1),
    Group("mates", 8, 1, team=True),
)
GROUPS: dict[str, dict[str, tuple[Group, ...]]] = {
    "simple_spread": dict.fromkeys(
        ("agent_0", "agent_1", "agent_2"),
        (Group("landmarks", 4, 3), Group("others", 10, 2, team=True)),
    ),
    "simple_adversary": {
        "adversary_0": (Group("landmarks", 0, 2), Group("agents", 4, 2)),
        "agent_0": _GOOD,
        "agent_1": _GOOD,
    },
}
"""Per game and agent, which columns of its observation are places of what."""

OPTIONS: dict[str, Any] = {
    "form": "moves",
    "rewarded": "after",
    "widths": (100,),
    "ensemble": 1,
    "epochs": 10,
}
"""Options of our observer, chosen on the seeds 0 to 2."""


@dataclass(frozen=True, eq=False)
class Recovered:
    """What an observer recovered.

    Args:
        rewards: per agent, of the observation after the step; None for a reward of the action.
        values: per agent, the rewards of the held-out steps.
        halves: per agent, the correlation of the rewards of odd and of even stages over them; None
            where there is none.
        verdicts: per agent, for our observer.
        diagnostics: per agent, for our observer.
    """

    rewards: Mapping[str, NextReward] | None
    values: Mapping[str, FloatArray]
    halves: Mapping[str, float | None]
    verdicts: Mapping[str, Any]
    diagnostics: Mapping[str, Any]


def recover(
    name: str,
    settings: Settings,
    seed: int,
    folder: Path,
    trace: LearningTrace,
    held_out: Sequence[HeldOut],
) -> Recovered:
    """Recover the rewards of all agents with one observer.

    Args:
        name: one of `OBSERVERS`.
        settings, seed: of the study.
        folder: of the seed; the result of our observer, which the others read their policies from,
            is kept in it.
        trace: what observers see.
        held_out: of the same stages.
    """
    functions = _functions(settings, seed, folder, trace)
    if name == LAST:
        return _last_policy(functions, settings, held_out)
    if name == OURS:
        return _ours(functions, settings, held_out)
    rewards, halves, values = {}, {}, {}
    for index, agent in enumerate(trace.agents):
        groups = GROUPS[settings.game][agent]
        steps, scale = _steps(functions, trace, index, groups)
        every = list(range(len(steps) if name == "trex" else len(steps) - 1))
        rng = random_stream(seed, "observer", index)
        rewards[agent], one, other = (
            _linear(groups, scale, BASELINES[name](steps, chosen, settings.discount, rng))
            for chosen in (every, every[::2], every[1::2])
        )
        after = np.concatenate([own.next_observations[agent] for own in held_out])
        values[agent] = rewards[agent](after)
        halves[agent] = _correlation(one(after), other(after))
    return Recovered(rewards, values, halves, {}, {})


def _functions(
    settings: Settings, seed: int, folder: Path, trace: LearningTrace
) -> RecoveredFunctions:
    """Return the result of our observer, which is kept in a file."""
    path = folder / OURS / "functions.npz"
    if not path.exists():
        groups = GROUPS[settings.game]
        columns, learned = [], []
        for agent, space in zip(trace.agents, trace.spaces or (), strict=True):
            width = int((space.shape or ())[0])
            learned.append(tuple(range(width)))
            columns.append(tuple(width + k for k in range(len(relation_names(groups[agent])))))
        drawn = int(random_stream(seed, "observer").integers(2**31))
        observer = load_observer(
            "ma-lfl-network",
            **OPTIONS,
            reward_inputs=tuple(columns),
            learner_inputs=tuple(learned),
            seed=drawn,
            checkpoint_dir=str(folder / OURS / "checkpoints"),
        )
        with torch_settings(1):
            found: Any = observer.recover(
                with_relations(trace, groups),
                game=None,
                discount=settings.discount,
                temperature=None,
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        found.save(path)
    return RecoveredFunctions.load(path)


def _ours(
    functions: RecoveredFunctions, settings: Settings, held_out: Sequence[HeldOut]
) -> Recovered:
    def reward_of(agent: str) -> NextReward:
        own, groups = functions.functions[agent], GROUPS[settings.game][agent]
        actions = np.zeros((1, len(functions.agents)), dtype=np.int64)

        def reward(after: NDArray[Any]) -> FloatArray:
            return own(_wider(after, groups), np.repeat(actions, len(after), axis=0))

        return reward

    rewards = {agent: reward_of(agent) for agent in functions.agents}
    diagnostics = {agent: dict(functions.diagnostics[agent]) for agent in functions.agents}
    return Recovered(
        rewards,
        {
            agent: own(np.concatenate([one.next_observations[agent] for one in held_out]))
            for agent, own in rewards.items()
        },
        {agent: own["halves"] for agent, own in diagnostics.items()},
        {agent: judge_moves(own).plain() for agent, own in diagnostics.items()},
        diagnostics,
    )


def _last_policy(
    functions: RecoveredFunctions, settings: Settings, held_out: Sequence[HeldOut]
) -> Recovered:
    """Take the log-probability of the action under the last policy for the reward."""
    values = {}
    for index, agent in enumerate(functions.agents):
        seen = np.concatenate([own.observations[agent] for own in held_out])
        actions = np.concatenate([own.joint_actions for own in held_out])[:, index]
        wide = _wider(seen, GROUPS[settings.game][agent])
        log_policy = functions.log_policy(agent, wide, settings.stages - 1)
        values[agent] = log_policy[np.arange(len(actions)), actions.astype(np.int64)]
    return Recovered(None, values, dict.fromkeys(functions.agents), {}, {})


def _steps(
    functions: RecoveredFunctions, trace: LearningTrace, index: int, groups: Sequence[Group]
) -> tuple[list[AgentSteps], tuple[FloatArray, FloatArray]]:
    """Return one agent's steps of every stage, and mean and sd of the reward features."""
    agent, found = trace.agents[index], []
    raw = [
        (np.asarray(steps.observations[agent]), np.asarray(steps.next_observations[agent]), steps)
        for steps in (stage.transitions for stage in trace.stages)
        if steps is not None and steps.observations and steps.next_observations
    ]
    wide = [(_wider(here, groups), _wider(after, groups)) for here, after, _ in raw]
    everything = np.concatenate([here for here, _ in wide]).astype(np.float64)
    mean, sd = everything.mean(axis=0), everything.std(axis=0)
    sd = np.where(sd > 1e-6, sd, np.inf)
    width = raw[0][0].shape[1]
    for stage, ((here, after), (*_, steps)) in enumerate(zip(wide, raw, strict=True)):
        following = min(stage + 1, trace.n_stages - 1)
        actions = np.asarray(steps.joint_actions)[:, index].astype(np.int64)
        played = functions.log_policy(agent, here, following)
        seen, seen_after = ((own - mean) / sd for own in (here, after))
        one = np.ones((len(here), 1))
        found.append(
            AgentSteps(
                np.concatenate([seen, one], axis=1),
                np.concatenate([seen_after, one], axis=1),
                seen_after[:, width:],
                actions,
                np.asarray(steps.episode_ends),
                (
                    functions.log_policy(agent, after, stage),
                    functions.log_policy(agent, after, following),
                ),
                played[np.arange(len(actions)), actions],
            )
        )
    return found, (mean[width:], sd[width:])


def _linear(
    groups: Sequence[Group], scale: tuple[FloatArray, FloatArray], weights: FloatArray
) -> NextReward:
    mean, sd = scale
    return lambda after: np.asarray((relations(after, groups) - mean) / sd @ weights)


def _wider(observations: NDArray[Any], groups: Sequence[Group]) -> NDArray[np.float32]:
    """Return observations with the relations as further columns; see `with_relations`."""
    return np.concatenate([observations, relations(observations, groups)], axis=1, dtype=np.float32)


def _correlation(one: FloatArray, other: FloatArray) -> float | None:
    if min(one.std(), other.std()) < 1e-12:
        return None
    return float(np.corrcoef(one, other)[0, 1])
