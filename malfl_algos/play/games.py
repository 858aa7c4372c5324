"""Many copies of one game that are played at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.play.moves import Moved, Observations
from malfl_algos.play.processes import SharedGames
from malfl_env.checks import check_count, shown
from malfl_env.errors import InputError
from malfl_env.grid_world import GridWorld
from malfl_env.spaces import AnySpace, action_counts, narrowed, observation_spaces
from malfl_env.vector import GridWorldVector

__all__ = ["Games", "Moved", "games_of"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
AnyEnv: TypeAlias = "ParallelEnv[Any, Any, Any]"

_REMEDY = "keep all agents until the last one ends, for example with SuperSuit's black_death"


@runtime_checkable
class Games(Protocol):
    """Independent copies of one game."""

    @property
    def agents(self) -> tuple[str, ...]:
        """Ids of the agents in order."""
        ...

    @property
    def spaces(self) -> tuple[AnySpace, ...]:
        """Observation space of each agent."""
        ...

    @property
    def n_actions(self) -> tuple[int, ...]:
        """Number of actions of each agent."""
        ...

    @property
    def n_games(self) -> int:
        """Number of copies."""
        ...

    def reset(self, rng: np.random.Generator) -> Observations:
        """Reset all games; returns per agent the observations `(n_games, ...)`."""
        ...

    def step(self, numbers: IntArray, actions: IntArray) -> Moved:
        """One step in the games with these numbers; actions `(n, n_agents)`."""
        ...


def games_of(env: AnyEnv | Callable[[], AnyEnv], n_games: int, *, processes: int = 1) -> Games:
    """Make copies of a parallel environment, which itself is not changed.

    A `GridWorld` without wrappers becomes a `GridWorldVector`. Any other environment is copied, or
    made by the given function; several processes may play the copies.

    Args:
        env: the environment, or a function that makes one; its actions are discrete, and its agents
            begin and end together.
        n_games: number of copies, >= 1.
        processes: number of processes that play the copies, >= 1; the games are the same with any.

    Raises:
        InputError: for any other environment, or one that cannot be copied.
    """
    check_count("n_games", n_games, minimum=1)
    check_count("processes", processes, minimum=1)
    made = env if isinstance(env, ParallelEnv) else _made(env)
    n_actions, spaces = action_counts(made), observation_spaces(made)
    if type(made) is GridWorld:
        return _GridWorlds(made, n_games)
    if processes == 1 or n_games == 1:
        return _copies(env, n_actions, spaces, n_games, made)
    shares = np.array_split(np.arange(n_games), min(processes, n_games))
    make = partial(_copies, env, n_actions, spaces)
    return SharedGames(_Copies([made], n_actions, spaces), make, [len(own) for own in shares])


def _copies(
    env: AnyEnv | Callable[[], AnyEnv],
    n_actions: tuple[int, ...],
    spaces: tuple[AnySpace, ...],
    n_games: int,
    made: AnyEnv | None = None,
) -> _Copies:
    """Copies of an environment, or environments made by a function, which may have made one."""
    if isinstance(env, ParallelEnv):
        return _Copies([_copy(env) for _ in range(n_games)], n_actions, spaces)
    envs = [] if made is None else [made]
    return _Copies([*envs, *(_made(env) for _ in range(n_games - len(envs)))], n_actions, spaces)


class _GridWorlds:
    """Copies of a `GridWorld`, played as one vector environment."""

    def __init__(self, env: GridWorld, n_games: int) -> None:
        rules = env.rules
        self.n_games = n_games
        self.agents = tuple(env.possible_agents)
        self.spaces = observation_spaces(env)
        self.n_actions = action_counts(env)
        self._games = GridWorldVector(
            n_games,
            autoreset_mode="Disabled",
            size=rules.size,
            n_agents=rules.n_agents,
            rewards=env.agent_rewards,
            starts=rules.starts,
            goals=rules.goals,
            walls=rules.walls,
            slip=rules.slip,
            max_cycles=env.max_cycles,
            observations=env.observations,
        )

    def reset(self, rng: np.random.Generator) -> Observations:
        return self._everyones(self._games.reset(seed=int(rng.integers(2**63)))[0])

    def step(self, numbers: IntArray, actions: IntArray) -> Moved:
        chosen = np.zeros((self.n_games, len(self.agents)), dtype=np.int64)
        chosen[numbers] = actions
        observations, rewards, terminated, truncated, _ = self._games.step(chosen)
        return Moved(
            self._everyones(observations[numbers]),
            rewards[numbers],
            terminated[numbers],
            truncated[numbers],
        )

    def _everyones(self, observations: NDArray[Any]) -> Observations:
        return (narrowed(observations, self.spaces[0]),) * len(self.agents)


class _Copies:
    """Copies of any parallel environment, played one after the other."""

    def __init__(
        self, envs: list[AnyEnv], n_actions: tuple[int, ...], spaces: tuple[AnySpace, ...]
    ) -> None:
        self._envs = envs
        self.agents = tuple(envs[0].possible_agents)
        self.n_actions = n_actions
        self.spaces = spaces
        self.n_games = len(envs)
        # the first action of a Discrete space need not be 0
        self._first = [int(envs[0].action_space(agent).start) for agent in self.agents]

    def reset(self, rng: np.random.Generator) -> Observations:
        return self.reset_with(rng.integers(2**31, size=self.n_games))

    def reset_with(self, seeds: IntArray) -> Observations:
        """Reset all games with these seeds `(n_games,)`."""
        seen = []
        for env, seed in zip(self._envs, seeds, strict=True):
            observations, _ = env.reset(seed=int(seed))
            self._check_present(env, "begin")
            seen.append(observations)
        return self._stacked(seen)

    def step(self, numbers: IntArray, actions: IntArray) -> Moved:
        seen, rewards, ends = [], np.empty(actions.shape), np.empty((2, len(numbers)), dtype=bool)
        for row, number in enumerate(numbers):
            env = self._envs[number]
            given = {
                agent: int(action) + first
                for agent, action, first in zip(self.agents, actions[row], self._first, strict=True)
            }
            observations, gains, terminations, truncations, _ = env.step(given)
            ends[:, row] = self._ended(terminations, truncations)
            if not ends[:, row].any():
                self._check_present(env, "go on")
            seen.append(observations)
            rewards[row] = [gains[agent] for agent in self.agents]
        return Moved(self._stacked(seen), rewards, ends[0], ends[1])

    def _stacked(self, seen: Iterable[Mapping[Any, Any]]) -> Observations:
        rows = list(seen)
        return tuple(
            narrowed(np.stack([np.asarray(row[agent]) for row in rows]), space)
            for agent, space in zip(self.agents, self.spaces, strict=True)
        )

    def _ended(
        self, terminations: Mapping[Any, bool], truncations: Mapping[Any, bool]
    ) -> tuple[bool, bool]:
        """Whether the game terminated or was truncated; it terminated only if all agents did."""
        over = [bool(terminations[agent] or truncations[agent]) for agent in self.agents]
        if any(over) and not all(over):
            gone = [agent for agent, own in zip(self.agents, over, strict=True) if own]
            raise InputError(
                f"agents must end together: {_names(gone)} ended before the others; {_REMEDY}"
            )
        terminated = all(bool(terminations[agent]) for agent in self.agents)
        return terminated, any(over) and not terminated

    def _check_present(self, env: AnyEnv, what: str) -> None:
        absent = [agent for agent in self.agents if agent not in env.agents]
        if absent:
            raise InputError(
                f"agents must begin and end together: {_names(absent)} did not {what}; {_REMEDY}"
            )


def _made(factory: Any) -> AnyEnv:
    env = factory() if callable(factory) else factory
    if not isinstance(env, ParallelEnv):
        raise InputError(
            "env must be a PettingZoo parallel environment, or a function that makes one; got "
            f"{shown(env)}"
        )
    return env


def _copy(env: AnyEnv) -> AnyEnv:
    try:
        return deepcopy(env)
    except Exception as fault:  # a failed copy can raise any exception
        raise InputError(
            f"the environment {env} cannot be copied ({fault}): give a function that makes one"
        ) from fault


def _names(agents: Iterable[Any]) -> str:
    return ", ".join(str(agent) for agent in agents)
