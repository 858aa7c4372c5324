"""One agent's view of a parallel environment: a `gymnasium.Env` for its model."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Protocol, TypeAlias

import gymnasium
from gymnasium import spaces
from pettingzoo import ParallelEnv

from malfl_env.errors import InputError

__all__ = ["AgentView", "Seat", "StepResult", "agent_views", "check_spaces"]

AnyParallelEnv: TypeAlias = ParallelEnv[Any, Any, Any]
StepResult: TypeAlias = tuple[Any, float, bool, bool, dict[str, Any]]


class Seat(Protocol):
    """The connection of a view to a running game."""

    def reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; return the agent's observation and info."""
        ...

    def step(self, action: Any) -> StepResult:
        """Let the agent act; return observation, reward, terminated, truncated and info."""
        ...


class AgentView(gymnasium.Env[Any, Any]):
    """One agent's view of a parallel environment; made by `agent_views` or `partner_view`.

    It can be stepped while it is connected to a game: during training, or always in a view made by
    `partner_view`. Closing the view does not close the shared environment.

    Args:
        env: the parallel environment.
        agent: id of the agent. Its spaces are copied, so that views share no random generator.
    """

    def __init__(self, env: AnyParallelEnv, agent: Any) -> None:
        self.parallel_env = env
        self.agent = agent
        self.metadata = dict(env.metadata)
        self.render_mode = getattr(env, "render_mode", None)
        self.observation_space = deepcopy(env.observation_space(agent))
        self.action_space = deepcopy(env.action_space(agent))
        self.seat: Seat | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode. In training the seed is ignored: the training's rng seeds the game."""
        return self._seated().reset(seed)

    def step(self, action: Any) -> StepResult:
        """Act, together with the other agents."""
        return self._seated().step(action)

    def render(self) -> Any:
        """Render the parallel environment."""
        return self.parallel_env.render()

    def __str__(self) -> str:
        return f"<AgentView of {self.agent} in {self.parallel_env}>"

    def _seated(self) -> Seat:
        if self.seat is None:
            raise RuntimeError(
                f"the view of {self.agent} can be used only while train_independent runs; to "
                "evaluate a policy, make an environment with partner_view"
            )
        return self.seat


def agent_views(env: AnyParallelEnv) -> dict[Any, AgentView]:
    """Return a view of every agent, in the order of `env.possible_agents`, for its model.

    Args:
        env: a PettingZoo parallel environment.

    Raises:
        InputError: if env is not a parallel environment, or stable-baselines3 does not support the
            spaces of an agent.
    """
    if not isinstance(env, ParallelEnv):
        raise InputError(
            f"env must be a PettingZoo parallel environment, got {env!r}"
            + ("; convert it with aec_to_parallel" if hasattr(env, "agent_iter") else "")
        )
    for agent in env.possible_agents:
        check_spaces(agent, env.observation_space(agent), env.action_space(agent))
    return {agent: AgentView(env, agent) for agent in env.possible_agents}


def check_spaces(agent: Any, observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
    """Reject spaces that no stable-baselines3 algorithm supports.

    Raises:
        InputError: names the agent, the space and the allowed spaces.
    """
    parts: Mapping[str, spaces.Space[Any]] = {"": observation}
    if isinstance(observation, spaces.Dict):
        parts = {f"[{key!r}]": space for key, space in observation.spaces.items()}
    for key, space in parts.items():
        if not (isinstance(space, spaces.Box) or _is_plain_discrete(space)):
            raise InputError(
                f"the observation space{key} of {agent} is {space}: stable-baselines3 takes Box, "
                "Discrete and one-dimensional MultiDiscrete from 0, MultiBinary, and a Dict of "
                "these; convert it with a wrapper of the parallel environment"
            )
    bounded = isinstance(action, spaces.Box) and action.is_bounded()
    if not (bounded or _is_plain_discrete(action)):
        raise InputError(
            f"the action space of {agent} is {action}: stable-baselines3 takes Box with finite "
            "bounds, Discrete and one-dimensional MultiDiscrete from 0, and MultiBinary; convert "
            "it with a wrapper of the parallel environment"
        )


def _is_plain_discrete(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Discrete):
        return bool(space.start == 0)
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.ndim == 1 and not space.start.any()
    return isinstance(space, spaces.MultiBinary)
