"""Play a stage under fixed policies, many games at once: one policy call per agent and step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import LearnedStage, StageTruth
from malfl_algos.play.games import Games
from malfl_algos.play.moves import Moved
from malfl_algos.trace import Stage, Transitions
from malfl_env.arguments import Count, typed
from malfl_env.errors import InputError

__all__ = ["joined", "play_stage"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Act = Callable[[int, NDArray[Any]], FloatArray]


@typed
def play_stage(
    games: Games, act: Act, *, episodes: Count, episode_length: Count, rng: np.random.Generator
) -> Iterator[LearnedStage]:
    """Play episodes, as many at a time as there are games.

    Args:
        games: copies of the game; all are reset.
        act: the policy of an agent: its index and observations `(n, ...)` -> probabilities `(n,
            n_actions)`.
        episodes: number of episodes.
        episode_length: steps after which an episode is truncated, unless it ends earlier.
        rng: source of seeds and actions.

    Yields:
        Parts of the stage. Each holds whole episodes in order, at most `games.n_games *
        episode_length` steps.

    Raises:
        InputError: for rewards that are not finite, or agents that do not end together.
    """
    for first in range(0, episodes, games.n_games):
        n_games = min(games.n_games, episodes - first)
        yield _played(games, act, n_games=n_games, episode_length=episode_length, rng=rng)


@typed
def joined(parts: Iterable[LearnedStage]) -> LearnedStage:
    """Join the parts of a stage, as `play_stage` yields them.

    Args:
        parts: at least one, in the order of play, each with steps.

    Returns:
        One stage with the steps, policies and rewards of all parts; its arrays are read-only.
    """
    all_parts = list(parts)
    truths = [part.truth for part in all_parts]
    steps = Transitions.concat(
        part.observed.transitions for part in all_parts if part.observed.transitions is not None
    )
    return LearnedStage(
        Stage(transitions=steps),
        StageTruth(
            {
                agent: _whole([own.policies[agent] for own in truths])
                for agent in truths[0].policies
            },
            {
                agent: _whole([own.rewards[agent] for own in truths if own.rewards is not None])
                for agent in truths[0].rewards or {}
            },
        ),
    )


def _whole(parts: list[NDArray[Any]]) -> NDArray[Any]:
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    whole.flags.writeable = False
    return whole


def _played(
    games: Games, act: Act, *, n_games: int, episode_length: Count, rng: np.random.Generator
) -> LearnedStage:
    """One episode of each of the first games."""
    agents = range(len(games.agents))
    present = tuple(seen[:n_games] for seen in games.reset(rng))
    numbers = np.arange(n_games)
    records = _Records(games)
    for step in range(episode_length):
        policies = [act(agent, present[agent]) for agent in agents]
        draws = rng.random((len(numbers), len(agents)))
        actions = np.stack([_drawn(policies[a], draws[:, a]) for a in agents], axis=-1)
        moved = games.step(numbers, actions)
        if not np.all(np.isfinite(moved.rewards)):
            raise InputError("the game returned rewards that are not finite: correct or clip them")
        ended = moved.terminated | moved.truncated | (step == episode_length - 1)
        records.add(numbers, present, policies, actions, moved, ended)
        numbers = numbers[~ended]
        present = tuple(seen[~ended] for seen in moved.observations)
        if len(numbers) == 0:
            break
    return records.played()


class _Records:
    """The steps of a batch in the order of play: step by step, in all games."""

    def __init__(self, games: Games) -> None:
        self._games = games
        self._columns: dict[str, list[NDArray[Any]]] = {}

    def add(
        self,
        numbers: IntArray,
        present: tuple[NDArray[Any], ...],
        policies: list[FloatArray],
        actions: IntArray,
        moved: Moved,
        ended: NDArray[np.bool_],
    ) -> None:
        """Add one step of the games with these numbers."""
        entries = {
            "numbers": numbers,
            "actions": actions.astype(np.min_scalar_type(max(self._games.n_actions) - 1)),
            "rewards": moved.rewards,
            "ended": ended,
            "terminated": moved.terminated,
        }
        for index, agent in enumerate(self._games.agents):
            entries[f"observations/{agent}"] = present[index]
            entries[f"next/{agent}"] = moved.observations[index]
            entries[f"policies/{agent}"] = policies[index]
        for name, entry in entries.items():
            self._columns.setdefault(name, []).append(entry)

    def played(self) -> LearnedStage:
        """The steps game by game, in order within each game."""
        order = np.argsort(np.concatenate(self._columns["numbers"]), kind="stable")
        columns = {name: np.concatenate(own)[order] for name, own in self._columns.items()}
        agents = self._games.agents
        terminated = columns["terminated"]
        observed = Transitions(
            states=None,
            joint_actions=columns["actions"],
            next_states=None,
            episode_ends=columns["ended"],
            complete=True,
            observations={agent: columns[f"observations/{agent}"] for agent in agents},
            next_observations={agent: columns[f"next/{agent}"] for agent in agents},
            terminations=terminated if terminated.any() else None,
        )
        rewards = columns["rewards"]
        return LearnedStage(
            Stage(transitions=observed),
            StageTruth(
                {agent: columns[f"policies/{agent}"] for agent in agents},
                {agent: rewards[:, index].copy() for index, agent in enumerate(agents)},
            ),
        )


def _drawn(policy: FloatArray, draws: FloatArray) -> IntArray:
    """Draw actions with probabilities `(n, n_actions)`, from uniform draws `(n,)` in [0, 1)."""
    edges = np.cumsum(policy, axis=1)
    edges /= edges[:, -1:]  # after rounding, the last edge may differ from 1
    return np.asarray((edges <= draws[:, None]).sum(axis=1), dtype=np.int64)
