"""One agent's view of a parallel environment: a `gymnasium.Env` for its model."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Protocol, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_env.errors import InputError

__all__ = [
    "AgentView",
    "MaskArray",
    "Seat",
    "StepResult",
    "action_mask",
    "agent_views",
    "check_spaces",
]

AnyParallelEnv: TypeAlias = ParallelEnv[Any, Any, Any]
MaskArray: TypeAlias = NDArray[np.bool_]
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
        self._mask: MaskArray | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode. In training the seed is ignored: the training's rng seeds the game."""
        observation, info = self._seated().reset(seed)
        self._mask = action_mask(self.agent, self.action_space, observation, info)
        return observation, info

    def step(self, action: Any) -> StepResult:
        """Act, together with the other agents."""
        result = self._seated().step(action)
        self._mask = action_mask(self.agent, self.action_space, result[0], result[4])
        return result

    def action_masks(self) -> MaskArray:
        """The legal actions, as sb3-contrib's MaskablePPO reads them.

        Returns:
            bool `(n,)`: PettingZoo's `action_mask` in the agent's last observation or info, all
            True if there is none. Discrete: one number per action; MultiDiscrete: the numbers of
            all digits, one after the other.
        """
        if self._mask is None:
            return np.ones(_mask_size(self.action_space), dtype=bool)
        return self._mask

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


def action_mask(
    agent: Any, space: spaces.Space[Any], observation: Any, info: Mapping[str, Any]
) -> MaskArray | None:
    """PettingZoo's `action_mask` in an observation or info, bool `(n,)`; None if there is none.

    Raises:
        InputError: for a mask that does not fit the actions; names the agent.
    """
    holders = [part for part in (observation, info) if isinstance(part, Mapping)]
    mask = next((part["action_mask"] for part in holders if "action_mask" in part), None)
    if mask is None:
        return None
    found = np.concatenate([np.ravel(part) for part in mask]) if isinstance(mask, tuple) else mask
    flat: MaskArray = np.asarray(found).astype(bool)
    if flat.shape != (_mask_size(space),):
        raise InputError(
            f"the action_mask of {agent} has shape {flat.shape}, its actions {space} need "
            f"({_mask_size(space)},)"
        )
    return flat


def _mask_size(space: spaces.Space[Any]) -> int:
    """Length of a mask of these actions; 0 where masks have no meaning."""
    if isinstance(space, spaces.MultiBinary):
        return 2 * int(np.prod(space.shape))
    return int(np.sum(getattr(space, "nvec", getattr(space, "n", 0))))


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
