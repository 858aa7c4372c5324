"""The compiled td loop against a plain Python one on the same random stream."""

from __future__ import annotations

import numpy as np
import pytest

from malfl_algos.play.games import games_of
from malfl_algos.play.tabular import sample_stage, thresholds
from malfl_algos.soft import log_soft_improvement, soft_evaluation
from malfl_env.errors import InputError
from malfl_env.markov_game import deterministic_game

MASK = 2**64 - 1


def stream(seed):
    """SplitMix64 as published: the state advances by the golden ratio, the output is a mix."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def choose(probabilities, draw):
    """First action whose cumulative probability lies above the draw in [0, 1)."""
    edges = np.rint(np.cumsum(probabilities)[:-1] * 2.0**32)
    return int(np.sum(draw >= edges))


def reference(game, log_policies, *, seed, episodes, episode_length, discount, temperature, beta):
    """The paper's protocol with arrays and loops, one step at a time."""
    draws = stream(seed)
    q = [np.zeros((game.n_states, n)) for n in game.n_actions]
    counts = np.zeros((game.n_states, *game.n_actions), dtype=np.int64)
    n_agents = game.n_agents
    for _ in range(episodes):
        state = game.start
        for _ in range(episode_length):
            words = [next(draws) for _ in range(n_agents)]
            actions = tuple(
                choose(np.exp(log_policies[i][state]), words[i] >> 32) for i in range(n_agents)
            )
            local = game.local_states(state)
            moved = [0] * len(game.factors)
            for f in reversed(range(len(game.factors))):
                factor = game.factors[f]
                own = (local[f], *(actions[agent] for agent in factor.agents))
                k = 0
                if not game.deterministic:
                    k = choose(factor.probabilities[own], next(draws) >> 32)
                moved[f] = int(factor.successors[own][k])
            after = int(np.ravel_multi_index(moved, game.n_local))
            for i in range(n_agents):
                b = choose(np.exp(log_policies[i][after]), words[i] & 0xFFFFFFFF)
                table = game.reward(i)
                reward = table[state] if table.ndim == 1 else table[(state, *actions)]
                target = reward + discount * (
                    q[i][after, b] - temperature * log_policies[i][after, b]
                )
                q[i][state, actions[i]] += beta * (target - q[i][state, actions[i]])
            counts[(state, *actions)] += 1
            state = after
    return counts, q


def uneven_policies(game, seed):
    rng = np.random.default_rng(seed)
    return [np.log(rng.dirichlet(np.ones(n), size=game.n_states)) for n in game.n_actions]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"slip": 0.25},
        {"n_agents": 3, "size": 2},
        {"size": 4, "walls": [(1, 1)], "starts": [(3, 0), (0, 0)]},
    ],
)
def test_compiled_loop_is_the_plain_loop(paper_game, options):
    game = paper_game("heterogeneous", **options)
    policies = uneven_policies(game, 0)
    shared = {"seed": 2**63 + 12345, "episodes": 3, "episode_length": 400, "discount": 0.9}
    counts, q = reference(game, policies, **shared, temperature=3.0, beta=0.1)
    sample = sample_stage(
        game, policies, **shared, temperature=3.0, step_size=0.1, keep_steps=False
    )
    np.testing.assert_array_equal(sample.joint_counts, counts)
    for compiled, plain in zip(sample.q, q, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-12)


def test_joint_action_rewards_and_unequal_action_counts():
    rng = np.random.default_rng(1)
    game = deterministic_game(
        rng.integers(0, 6, size=(6, 2, 4)),
        start=2,
        rewards=[rng.standard_normal((6, 2, 4)), rng.standard_normal(6)],
    )
    policies = uneven_policies(game, 2)
    shared = {"seed": 7, "episodes": 5, "episode_length": 100, "discount": 0.8}
    counts, q = reference(game, policies, **shared, temperature=0.5, beta=0.2)
    sample = sample_stage(
        game, policies, **shared, temperature=0.5, step_size=0.2, keep_steps=False
    )
    np.testing.assert_array_equal(sample.joint_counts, counts)
    for compiled, plain in zip(sample.q, q, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-12)


def test_steps_that_are_kept_add_up_to_the_counts(paper_game):
    game = paper_game(slip=0.2)
    sample = sample_stage(
        game,
        uneven_policies(game, 3),
        seed=1,
        episodes=4,
        episode_length=50,
        discount=0.9,
        temperature=1.0,
        step_size=0.0,
        keep_steps=True,
    )
    states, joint_actions, next_states, ends = sample.steps
    recounted = np.bincount(states * 25 + joint_actions, minlength=81 * 25)
    np.testing.assert_array_equal(recounted, sample.joint_counts.ravel())
    assert list(np.flatnonzero(ends)) == [49, 99, 149, 199]
    np.testing.assert_array_equal(states[np.flatnonzero(ends)[:-1] + 1], game.start)
    inside = np.flatnonzero(~ends)
    np.testing.assert_array_equal(states[inside + 1], next_states[inside])
    assert all(not q.any() for q in sample.q)


def test_td_converges_near_the_exact_values(paper_game):
    """Averaged over stages, the td estimate of a well-visited action is the linear solve's."""
    game = paper_game("heterogeneous")
    policies = [np.full((81, 5), -np.log(5))] * 2
    exact = [
        soft_evaluation(game, [np.exp(p) for p in policies], i, discount=0.9, temperature=3.0)[0]
        for i in range(2)
    ]
    runs = [
        sample_stage(
            game,
            policies,
            seed=seed,
            episodes=300,
            episode_length=1000,
            discount=0.9,
            temperature=3.0,
            step_size=0.1,
            keep_steps=False,
        )
        for seed in range(16)
    ]
    for agent in range(2):
        visited = np.min([run.joint_counts.sum(axis=2 - agent) for run in runs], axis=0) > 500
        assert visited.mean() > 0.5
        gap = np.mean([run.q[agent] for run in runs], axis=0) - exact[agent]
        assert np.abs(gap[visited]).max() < 0.6
        assert abs(gap[visited].mean()) < 0.15


def test_impossible_actions_are_never_chosen():
    cuts = thresholds(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(cuts, [[0, 2**32], [2**32, 2**32]])


def test_seeds_differ_and_repeat(paper_game):
    game = paper_game()
    policies = [log_soft_improvement(np.zeros((81, 5)), temperature=1.0)] * 2
    options = {
        "episodes": 2,
        "episode_length": 100,
        "discount": 0.9,
        "temperature": 1.0,
        "step_size": 0.1,
        "keep_steps": False,
    }
    first, again, other = (sample_stage(game, policies, seed=s, **options) for s in (5, 5, 6))
    np.testing.assert_array_equal(first.q[0], again.q[0])
    assert not np.array_equal(first.joint_counts, other.joint_counts)


def test_a_game_in_place_of_an_environment_is_told_briefly():
    game = deterministic_game(np.zeros((500, 2), dtype=int), start=0)
    with pytest.raises(InputError, match="must be a PettingZoo parallel environment") as told:
        games_of(game, 1)
    assert len(str(told.value)) < 400
