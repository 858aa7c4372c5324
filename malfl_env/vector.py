"""Thousands of grid worlds at once: arrays in, arrays out.

`GridWorldVector` plays all agents of all games; `SingleAgentVector` is a Gymnasium `VectorEnv` in
which one agent learns and the others follow policies. Games, rules and rewards are those of
`malfl_env.grid_world.GridWorld`.

A batch has one random generator, so the random numbers of a game depend on the seed and on the
number of games. Without slip, and with deterministic policies, nothing is random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from malfl_env.checks import check_count, is_whole
from malfl_env.errors import InputError
from malfl_env.rules import ACTIONS
from malfl_env.single_agent import ActionRule, Policy, single_agent_env
from malfl_env.vector_games import (
    AUTORESET_MODES,
    BACKENDS,
    Batch,
    GridWorldVector,
    Observations,
    seeded_generator,
)

__all__ = ["AUTORESET_MODES", "BACKENDS", "GridWorldVector", "SingleAgentVector"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BatchRule: TypeAlias = Callable[["SingleAgentVector"], Any]


class SingleAgentVector(VectorEnv[Observations, IntArray, NDArray[Any]]):
    """Many grid worlds from the perspective of one learner, as a Gymnasium `VectorEnv`.

    The batched form of `single_agent_env`.

    Args:
        num_envs: number of games, at least 1.
        agent: the agent that learns.
        policies: policies of other agents, by agent id: an array `(n_states, 5)` of probabilities
            with a row per joint state, numbered as in `MarkovGame`; or a callable `f(observations,
            rng)` that receives the observations of all games, returns one action per game, and
            draws random numbers from `rng` only. Agents without a policy draw uniformly.
        max_episode_steps: truncates episodes earlier than `max_cycles`, as in `gymnasium.make`;
            None: no earlier. `gymnasium.make_vec` passes it on.
        autoreset_mode, copy, backend, options: as for `GridWorldVector`.

    Raises:
        InputError: as `GridWorldVector` and `single_agent_env`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        agent: str = "agent_0",
        policies: Mapping[str, Policy] | None = None,
        autoreset_mode: Any = "SameStep",
        copy: bool = True,
        backend: str = "numpy",
        max_episode_steps: int | None = None,
        **options: Any,
    ) -> None:
        num_envs = self.num_envs = check_count("num_envs", num_envs, minimum=1)
        view = single_agent_env(agent=agent, policies=policies, **options)
        if max_episode_steps is not None:
            limit = check_count("max_episode_steps (if not None)", max_episode_steps, minimum=1)
            options["max_cycles"] = min(limit, view.parallel_env.max_cycles)
        self.games = GridWorldVector(
            num_envs, autoreset_mode=autoreset_mode, copy=copy, backend=backend, **options
        )
        self.metadata = {**view.metadata, "render_modes": [], **self.games.metadata}
        self.single_observation_space = view.observation_space
        self.single_action_space = view.action_space
        self.observation_space = batch_space(view.observation_space, num_envs)
        self.action_space = batch_space(view.action_space, num_envs)
        self.agent = agent
        agents = view.parallel_env.possible_agents
        self._learner = agents.index(agent)
        self._others = [
            (index, other, _batch_rule((policies or {}).get(other)))
            for index, other in enumerate(agents)
            if other != agent
        ]
        self._actions = np.zeros((num_envs, len(agents)), dtype=np.int64)

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: seeds the one generator of the batch: a whole number, or one per game, which
                seed it together; None: the generator continues.
            options: `reset_mask`, bool `(num_envs,)`, selects the games; default: all.

        Returns:
            Observations of all games, a batch of `single_observation_space`, and empty infos.

        Raises:
            InputError, RuntimeError: as `GridWorldVector.reset`.
        """
        rng = seeded_generator(seed, self.num_envs)
        observations, infos = self.games.reset(options=options)
        if rng is not None:
            self.np_random = rng
            self._np_random_seed = int(seed) if is_whole(seed) else -1
        return observations, infos

    def step(self, actions: IntArray) -> Batch:
        """Move everyone.

        Args:
            actions: the learner's actions 0..4, `(num_envs,)`, of any integer type.

        Returns:
            Observations as from `reset`; the learner's rewards, float64; terminations (all False)
            and truncations, bool; each `(num_envs,)`. Infos are empty. If a game is truncated with
            "SameStep", they hold `final_obs` and `final_info` with their masks `_final_obs` and
            `_final_info`, as in Gymnasium's `SyncVectorEnv`.

        Raises:
            InputError: if actions of the learner or of a callable policy have another type or
                shape, or are not 0..4. The message names game and agent; no game has moved.
            RuntimeError: before the first `reset`, or with "Disabled" while a game is over.
        """
        self._actions.fill(0)
        self._actions[:, self._learner] = self._column("actions", actions)
        self.games.check_step(self._actions)  # before any random number is drawn
        self.games.np_random = self.np_random
        for index, other, rule in self._others:
            self._actions[:, index] = self._column(f"policies: actions of {other}", rule(self))
        observations, rewards, terminations, truncations, infos = self.games.step(self._actions)
        if infos:
            infos = self._final(infos["final_obs"], infos["_final_obs"])
        own = rewards[:, self._learner].copy()
        return observations, own, terminations, truncations, infos

    def _column(self, name: str, actions: Any) -> NDArray[Any]:
        array = np.asarray(actions)
        if array.shape != (self.num_envs,) or array.dtype.kind not in "iu":
            raise InputError(
                f"{name} must be whole numbers, one per game: shape ({self.num_envs},); got shape "
                f"{array.shape}, dtype {array.dtype}"
            )
        return array

    def _final(self, observations: Observations, mask: NDArray[np.bool_]) -> dict[str, Any]:
        """Infos in the form of `SyncVectorEnv`: object arrays, None for games that go on."""
        final = np.full(self.num_envs, None, dtype=object)
        for game in np.flatnonzero(mask):
            final[game] = observations[game]
        infos = {"final_obs": final, "_final_obs": mask}
        return {**infos, "final_info": {}, "_final_info": mask.copy()}


def _batch_rule(policy: Policy | None) -> BatchRule:
    """The rule by which another agent chooses its actions in all games; `policy` is valid."""
    if policy is None:
        return _uniform
    if callable(policy):
        return partial(_asked, policy)
    cumulative = np.cumsum(np.asarray(policy, dtype=np.float64), axis=-1)
    cumulative /= cumulative[:, -1:]
    return partial(_drawn, np.ascontiguousarray(cumulative.T[:-1]))


def _uniform(env: SingleAgentVector) -> IntArray:
    return env.np_random.integers(len(ACTIONS), size=env.num_envs)


def _asked(policy: ActionRule, env: SingleAgentVector) -> Any:
    return policy(env.games.observations(), env.np_random)


def _drawn(cut_points: FloatArray, env: SingleAgentVector) -> IntArray:
    """Actions drawn from a table: the number of cut points `(4, n_states)` not above a draw."""
    states, draws = env.games.joint_states(), env.np_random.random(env.num_envs)
    actions = np.zeros(env.num_envs, dtype=np.int64)
    for cuts in cut_points:
        actions += cuts.take(states) <= draws
    return actions
