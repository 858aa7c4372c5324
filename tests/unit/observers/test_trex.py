"""T-REX ranks stages by visits or by ordered steps, and says when it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from malfl_algos import LearningTrace, Stage, Transitions
from malfl_algos.observers import trex
from malfl_algos.observers.trex import Trex
from malfl_env.errors import InputError

NOTHING = {"game": None, "discount": None, "temperature": None}
N_STATES, N_ACTIONS = 12, (3, 2)


def improving(seed=0, *, keep=True, steps=3000):
    """Stages with ever more visits of good states, and of agent 1's action 1."""
    rng = np.random.default_rng(seed)
    truth, stages = rng.standard_normal(N_STATES), []
    for size in np.linspace(0, 1, 6):
        share = np.exp(size * truth)
        states = rng.choice(N_STATES, size=steps + 1, p=share / share.sum())
        own = (rng.random(steps) < 0.5 + 0.4 * size).astype(int)
        actions = np.stack([rng.integers(3, size=steps), own], axis=1)
        counts = np.zeros((N_STATES, *N_ACTIONS), dtype=int)
        np.add.at(counts, (states[:-1], *actions.T), 1)
        kept = Transitions(
            states=states[:-1],
            joint_actions=actions,
            next_states=states[1:],
            episode_ends=np.arange(1, steps + 1) % 50 == 0,
            complete=True,
        )
        stages.append(Stage(counts, None, kept if keep else None))
    return LearningTrace(tuple(stages)), truth


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("features", [False, True])
def test_the_reward_by_which_stages_improve(keep, features):
    trace, truth = improving(keep=keep)
    map_ = None
    if features:  # six numbers, among them the ground truth
        map_ = np.random.default_rng(1).standard_normal((N_STATES, 6))
        map_[:, 2] = truth
    result = Trex(features=map_, ridge=1.0).recover(trace, **NOTHING)
    for agent in trace.agents:
        reward, diagnostics = result.rewards[agent], result.diagnostics[agent]
        # 15 pairs of stages tell little about six weights
        assert np.corrcoef(reward, truth)[0, 1] > (0.7 if features and not keep else 0.9)
        assert abs(reward.mean()) < 1e-9
        assert diagnostics["compared"] == ("pieces of episodes" if keep else "visits of stages")
        assert diagnostics["ranked"] > 0.6
        assert diagnostics["n_unknowns"] == (6 if features else N_STATES)


@pytest.mark.parametrize("keep", [True, False])
def test_rewards_of_own_actions_differ_between_agents(keep):
    trace, _ = improving(keep=keep)
    result = Trex(reward_model="own_action").recover(trace, **NOTHING)
    assert result.rewards["agent_1"].shape == (N_STATES, *N_ACTIONS)
    by_action = result.rewards["agent_1"].mean(axis=(0, 1))
    assert by_action[1] - by_action[0] > 5 * np.ptp(result.rewards["agent_0"].mean(axis=(0, 2)))
    # a reward of agent 1's action does not depend on agent 0's
    assert np.ptp(result.rewards["agent_1"], axis=1).max() == 0


def test_one_stage_without_steps_makes_it_compare_visits():
    trace, _ = improving()
    bare, _ = improving(keep=False)
    mixed = LearningTrace((*trace.stages[:-1], bare.stages[-1]))
    results = [Trex().recover(one, **NOTHING).rewards["agent_0"] for one in (mixed, bare)]
    np.testing.assert_array_equal(*results)


def test_the_seed_draws_the_pairs():
    trace, _ = improving()
    found = [Trex(seed=seed).recover(trace, **NOTHING).rewards["agent_0"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.any(found[0] != found[2])


def test_what_it_cannot_use_is_rejected():
    trace, _ = improving()
    empty = Stage(np.zeros((N_STATES, *N_ACTIONS), dtype=int))
    holed = LearningTrace((*trace.stages[:2], empty, *trace.stages[3:]))
    with pytest.raises(InputError, match="stage 2 holds no data and cannot be ranked"):
        Trex().recover(holed, **NOTHING)
    with pytest.raises(InputError, match="at least 2 stages"):
        Trex().recover(trace.first(1), **NOTHING)
    with pytest.raises(InputError, match=r"features must have shape \(12, k\)"):
        Trex(features=np.zeros((N_STATES, *N_ACTIONS, 1)) + 1).recover(trace, **NOTHING)


def observed():
    """The same steps seen as numbers, without joint states."""
    stages = []
    for stage in improving(steps=200)[0].stages:
        steps = stage.transitions
        stages.append(
            Stage(
                transitions=Transitions(
                    states=None,
                    joint_actions=steps.joint_actions,
                    next_states=None,
                    episode_ends=steps.episode_ends,
                    complete=True,
                    observations=dict.fromkeys(("agent_0", "agent_1"), steps.states),
                    next_observations=dict.fromkeys(("agent_0", "agent_1"), steps.next_states),
                )
            )
        )
    space = Discrete(N_STATES)
    return LearningTrace(tuple(stages), n_actions=N_ACTIONS, spaces=(space, space))


def test_observations_need_pytorch(monkeypatch):
    monkeypatch.setattr(trex, "find_spec", lambda name: None if name == "torch" else 1)
    with pytest.raises(InputError, match=r'pip install "malfl-env\[torch\]"'):
        Trex().recover(observed(), **NOTHING)
    with pytest.raises(InputError, match="features are for tabular traces"):
        Trex(features=np.eye(N_STATES)).recover(observed(), **NOTHING)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward_model": "joint"}, "reward_model must be state or own_action, got 'joint'"),
        ({"reward_model": "own_action", "features": [[1.0]]}, "features need reward_model state"),
        ({"snippet_length": 0}, "snippet_length must be >= 1, got 0"),
        ({"pairs": 0}, "pairs must be >= 1, got 0"),
        ({"ridge": 0.0}, "ridge must be > 0"),
        ({"hidden": ()}, "hidden must be at least one width >= 1"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        Trex(**options)
