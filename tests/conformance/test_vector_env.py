"""The vector environment beside Gymnasium's `SyncVectorEnv` over the single-agent view."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics, TransformReward

from malfl_env import grid_world_v0, single_agent_env
from malfl_env.vector import SingleAgentVector

pytestmark = pytest.mark.filterwarnings("error")

N_ENVS = 3
AutoresetMode: Any = getattr(gymnasium.vector, "AutoresetMode", None)
MODES = list(AutoresetMode) if AutoresetMode else ["NextStep"]  # Gymnasium 1.0 knows this one only

CHOSEN = np.random.default_rng(1).integers(5, size=81)
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "table": {"policies": {"agent_1": np.eye(5)[CHOSEN]}},
    "second-agent": {
        "agent": "agent_1",
        "rewards": "heterogeneous",
        "policies": {"agent_0": np.eye(5)[CHOSEN]},
    },
    "one-hot": {"observations": "one_hot", "policies": {"agent_1": np.eye(5)[CHOSEN]}},
    "coordinates": {"observations": "coordinates", "policies": {"agent_1": np.eye(5)[CHOSEN]}},
    "three": {
        "n_agents": 3,
        "size": 2,
        "policies": {agent: np.eye(5)[np.arange(64) % 5] for agent in ("agent_1", "agent_2")},
    },
}


def disabled(mode: Any) -> bool:
    return getattr(mode, "value", mode) == "Disabled"


def synchronous(mode: Any, **options: Any) -> SyncVectorEnv:
    modes = {"autoreset_mode": mode} if AutoresetMode else {}
    return SyncVectorEnv([partial(single_agent_env, **options)] * N_ENVS, **modes)


def same(ours: Any, theirs: Any) -> None:
    """Arrays, or infos, down to types."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            same(ours[key], value)
        return
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    for own, other in zip(ours, theirs, strict=True):
        assert (own is None) == (other is None)
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
@pytest.mark.parametrize("mode", MODES)
def test_beside_gymnasiums_own(mode, options) -> None:
    options = {**options, "max_cycles": 4}
    ours = SingleAgentVector(N_ENVS, autoreset_mode=mode, **options)
    theirs = synchronous(mode, **options)
    for env in (ours, theirs):
        env.action_space.seed(0)
    same(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    for step in range(40):
        actions = ours.action_space.sample()
        results, expected = ours.step(actions), theirs.step(actions)
        for own, other in zip(results, expected, strict=True):
            same(own, other)
        assert results[0] in ours.observation_space
        mask = expected[3].copy()
        if step % 7 == 2 and AutoresetMode:
            mask[step % N_ENVS] = True
        if mask.any() and (step % 7 == 2 or disabled(mode)):
            ours_again = ours.reset(options={"reset_mask": mask.copy()})
            theirs_again = theirs.reset(options={"reset_mask": mask.copy()})
            same(ours_again[0], theirs_again[0])
            same(ours_again[1], theirs_again[1])


def test_spaces_and_metadata() -> None:
    ours, theirs = SingleAgentVector(N_ENVS), synchronous(MODES[0])
    assert isinstance(ours, VectorEnv)
    for name in ("single_observation_space", "single_action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    for name in ("observation_space", "action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.num_envs == theirs.num_envs
    assert ours.render_mode is None
    assert ours.metadata["autoreset_mode"] == (AutoresetMode or str)("SameStep")
    assert ours.unwrapped is ours
    assert str(ours) == f"SingleAgentVector(num_envs={N_ENVS})"


def test_make_vec() -> None:
    name = grid_world_v0.ENVIRONMENT_ID
    env = gymnasium.make_vec(name, num_envs=5, slip=0.2, agent="agent_1")
    assert isinstance(env, SingleAgentVector)
    assert env.spec.id == name
    assert env.reset(seed=0)[0].shape == (5, 4)
    env.close()


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_make_vec_with_fewer_steps(mode: str) -> None:
    name = grid_world_v0.ENVIRONMENT_ID
    env = gymnasium.make_vec(name, num_envs=2, vectorization_mode=mode, max_episode_steps=3)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, dtype=np.int64))[3].tolist() for _ in range(3)]
    assert ends == [[False, False], [False, False], [True, True]]
    env.close()


@pytest.mark.parametrize("mode", [mode for mode in MODES if not disabled(mode)])
def test_gymnasiums_wrappers_go_around_it(mode) -> None:
    options = {**CONFIGURATIONS["table"], "max_cycles": 4}
    ours = SingleAgentVector(N_ENVS, autoreset_mode=mode, **options)
    theirs = synchronous(mode, **options)
    wrapped = [
        RecordEpisodeStatistics(TransformReward(env, lambda reward: 2 * reward))
        for env in (ours, theirs)
    ]
    for env in wrapped:
        env.reset(seed=0)
    for actions in np.random.default_rng(0).integers(5, size=(20, N_ENVS)):
        (*own, infos), (*other, expected) = (env.step(actions) for env in wrapped)
        np.testing.assert_array_equal(own[1], other[1])
        assert set(infos) == set(expected)
        if "episode" in expected:
            for key in ("r", "l"):
                np.testing.assert_array_equal(infos["episode"][key], expected["episode"][key])
