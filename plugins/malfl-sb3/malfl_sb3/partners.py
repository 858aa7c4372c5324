"""A view in which the other agents follow models, to evaluate or try a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from malfl_env.errors import InputError
from malfl_sb3.game import plain_action
from malfl_sb3.models import Actor, Model, check_agents
from malfl_sb3.view import AgentView, AnyParallelEnv, StepResult, action_mask, agent_views

__all__ = ["partner_view"]


def partner_view(env: AnyParallelEnv, agent: Any, partners: Mapping[Any, Model]) -> AgentView:
    """Return a `gymnasium.Env` in which one agent acts and the others follow models.

    It serves `EvalCallback` and `evaluate_policy`. The partners' policies are read at every step:
    partners change while their models learn. A recurrent partner remembers the episode.

    Args:
        env: a parallel environment that is not in use, and not the one used for training.
        agent: id of the acting agent.
        partners: a model for every other agent: of stable-baselines3, or another object with
            `predict`. An entry for the agent itself is ignored.

    Raises:
        InputError: for an env that is not parallel, an unknown or missing agent, or a space that
            stable-baselines3 does not support.
    """
    views = agent_views(env)
    if agent not in views:
        raise InputError(f"unknown agent {agent!r}; the agents are {list(views)}")
    others = {other: model for other, model in partners.items() if other != agent}
    check_agents("partners", others, [other for other in views if other != agent])
    view = views[agent]
    view.seat = _Seat(env, agent, others)
    return view


class _Seat:
    """Connects one agent to a game among partners."""

    def __init__(self, env: AnyParallelEnv, agent: Any, partners: Mapping[Any, Model]) -> None:
        self._env = env
        self._agent = agent
        self._partners = {other: Actor(model) for other, model in partners.items()}
        self._observations: dict[Any, Any] = {}
        self._infos: dict[Any, Any] = {}

    def reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        for partner in self._partners.values():
            partner.begin()
        self._observations, self._infos = self._env.reset(seed=seed)
        return self._observations[self._agent], dict(self._infos[self._agent])

    def step(self, action: Any) -> StepResult:
        actions = {}
        for other in self._env.agents:
            chosen, space = action, self._env.action_space(other)
            if other != self._agent:
                seen = self._observations[other]
                mask = action_mask(other, space, seen, self._infos[other])
                chosen = self._partners[other].act(seen, mask)
            actions[other] = plain_action(space, chosen)
        results = self._env.step(actions)
        self._observations, self._infos = results[0], results[4]
        observation, reward, terminated, truncated, info = (part[self._agent] for part in results)
        return observation, float(reward), bool(terminated), bool(truncated), dict(info)
