"""The same game with other rewards."""

import numpy as np
import pytest
from malfl_sb3 import train_independent
from malfl_sb3.rewarded import Rewarded
from sb3_games import Matching, ppo


def pays(observations, joint_actions):
    """The number of the observation before, and a tenth of agent_1's action."""
    return observations["agent_0"].argmax(axis=1) + joint_actions[:, 1] / 10


def nothing(observations, joint_actions):
    return np.zeros(len(joint_actions))


def test_pays_for_what_was_observed_before_and_done_now():
    env = Rewarded(Matching(random=False, lengths=4), {"agent_1": nothing, "agent_0": pays})
    observations, _ = env.reset(seed=0)
    for action in (2, 0, 1, 2):
        named = int(observations["agent_0"].argmax())
        observations, rewards, _, truncations, _ = env.step({"agent_0": 1, "agent_1": action})
        assert rewards == {"agent_0": pytest.approx(named + action / 10), "agent_1": 0.0}
    assert truncations == {"agent_0": True, "agent_1": True}
    assert env.agents == []


def test_agents_learn_from_it():
    def matches(observations, joint_actions):
        return 1.0 * ((observations["agent_0"].argmax(axis=1) + 1) % 3 == joint_actions[:, 0])

    env = Rewarded(Matching(n_agents=1), {"agent_0": matches})
    models = train_independent(
        env,
        {"agent_0": lambda view: ppo(view, n_steps=64, gamma=0.0, learning_rate=3e-3)},
        total_timesteps=1024,
        rng=np.random.default_rng(0),
    )
    best = models["agent_0"].predict(np.eye(3, dtype=np.float32), deterministic=True)[0]
    assert best.tolist() == [1, 2, 0]  # not what the game itself pays for


def test_rewards_that_do_not_fit():
    with pytest.raises(ValueError, match=r"rewards lacks \['agent_1'\]"):
        Rewarded(Matching(), {"agent_0": nothing})
    env = Rewarded(Matching(n_agents=1), {"agent_0": lambda seen, actions: np.array([np.nan])})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="the reward of agent_0 must be finite, got nan"):
        env.step({"agent_0": 0})
