"""The grid world as a PettingZoo parallel environment.

The class translates dictionaries, seeds and spaces; the rules are in `rules`, the rewards in
`rewards`, the images in `rendering`. A step looks moves up in plain lists, which is several times
faster than NumPy scalars. It keeps the records of visited joint states only, so the number of joint
states of a game is not limited.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import index
from typing import Any, NoReturn, TypeAlias

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, Space
from numpy.typing import NDArray
from pettingzoo.utils.env import ParallelEnv

from malfl_env.checks import check_choice, check_count
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame
from malfl_env.observations import FORMS, observation_space, observations_of
from malfl_env.rendering import render_ansi, render_rgb
from malfl_env.rewards import Reward, grid_rewards, state_rewards
from malfl_env.rules import ACTIONS, Cells, GridRules, Moves, grid_rules
from malfl_env.tabular import grid_game

__all__ = ["GridWorld"]

RENDER_MODES = ("human", "ansi", "rgb_array")
_TRAIL_LENGTH = 12  # steps that a trail shows
_MAX_RECORDS = 2**15
"""Largest number of joint states with a record, about 20 MB; then all records are dropped."""

Observation: TypeAlias = NDArray[Any]
Record: TypeAlias = tuple[Observation, dict[str, float]]


class GridWorld(ParallelEnv):  # type: ignore[misc]  # pettingzoo ships no types
    """Agents walk on a grid towards their goals and approach or avoid each other.

    Agents `agent_0`, `agent_1`, ... choose at the same time from five actions: down, up, left,
    right, stay. An agent that moves into the border or a wall stays in its cell. From its goal
    every action takes an agent back to its start. Agents may share a cell. All agents observe the
    row and the column of every agent, in agent order, in the form that `observations` selects.
    Episodes never terminate; after `max_cycles` steps they are truncated for all agents.

    Args:
        size: number of rows and of columns, at least 2.
        n_agents: number of agents, at least 2.
        rewards: a family name ("homogeneous": all avoid; "heterogeneous": approach and avoid in
            turn), or one entry per agent: "approach", "avoid", a callable `f(positions,
            agent_index)` from int64 `(n, n_agents, 2)` to `(n,)`, or an array `(n_states,)` or
            `(n_states, *n_actions)`. The reward of a step is a function of the joint state before
            the move and of the chosen actions, not of the actions that a slip executes instead. A
            callable must depend on its arguments alone, because its values are cached.
        starts: one (row, column) for all agents, or one per agent; None: the top left cell.
        goals: the same for the goals; None: the bottom right cell.
        walls: (row, column) of the cells that no agent can enter.
        slip: probability from 0 to 1, independent for each agent, that its action is replaced by
            one drawn uniformly from all five.
        max_cycles: steps until an episode is truncated.
        render_mode: None, "human" (prints the board at every step), "ansi" or "rgb_array".
        observations: form of the observations and of `state()`. "cells": rows and columns as whole
            numbers, `MultiDiscrete`; "one_hot": a one-hot block for every row and column, a float32
            `Box` of `2 * n_agents * size` numbers; "coordinates": rows and columns divided by
            `size - 1`, a float32 `Box` of `2 * n_agents` numbers from 0 to 1. The game is the same
            in every form.

    Raises:
        InputError: for an invalid option; the message names it, its value and what is allowed.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  # PettingZoo's wrappers expect a plain dict here
        "name": "grid_world_v0",
        "render_modes": list(RENDER_MODES),
        "is_parallelizable": True,
        "render_fps": 4,
    }

    _cells: tuple[int, ...]
    _observation: Observation
    _rewards: dict[str, float]
    _trail: tuple[tuple[int, ...], ...]

    def __init__(
        self,
        *,
        size: int = 3,
        n_agents: int = 2,
        rewards: str | Sequence[Reward] = "homogeneous",
        starts: Cells | None = None,
        goals: Cells | None = None,
        walls: Collection[Sequence[int]] | NDArray[np.int64] = (),
        slip: float = 0.0,
        max_cycles: int = 1000,
        render_mode: str | None = None,
        observations: str = "cells",
    ) -> None:
        self.observations = check_choice("observations", observations, FORMS)
        self.rules = grid_rules(
            size=size, n_agents=n_agents, starts=starts, goals=goals, walls=walls, slip=slip
        )
        self.agent_rewards = grid_rewards(rewards, self.rules)
        self.max_cycles = max_cycles
        if render_mode is not None:
            check_choice("render_mode (if not None)", render_mode, RENDER_MODES)
        self.render_mode = render_mode
        self.possible_agents = [f"agent_{index}" for index in range(n_agents)]
        self.agents: list[str] = []
        digits = [self.rules.size] * (2 * self.rules.n_agents)
        self.state_space = observation_space(self.observations, digits)
        self.observation_spaces: dict[str, Space[Any]] = {
            agent: observation_space(self.observations, digits) for agent in self.possible_agents
        }
        self.action_spaces = {agent: Discrete(len(ACTIONS)) for agent in self.possible_agents}
        self.np_random = np.random.default_rng()
        self._moves = _moves(self.rules)
        self._records = _StateRecords(self.rules, self.agent_rewards, self.observations)
        self._action_tables = tuple(
            (agent, reward)
            for agent, reward in zip(self.possible_agents, self.agent_rewards, strict=True)
            if isinstance(reward, np.ndarray) and reward.ndim > 1
        )
        self._begin()

    @property
    def max_cycles(self) -> int:
        """Steps until an episode is truncated; a new value holds from the next `reset`."""
        return self._max_cycles

    @max_cycles.setter
    def max_cycles(self, value: int) -> None:
        self._max_cycles = check_count("max_cycles", value, minimum=1)

    def observation_space(self, agent: str) -> Space[Any]:
        """Rows and columns of all agents; the same object at every call."""
        try:
            return self.observation_spaces[agent]
        except (KeyError, TypeError):
            check_choice("agent", agent, self.possible_agents)
            raise

    def action_space(self, agent: str) -> Discrete:
        """The five actions; the same object at every call."""
        try:
            return self.action_spaces[agent]
        except (KeyError, TypeError):
            check_choice("agent", agent, self.possible_agents)
            raise

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Put every agent on its start.

        Args:
            seed: seeds the random generator; None: the generator continues. Without slip nothing
                is random.
            options: not used.

        Returns:
            Observations and empty infos of all agents.

        Raises:
            InputError: for a seed that is not a whole number >= 0.
        """
        if seed is not None:
            self.np_random = np.random.default_rng(check_count("seed", seed, minimum=0))
        self.agents = self.possible_agents[:]
        self._begin()
        if self.render_mode == "human":
            self.render()
        infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        return {agent: self._observation.copy() for agent in self.agents}, infos

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[
        dict[str, Observation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Move all agents at once.

        Args:
            actions: one action 0..4 for every agent; the order in the dictionary is irrelevant.

        Returns:
            Observations after the move, rewards of the joint state before it, terminations (always
            False), truncations and empty infos, each by agent. No two of them share memory. After
            the end of an episode, an empty dictionary of actions gives five empty dictionaries.

        Raises:
            InputError: for a missing or unknown agent, or an action that is not 0..4. What its
                space contains is an action: Python's False and True are, NumPy's booleans are not.
            RuntimeError: for actions after the end of an episode, and before the first `reset`.
        """
        agents = self.agents
        if not agents:
            if self._cycle and isinstance(actions, Mapping) and not actions:
                return {}, {}, {}, {}, {}
            raise RuntimeError("no episode is running: call reset() before step()")
        try:
            chosen = [actions[agent] for agent in agents]
            if min(chosen) < 0 or len(actions) != len(agents) or np.bool_ in map(type, chosen):
                raise IndexError
            moved = chosen if self.rules.slip == 0.0 else self._slip(chosen)
            steps = zip(self._moves, self._cells, moved, strict=True)
            cells = tuple([moves[cell][action] for moves, cell, action in steps])
        except (KeyError, IndexError, TypeError, ValueError):
            self._reject(actions)
        rewards = self._rewards.copy()
        for agent, table in self._action_tables:
            entry = (self.rules.joint_state(self._cells), *map(int, chosen))
            rewards[agent] = float(table[entry])
        self._observation, self._rewards = self._records[cells]
        self._cells = cells
        self._cycle += 1
        truncated = self._cycle >= self._horizon
        if truncated:
            self.agents = []
        if self.render_mode is not None:
            self._trail = (*self._trail[-_TRAIL_LENGTH:], cells)
            if self.render_mode == "human":
                self.render()
        observation = self._observation
        return (
            {agent: observation.copy() for agent in agents},
            rewards,
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, truncated),
            {agent: {} for agent in agents},
        )

    def state(self) -> Observation:
        """Row and column of every agent, as every agent observes them."""
        observation: Observation = self._observation.copy()
        return observation

    def render(self) -> str | NDArray[np.uint8] | None:
        """The board as text ("ansi"), as an image ("rgb_array"), or printed ("human")."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode: pass one to the environment")
            return None
        if self.render_mode == "rgb_array":
            return render_rgb(self.rules, self._trail)
        board = render_ansi(
            self.rules, self._cells, caption=f"step {self._cycle} of {self._horizon}"
        )
        if self.render_mode == "ansi":
            return board
        print(board)
        return None

    def close(self) -> None:
        """Do nothing: the environment holds no resources."""

    def markov_game(self) -> MarkovGame:
        """The tabular model of this game.

        Raises:
            InputError: if its reward tables would take more than
                `malfl_env.checks.MAX_TABLE_BYTES`.
        """
        return grid_game(self.rules, self.agent_rewards, observation_form=self.observations)

    def _begin(self) -> None:
        self._cycle = 0
        self._horizon = self._max_cycles
        self._cells = self.rules.start_cells
        self._observation, self._rewards = self._records[self._cells]
        self._trail = (self._cells,)

    def _slip(self, chosen: list[int]) -> list[int]:
        """The executed actions, from one uniform random number per agent and step.

        A number below `slip` is uniform on [0, slip), so it also selects the executed action.
        """
        slip = self.rules.slip
        for action in chosen:
            ACTIONS[action]  # an invalid action raises IndexError even where a slip replaces it
        draws = self.np_random.random(len(chosen)).tolist()
        return [
            int(draw / slip * len(ACTIONS)) if draw < slip else action
            for draw, action in zip(draws, chosen, strict=True)
        ]

    def _reject(self, actions: Any) -> NoReturn:
        """Raise the error that says what is wrong with the actions."""
        if not isinstance(actions, Mapping):
            raise InputError(f"actions must be a dictionary {{agent: action}}, got {actions!r}")
        for agent in self.agents:
            if agent not in actions:
                raise InputError(f"actions lacks {agent}; agents are {self.agents}")
            allowed = f"a whole number from 0 to {len(ACTIONS) - 1} {ACTIONS}"
            own = actions[agent]
            try:
                fits = 0 <= index(own) < len(ACTIONS) and not isinstance(own, np.bool_)
            except TypeError:
                fits = False
            if not fits:
                raise InputError(f"the action of {agent} must be {allowed}, got {own!r}")
        unknown = sorted(set(actions) - set(self.agents), key=str)
        raise InputError(f"actions has unknown agents {unknown}; agents are {self.agents}")


def _moves(rules: GridRules) -> tuple[Moves, ...]:
    """The moves of each agent; agents with equal starts and goals share them."""
    journeys = list(zip(rules.starts, rules.goals, strict=True))
    moves = {journey: Moves(rules, journeys.index(journey)) for journey in set(journeys)}
    return tuple(moves[journey] for journey in journeys)


class _StateRecords(dict[tuple[int, ...], Record]):
    """Observation and rewards of joint states, computed at the first lookup.

    A key holds the cell of every agent. A record is the observation, and the reward by agent id,
    0.0 for an agent whose reward depends on the actions, too.

    Args:
        rules: the rules of the game.
        rewards: one per agent, as in the result of `grid_rewards`.
        form: of the observations.
    """

    def __init__(self, rules: GridRules, rewards: tuple[Reward, ...], form: str) -> None:
        super().__init__()
        self._form = form
        self._rules = rules
        self._rewards = rewards
        self._agents = [f"agent_{index}" for index in range(rules.n_agents)]

    def __missing__(self, cells: tuple[int, ...]) -> Record:
        rows_and_columns = np.divmod(np.array(cells, dtype=np.int64), self._rules.size)
        positions = np.stack(rows_and_columns, axis=-1)
        rewards = {
            agent: self._state_reward(index, cells, positions)
            for index, agent in enumerate(self._agents)
        }
        if len(self) >= _MAX_RECORDS:
            self.clear()
        digits = positions.reshape(-1)
        shape = (self._rules.size,) * len(digits)
        record = self[cells] = observations_of(self._form, digits, shape), rewards
        return record

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles begin without records."""
        return _StateRecords, (self._rules, self._rewards, self._form)

    def _state_reward(
        self, agent_index: int, cells: tuple[int, ...], positions: NDArray[np.int64]
    ) -> float:
        reward, rules = self._rewards[agent_index], self._rules
        if not isinstance(reward, np.ndarray):
            return float(state_rewards(reward, positions[None], agent_index, goals=rules.goals)[0])
        return float(reward[rules.joint_state(cells)]) if reward.ndim == 1 else 0.0
