"""A PettingZoo environment that plays any tabular game with rewards."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index as whole_index
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, Space
from numpy.typing import NDArray
from pettingzoo.utils.env import ParallelEnv

from malfl_env.checks import check_choice, check_count
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame
from malfl_env.observations import observation_space, observations_of

__all__ = ["TabularEnv"]

RENDER_MODES = ("ansi", "human")


class TabularEnv(ParallelEnv):  # type: ignore[misc]  # pettingzoo ships no types
    """A tabular game as an environment; every agent observes the joint state.

    Observations and `state()` are the digits of the joint state in the form of the game
    (`MarkovGame.observation_form`). Episodes never terminate; after `max_cycles` steps they are
    truncated for all agents. A reward is a function of the joint state before the move and of the
    joint action.

    Args:
        game: dynamics, start and rewards.
        max_cycles: steps until an episode is truncated.
        name: of the environment, in its metadata.
        render_mode: None, "ansi" (text) or "human" (prints the text at every step).

    Raises:
        InputError: for a game without rewards, or an option out of its range.
    """

    def __init__(
        self,
        game: MarkovGame,
        *,
        max_cycles: int = 1000,
        name: str = "tabular_game",
        render_mode: str | None = None,
    ) -> None:
        if not isinstance(game, MarkovGame):
            raise InputError(f"game must be a MarkovGame, got a {type(game).__name__}")
        if game.rewards is None:
            raise InputError(
                "game has no rewards, and learners need them: add them with "
                "MarkovGame.with_rewards, or give rewards to MarkovGame.from_tables"
            )
        if render_mode is not None:
            check_choice("render_mode (if not None)", render_mode, RENDER_MODES)
        self.metadata = {
            "name": name,
            "render_modes": list(RENDER_MODES),
            "is_parallelizable": True,
        }
        self.game = game
        self.max_cycles = check_count("max_cycles", max_cycles, minimum=1)
        self.render_mode = render_mode
        self.possible_agents = list(game.agents)
        self.agents: list[str] = []
        form, digits = game.observation_form, game.observation_shape
        self.state_space = observation_space(form, digits)
        self.observation_spaces: dict[str, Space[Any]] = {
            agent: observation_space(form, digits) for agent in self.possible_agents
        }
        self.action_spaces = {
            agent: Discrete(n) for agent, n in zip(game.agents, game.n_actions, strict=True)
        }
        self.np_random = np.random.default_rng()
        self._cumulative = [factor.probabilities.cumsum(axis=-1) for factor in game.factors]
        self._state, self._cycle, self._horizon = game.start, 0, self.max_cycles

    def markov_game(self) -> MarkovGame:
        """The game itself."""
        return self.game

    def observation_space(self, agent: str) -> Space[Any]:
        """Digits of joint states; the same object at every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Discrete:
        """The agent's actions; the same object at every call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin an episode.

        Args:
            seed: seeds the random generator; None: the generator continues.
            options: not used.
        """
        if seed is not None:
            self.np_random = np.random.default_rng(check_count("seed", seed, minimum=0))
        self.agents = list(self.possible_agents)
        self._state = int(self.game.drawn_starts(1, self.np_random)[0])
        self._cycle, self._horizon = 0, self.max_cycles
        if self.render_mode == "human":
            self.render()
        return self._observed(self.agents), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[
        dict[str, Any],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Move all agents at once.

        Returns:
            Observations after the move, rewards of the joint state before it and the joint action,
            terminations (always False), truncations and empty infos, each by agent.

        Raises:
            InputError: for a missing or unknown agent, or an action out of its range.
            RuntimeError: for actions after the end of an episode, and before the first `reset`.
        """
        agents = self.agents
        if not agents:
            if self._cycle and isinstance(actions, Mapping) and not actions:
                return {}, {}, {}, {}, {}
            raise RuntimeError("no episode is running: call reset() before step()")
        row = (self._state, *self._checked(actions))
        rewards = {}
        for index, agent in enumerate(agents):
            table = self.game.reward(index)
            rewards[agent] = float(table[row] if table.ndim > 1 else table[self._state])
        self._state = self._next(row)
        self._cycle += 1
        over = self._cycle >= self._horizon
        if over:
            self.agents = []
        if self.render_mode == "human":
            self.render()
        return (
            self._observed(agents),
            rewards,
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, over),
            {agent: {} for agent in agents},
        )

    def state(self) -> NDArray[Any]:
        """The joint state, as every agent observes it."""
        digits = self.game.observation(self._state)
        return np.array(
            observations_of(self.game.observation_form, digits, self.game.observation_shape)
        )

    def render(self) -> str | None:
        """The joint state by number and name, as text ("ansi") or printed ("human")."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode: pass one to the environment")
            return None
        names = self.game.states
        named = "" if names is None else f" ({names[self._state]})"
        text = f"step {self._cycle} of {self._horizon}: joint state {self._state}{named}"
        if self.render_mode == "ansi":
            return text
        print(text)
        return None

    def close(self) -> None:
        """Do nothing: the environment holds no resources."""

    def _next(self, row: tuple[int, ...]) -> int:
        """A next joint state, drawn factor by factor; a deterministic factor draws nothing."""
        after = 0
        local = self.game.local_states(row[0])
        for position, factor in enumerate(self.game.factors):
            own = (int(local[position]), *(row[1 + agent] for agent in factor.agents))
            k = 0
            if not factor.deterministic:
                edges = self._cumulative[position][own]
                k = int(np.searchsorted(edges, self.np_random.random() * edges[-1], side="right"))
            after = after * factor.n_local + int(factor.successors[own][k])
        return after

    def _observed(self, agents: list[str]) -> dict[str, Any]:
        return {agent: self.state() for agent in agents}

    def _checked(self, actions: Any) -> list[int]:
        if not isinstance(actions, Mapping):
            raise InputError(f"actions must be a dictionary {{agent: action}}, got {actions!r}")
        unknown = sorted(set(actions) - set(self.agents), key=str)
        if unknown:
            raise InputError(f"actions has unknown agents {unknown}; agents are {self.agents}")
        chosen = []
        for agent, n_actions in zip(self.agents, self.game.n_actions, strict=True):
            if agent not in actions:
                raise InputError(f"actions lacks {agent}; agents are {self.agents}")
            try:
                action = whole_index(actions[agent])
            except TypeError:
                action = -1
            if not 0 <= action < n_actions or isinstance(actions[agent], np.bool_):
                raise InputError(
                    f"the action of {agent} must be a whole number from 0 to {n_actions - 1}, got "
                    f"{actions[agent]!r}"
                )
            chosen.append(action)
        return chosen
