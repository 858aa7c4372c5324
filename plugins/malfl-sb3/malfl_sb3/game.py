"""The shared game: one parallel environment whose agents begin and end together."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from gymnasium import spaces

from malfl_env.errors import InputError
from malfl_sb3.view import AnyParallelEnv, MaskArray, StepResult, action_mask

__all__ = ["SharedGame", "plain_action"]


class SharedGame:
    """A parallel environment that is checked at every step.

    Args:
        env: the environment.
    """

    def __init__(self, env: AnyParallelEnv) -> None:
        self._env = env
        self.agents = tuple(env.possible_agents)
        self.observations: dict[Any, Any] = {}
        self._infos: Mapping[Any, Mapping[str, Any]] = {}
        self._action_spaces = {agent: env.action_space(agent) for agent in self.agents}
        self._steps = 0

    def reset(self, seed: int | None = None) -> dict[Any, tuple[Any, dict[str, Any]]]:
        """Begin an episode; return observation and info per agent.

        Raises:
            InputError: if an agent is absent.
        """
        observations, infos = self._env.reset(seed=seed)
        self._check_present("begin")
        self.observations, self._infos = dict(observations), infos
        self._steps = 0
        return {agent: (observations[agent], dict(infos[agent])) for agent in self.agents}

    def step(self, actions: Mapping[Any, Any]) -> dict[Any, StepResult]:
        """Let all agents act; return per agent the values of `gymnasium.Env.step`.

        Raises:
            InputError: if some agents end and others do not.
        """
        given = {
            agent: plain_action(space, actions[agent])
            for agent, space in self._action_spaces.items()
        }
        observations, rewards, terminations, truncations, infos = self._env.step(given)
        self._steps += 1
        ended = {
            agent: bool(terminations.get(agent, True) or truncations.get(agent, True))
            for agent in self.agents
        }
        if any(ended.values()):
            self._check_all_ended(ended)
            # the environment may reuse these arrays when it is reset
            observations = deepcopy(observations)
        else:
            self._check_present("go on")
        self.observations, self._infos = dict(observations), infos
        return {
            agent: (
                observations[agent],
                float(rewards[agent]),
                bool(terminations[agent]),
                bool(truncations[agent]),
                dict(infos[agent]),  # wrappers write into it, and agents may share one
            )
            for agent in self.agents
        }

    def mask(self, agent: Any) -> MaskArray | None:
        """The present action mask of an agent, if the game tells one."""
        space = self._action_spaces[agent]
        return action_mask(agent, space, self.observations[agent], self._infos[agent])

    def _check_present(self, what: str) -> None:
        absent = [agent for agent in self.agents if agent not in self._env.agents]
        if absent:
            raise InputError(
                f"independent learners need an environment whose agents begin and end together: "
                f"after step {self._steps} of an episode {_names(absent)} did not {what}"
            )

    def _check_all_ended(self, ended: Mapping[Any, bool]) -> None:
        if all(ended.values()):
            return
        gone = [agent for agent, has_ended in ended.items() if has_ended]
        left = [agent for agent, has_ended in ended.items() if not has_ended]
        raise InputError(
            "independent learners need an environment whose agents end together: at step "
            f"{self._steps} of an episode {_names(gone)} ended while {_names(left)} went on; "
            "keep agents in play until all have ended, for example with SuperSuit's black_death"
        )


def plain_action(space: spaces.Space[Any], action: Any) -> Any:
    """Return an action as environments expect it: a Python int if the space is Discrete."""
    return int(action) if isinstance(space, spaces.Discrete) else action


def _names(agents: list[Any]) -> str:
    return ", ".join(str(agent) for agent in agents)
