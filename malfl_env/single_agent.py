"""A Gymnasium view of a parallel environment: one agent learns, the others follow policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete
from numpy.typing import NDArray
from pettingzoo.utils.env import ParallelEnv

from malfl_env.checks import check_choice, check_count, check_numbers, shown
from malfl_env.errors import InputError
from malfl_env.grid_world import GridWorld
from malfl_env.observations import observation_digits

__all__ = ["Policy", "SingleAgentView", "single_agent_env"]

FloatArray = NDArray[np.float64]
ActionRule: TypeAlias = Callable[[Any, np.random.Generator], Any]
Policy: TypeAlias = FloatArray | ActionRule

_TOLERANCE = 1e-6  # largest deviation from 1 of the sum of a state's probabilities


def single_agent_env(
    env: ParallelEnv | None = None,
    *,
    agent: str = "agent_0",
    policies: Mapping[str, Policy] | None = None,
    **options: Any,
) -> SingleAgentView:
    """A game from the perspective of one learner.

    Args:
        env: the parallel environment to view; None: a grid world made from `options`.
        agent: the agent that learns.
        policies: policies of other agents, by agent id: an array `(n_states, n_actions)` of
            probabilities with a row per joint state, numbered as in `MarkovGame`; or a callable
            `f(observation, rng)` that returns an action and draws random numbers from `rng` only.
            Agents without a policy draw uniformly from their actions.
        **options: keywords of `malfl_env.grid_world.GridWorld` when `env` is None.

    Returns:
        A `gymnasium.Env` with that agent's observations, actions and rewards. The seed of `reset`
        determines the game and the draws of all agents; after `reset()` without a seed, all
        generators continue.

    Raises:
        InputError: for an env that is not parallel, an unknown agent, a policy for the learner
            itself, a table of the wrong shape or with rows that are not distributions, or options
            together with an `env`.
    """
    if env is not None and options:
        raise InputError(f"pass either env or options of a new grid world, not both: {options}")
    if policies is not None and not isinstance(policies, Mapping):
        raise InputError(f"policies must be a mapping of agents to policies, got {shown(policies)}")
    return SingleAgentView(
        GridWorld(**options) if env is None else env, agent=agent, policies=policies or {}
    )


class SingleAgentView(gymnasium.Env[Any, Any]):
    """One agent's view of a parallel environment; made by `single_agent_env`."""

    def __init__(self, env: ParallelEnv, *, agent: str, policies: Mapping[str, Policy]) -> None:
        if not isinstance(env, ParallelEnv):
            raise InputError(f"env must be a PettingZoo parallel environment, got {env!r}")
        check_choice("agent", agent, env.possible_agents)
        self.metadata = {**env.metadata}
        self.render_mode = getattr(env, "render_mode", None)
        self.parallel_env = env
        self.agent = agent
        self.observation_space = env.observation_space(agent)
        self.action_space = env.action_space(agent)
        others = [other for other in env.possible_agents if other != agent]
        for other in policies:
            check_choice("policies: an agent id", other, others)
        self._rules = {other: _action_rule(env, other, policies.get(other)) for other in others}
        self._observations: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; returns the learner's observation and info."""
        super().reset(seed=None if seed is None else check_count("seed", seed, minimum=0))
        inner_seed = None if seed is None else int(self.np_random.integers(2**31))
        self._observations, infos = self.parallel_env.reset(seed=inner_seed, options=options)
        return self._observations[self.agent], infos[self.agent]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move everyone; returns the learner's observation, reward, ends and info."""
        actions = {
            other: self._rules[other](self._observations[other], self.np_random)
            for other in self.parallel_env.agents
            if other != self.agent
        }
        actions[self.agent] = action
        observations, rewards, terminations, truncations, infos = self.parallel_env.step(actions)
        self._observations = observations
        me = self.agent
        return observations[me], float(rewards[me]), terminations[me], truncations[me], infos[me]

    def render(self) -> Any:
        """The rendering of the parallel environment."""
        return self.parallel_env.render()

    def close(self) -> None:
        """Close the parallel environment."""
        self.parallel_env.close()


class _Uniform:
    """Draw an action, each with the same probability."""

    def __init__(self, space: Discrete) -> None:
        self._first, self._n = int(space.start), int(space.n)

    def __call__(self, observation: Any, rng: np.random.Generator) -> int:
        return self._first + int(rng.integers(self._n))


class _Table:
    """Draw an action from the row of a table that belongs to an observation."""

    def __init__(self, table: FloatArray, form: str, digits: tuple[int, ...], first: int) -> None:
        cumulative = np.cumsum(table, axis=-1)
        self._cumulative = cumulative / cumulative[:, -1:]
        self._form, self._digits = form, digits
        self._first = first

    def __call__(self, observation: Any, rng: np.random.Generator) -> int:
        if self._form != "cells":
            observation = observation_digits(self._form, observation, self._digits)
        state = np.ravel_multi_index(tuple(np.atleast_1d(observation)), self._digits)
        row = self._cumulative[state]
        return self._first + int(np.searchsorted(row, rng.random(), side="right"))


def _action_rule(env: ParallelEnv, agent: str, policy: Policy | None) -> ActionRule:
    """The rule by which one of the other agents chooses its action."""
    if callable(policy):
        return policy
    space = env.action_space(agent)
    if not isinstance(space, Discrete):
        raise InputError(f"policies: {agent} has the action space {space}; pass a callable for it")
    if policy is None:
        return _Uniform(space)
    form, digits = _numbering(env, agent)
    name = f"policies: the table of {agent}"
    table = check_numbers(name, policy, allowed="an array of probabilities or a callable")
    expected = (prod(digits), int(space.n))
    if not digits or table.shape != expected:
        allowed = f"have shape {expected}" if digits else "be a callable for these observations"
        raise InputError(f"{name} must {allowed}, got shape {table.shape}")
    wrong = ~(np.abs(table.sum(axis=-1) - 1) <= _TOLERANCE) | ~np.all(table >= 0, axis=-1)
    if wrong.any():
        state = int(np.argmax(wrong))
        raise InputError(
            f"{name} must hold probabilities that sum to 1 in every state; "
            f"row {state} is {table[state].tolist()}"
        )
    return _Table(table, form, digits, int(space.start))


def _numbering(env: ParallelEnv, agent: str) -> tuple[str, tuple[int, ...]]:
    """Form of an agent's observations and number of values of every digit.

    There are no digits if an observation does not number a state.
    """
    space, grid = env.observation_space(agent), env.unwrapped
    if isinstance(space, MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
        return "cells", tuple(int(digit) for digit in space.nvec)
    if isinstance(space, Discrete) and space.start == 0:
        return "cells", (int(space.n),)
    if isinstance(grid, GridWorld) and space == grid.observation_spaces.get(agent):
        return grid.observations, (grid.rules.size,) * (2 * grid.rules.n_agents)
    return "cells", ()
