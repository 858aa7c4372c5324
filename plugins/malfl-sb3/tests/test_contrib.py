"""Algorithms of sb3-contrib: recurrent policies, action masks, and stages of other algorithms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from malfl_sb3 import Sb3Learner, agent_views, partner_view, train_independent
from malfl_sb3.models import Actor
from sb3_contrib import ARS, QRDQN, TRPO, MaskablePPO, RecurrentPPO
from sb3_games import Matching, ppo, weights
from stable_baselines3.common.base_class import BaseAlgorithm

from malfl_env import grid_world_v0

BATCHES = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}


def recurrent(view: Any) -> RecurrentPPO:
    return RecurrentPPO("MlpLstmPolicy", view, policy_kwargs={"lstm_hidden_size": 8}, **BATCHES)


def masked(view: Any) -> MaskablePPO:
    return MaskablePPO("MlpPolicy", view, **BATCHES)


class Masked(Matching):
    """The action that an agent's observation names is the only legal one, and one more.

    Args:
        where: "info" or "observation", in which the masks are.
        size: length of a mask.
    """

    def __init__(self, where: str = "info", size: int = 3) -> None:
        super().__init__()
        self.where, self.size = where, size
        if where == "observation":
            seen, mask = self._space, spaces.MultiBinary(3)
            self._space = spaces.Dict({"observation": seen, "action_mask": mask})

    def masks(self) -> dict[str, Any]:
        legal = {agent: [named, (named + 1) % 3] for agent, named in self._named.items()}
        return {
            agent: np.isin(np.arange(self.size), own).astype(np.int8)
            for agent, own in legal.items()
        }

    def _observe(self) -> dict[str, Any]:
        seen = super()._observe()
        if self.where == "info":
            return seen
        masks = self.masks()
        return {
            agent: {"observation": own, "action_mask": masks[agent]} for agent, own in seen.items()
        }

    def _with_masks(self, infos: dict[str, Any]) -> dict[str, Any]:
        if self.where != "info":
            return infos
        return {agent: {"action_mask": own} for agent, own in self.masks().items()}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        observations, infos = super().reset(seed, options)
        return observations, self._with_masks(infos)

    def step(self, actions: Mapping[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        for agent, action in actions.items():
            assert self.masks()[agent][action], f"illegal action {action} of {agent}"
        *results, infos = super().step(actions)
        return (*results, self._with_masks(infos))


@pytest.mark.parametrize("where", ["info", "observation"])
@pytest.mark.parametrize("mode", ["simultaneous", "alternating"])
def test_masked_agents_never_act_illegally(mode: str, where: str) -> None:
    env = Masked(where)
    kind = "MlpPolicy" if where == "info" else "MultiInputPolicy"

    def longer(view: Any) -> MaskablePPO:
        return MaskablePPO(kind, view, **{**BATCHES, "n_steps": 32, "batch_size": 32})

    def shorter(view: Any) -> MaskablePPO:
        return MaskablePPO(kind, view, **BATCHES)

    models = train_independent(
        env,
        {"agent_0": longer, "agent_1": shorter},  # one acts on after it has finished
        total_timesteps=48,
        rng=np.random.default_rng(0),
        mode=mode,
        turn_timesteps=16 if mode == "alternating" else None,
    )
    assert {agent: model.num_timesteps for agent, model in models.items()} == {
        "agent_0": 64,
        "agent_1": 48,
    }
    view = partner_view(Masked(where), "agent_0", models)
    view.reset(seed=0)
    for _ in range(20):
        (legal,) = np.flatnonzero(view.action_masks())[:1]
        if view.step(int(legal))[3]:
            view.reset()


def test_an_agent_without_masks_may_do_everything() -> None:
    env = Matching()
    assert agent_views(env)["agent_0"].action_masks().tolist() == [True] * 3
    models = train_independent(
        env, {"agent_0": masked, "agent_1": ppo}, total_timesteps=32, rng=np.random.default_rng(0)
    )
    assert models["agent_0"].num_timesteps == 32


def test_masks_of_several_digits_are_joined() -> None:
    env = Matching(action_space=spaces.MultiDiscrete([2, 3]))
    view = partner_view(env, "agent_0", {"agent_1": ppo(agent_views(env)["agent_1"])})
    assert view.action_masks().tolist() == [True] * 5


def test_a_mask_that_does_not_fit_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"the action_mask of agent_0 has shape \(4,\), .*\(3,\)"):
        train_independent(
            Masked(size=4),
            dict.fromkeys(["agent_0", "agent_1"], masked),
            total_timesteps=16,
            rng=np.random.default_rng(0),
        )


def drawn(model: BaseAlgorithm, observations: list[Any], *, remembers: bool) -> list[int]:
    """Actions by `predict`, with or without the state that it returns."""
    torch.manual_seed(0)
    actions, state = [], None
    for observation in observations:
        action, found = model.predict(observation, state=state, deterministic=False)
        actions.append(int(action))
        state = found if remembers else None
    return actions


def test_a_recurrent_partner_remembers_its_episode_and_forgets_it_at_the_next() -> None:
    model = recurrent(agent_views(Matching())["agent_1"])
    torch.manual_seed(1)
    for parameter in model.policy.parameters():  # so large that the memory matters
        torch.nn.init.normal_(parameter, std=0.5 if parameter.ndim > 1 else 0.0)
    observations = list(np.eye(3, dtype=np.float32)[np.arange(60) % 3])
    expected = drawn(model, observations, remembers=True)
    assert expected != drawn(model, observations, remembers=False)
    actor = Actor(model)
    for _ in range(2):
        torch.manual_seed(0)
        actor.begin()
        assert [int(actor.act(own)) for own in observations] == expected


def test_partners_begin_every_episode_without_memory() -> None:
    class Counting:
        """Its memory counts the steps of an episode; it acts by the count."""

        def predict(self, observation: Any, state: Any = None, **options: Any) -> Any:
            n = 0 if state is None else state + 1
            return min(n, 2), n

    env = Matching(lengths=4)
    seen: list[int] = []
    step = env.step

    def recorded(actions: Any) -> Any:
        seen.append(int(actions["agent_1"]))
        return step(actions)

    env.step = recorded  # type: ignore[method-assign]
    view = partner_view(env, "agent_0", {"agent_1": Counting()})
    for _ in range(2):
        view.reset(seed=0)
        while not view.step(0)[3]:
            pass
    assert seen == [0, 1, 2, 2] * 2


@pytest.mark.parametrize("mode", ["simultaneous", "alternating"])
def test_recurrent_learners_are_reproducible(mode: str) -> None:
    checksums = []
    for _ in range(2):
        models = train_independent(
            Matching(lengths=7),
            {"agent_0": recurrent, "agent_1": ppo},
            total_timesteps=32,
            rng=np.random.default_rng(3),
            mode=mode,
            turn_timesteps=16 if mode == "alternating" else None,
        )
        checksums.append([weights(model) for model in models.values()])
    assert checksums[0] == checksums[1]


@dataclass(frozen=True, kw_only=True)
class Own(Sb3Learner):
    """One algorithm of sb3-contrib."""

    algorithm: str = "TRPO"

    def model(self, view: Any) -> BaseAlgorithm:
        if self.algorithm == "ARS":
            return ARS("LinearPolicy", view)
        if self.algorithm == "RecurrentPPO":
            return recurrent(view)
        common = self.common()
        if self.algorithm == "QRDQN":
            return QRDQN("MlpPolicy", view, **common)
        if self.algorithm == "MaskablePPO":
            return MaskablePPO("MlpPolicy", view, **common)
        return TRPO("MlpPolicy", view, n_steps=64, batch_size=64, **common)


def test_an_algorithm_of_ones_own_makes_stages() -> None:
    learner = Own(discount=0.9, episodes=2, timesteps=64, learning_rate=0.01)
    env = grid_world_v0.parallel_env(size=2, max_cycles=20)
    first, last = learner.learn(env, n_stages=2, rng=np.random.default_rng(0))
    change = last.joint_policy["agent_0"] - first.joint_policy["agent_0"]
    assert np.abs(change).max() > 1e-3


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        ("RecurrentPPO", "RecurrentPPO cannot make stages: its policy has a memory"),
        ("MaskablePPO", "MaskablePPO cannot make stages: it needs action masks"),
        ("QRDQN", "QRDQN cannot make stages: only actor-critic policies and the exploration"),
        ("ARS", "ARS cannot make stages: only actor-critic policies and the exploration policy"),
    ],
)
@pytest.mark.parametrize("tabular", [True, False])
def test_what_cannot_make_stages_is_rejected_before_it_learns(
    algorithm: str, reason: str, tabular: bool
) -> None:
    one_hot = grid_world_v0.parallel_env(size=2, observations="one_hot")
    env = one_hot if tabular else Matching()
    stages = Own(discount=0.9, timesteps=64, algorithm=algorithm).learn(
        env, n_stages=2, rng=np.random.default_rng(0)
    )
    with pytest.raises(ValueError, match=reason):
        next(stages)
    assert tabular or env.calls == []
