"""One learner in many games: random draws, policies, seeds and rejected input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from malfl_env import grid_world_v0, markov_game
from malfl_env.vector import GridWorldVector, SingleAgentVector

STAY = 4


def test_tables_are_sampled_with_their_probabilities() -> None:
    n_envs = 20_000
    table = np.random.default_rng(0).dirichlet(np.ones(5), size=81)
    table[:, 2] = 0.0
    table /= table.sum(axis=1, keepdims=True)
    game = markov_game(grid_world_v0.parallel_env(starts=(1, 1)))
    env = SingleAgentVector(n_envs, starts=(1, 1), policies={"agent_1": table})
    env.reset(seed=0)
    observations, *_ = env.step(np.full(n_envs, STAY))
    expected = np.zeros(81)
    np.add.at(expected, game.next_states[game.start, STAY], table[game.start])
    seen = np.bincount(game.state_index(observations), minlength=81) / n_envs
    assert not seen[expected == 0].any()
    assert np.all(np.abs(seen - expected) <= 5 * np.sqrt(expected * (1 - expected) / n_envs))


def test_agents_without_a_policy_are_uniform() -> None:
    n_envs = 20_000
    env = SingleAgentVector(n_envs, size=5, starts=(2, 2))
    env.reset(seed=0)
    observations, *_ = env.step(np.full(n_envs, STAY))
    assert (observations[:, :2] == 2).all()
    _, counts = np.unique(observations[:, 2:], axis=0, return_counts=True)
    assert len(counts) == 5
    assert ((counts - n_envs / 5) ** 2 / (n_envs / 5)).sum() < 18.5  # chi-square, 4: 0.001


def test_the_learner_is_one_agent_of_the_batch() -> None:
    """The same games as a `GridWorldVector` whose agents follow the same policies."""
    options: dict[str, Any] = {"n_agents": 3, "rewards": ["approach", "avoid", "avoid"]}
    seen = []

    def follow(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen.append(observations)
        return observations.sum(axis=1) % 5

    env = SingleAgentVector(
        4, agent="agent_1", policies={"agent_0": follow, "agent_2": follow}, **options
    )
    games = GridWorldVector(4, **options)
    now, _ = env.reset(seed=0)
    games.reset()
    for own in np.random.default_rng(0).integers(5, size=(50, 4)):
        others = now.sum(axis=1) % 5
        expected = games.step(np.stack([others, own, others], axis=1))
        now, rewards, *_ = env.step(own)
        np.testing.assert_array_equal(now, expected[0])
        np.testing.assert_array_equal(rewards, expected[1][:, 1])
        assert rewards.flags.c_contiguous
    assert len(seen) == 100
    assert seen[0].shape == (4, 6)


def test_one_seed_determines_everything() -> None:
    def run(seed: Any) -> list[bytes]:
        env = SingleAgentVector(5, slip=0.3, policies={"agent_1": np.full((81, 5), 0.2)})
        env.reset(seed=seed)
        return [env.step(np.full(5, STAY))[0].tobytes() for _ in range(30)]

    assert run(5) == run(5)
    assert run([1, 2, 3, 4, 5]) == run([1, 2, 3, 4, 5])
    assert len({tuple(run(seed)) for seed in (5, 6, None, [1, 2, 3, 4, 5])}) == 4


def test_seeds_are_reported_as_by_gymnasium() -> None:
    env = SingleAgentVector(2)
    env.reset(seed=np.int64(7))
    assert env.np_random_seed == 7
    rng = env.np_random
    env.reset()
    assert env.np_random is rng
    env.reset(seed=[1, 2])
    assert env.np_random_seed == -1


def test_close() -> None:
    env = SingleAgentVector(2)
    assert not env.closed
    env.close()
    assert env.closed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs must be a whole number >= 1, got 0"),
        ({"agent": "agent_2"}, "agent must be one of 'agent_0', 'agent_1'; got 'agent_2'"),
        ({"policies": {"agent_0": None}}, "an agent id must be one of 'agent_1'; got 'agent_0'"),
        ({"policies": {"agent_1": np.ones((81, 5))}}, r"sum to 1 in every state; row 0 is \[1"),
    ],
)
def test_bad_options_are_named(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        SingleAgentVector(**{"num_envs": 2, **options})


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 1, 2], r"actions must be whole numbers, one per game: shape \(2,\); got shape \(3,\)"),
        ([0.0, 1.0], "got shape .*, dtype float64"),
        ([0, 5], "the action of agent_0 in game 1 must be .*, got 5"),
    ],
)
def test_bad_actions_are_named_before_anyone_draws(actions, message) -> None:
    env = SingleAgentVector(2, slip=0.5)
    env.reset(seed=0)
    before = env.np_random.bit_generator.state
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert env.np_random.bit_generator.state == before


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            3,
            r"policies: actions of agent_1 must be whole numbers, one per game: .*; got shape \(\)",
        ),
        ([0.5, 1.0], "policies: actions of agent_1 must be .*, dtype float64"),
        ([7, 0], "the action of agent_1 in game 0 must be .*, got 7"),
    ],
)
def test_bad_answers_of_a_callable_are_named(answer, message) -> None:
    answers = iter([answer, [0, 3]])
    env = SingleAgentVector(2, policies={"agent_1": lambda observations, rng: next(answers)})
    env.reset()
    before = env.games.observations()
    with pytest.raises(ValueError, match=message):
        env.step([0, 0])
    np.testing.assert_array_equal(env.games.observations(), before)
    assert env.step([0, 0])[0].tolist() == [[1, 0, 1, 0], [1, 0, 0, 1]]


def test_step_before_reset() -> None:
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        SingleAgentVector(2).step([0, 0])
