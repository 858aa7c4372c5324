"""The simulator and the tabular model are two routes to one game; they must agree everywhere."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from malfl_env import MarkovGame, grid_world_v0, markov_game
from malfl_env.grid_world import GridWorld
from malfl_env.observations import FORMS
from malfl_env.rewards import FAMILIES

N_ACTIONS = 5


def linear_reward(positions: np.ndarray, agent_index: int) -> np.ndarray:
    """Any function will do that tells all joint states and agents apart."""
    weights = 7.0 ** np.arange(positions[0].size).reshape(positions.shape[1:])
    return (positions * weights).sum(axis=(1, 2)) + agent_index


@st.composite
def grid_options(draw: st.DrawFn) -> dict[str, object]:
    """Options of a small game; walls are dropped where they make it unplayable."""
    size, n_agents = draw(st.sampled_from([(2, 2), (3, 2), (4, 2), (2, 3), (3, 3), (2, 4)]))
    cell = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))
    starts = draw(st.lists(cell, min_size=n_agents, max_size=n_agents))
    goals = [draw(cell.filter(lambda goal, start=start: goal != start)) for start in starts]
    entries = st.sampled_from(["approach", "avoid", linear_reward])
    per_agent = st.lists(entries, min_size=n_agents, max_size=n_agents)
    options = {
        "size": size,
        "n_agents": n_agents,
        "starts": starts,
        "goals": goals,
        "rewards": draw(st.sampled_from(list(FAMILIES)) | per_agent),
        "walls": draw(st.lists(cell, max_size=size)),
        "observations": draw(st.sampled_from(FORMS)),
    }
    try:
        grid_world_v0.parallel_env(**options)
    except ValueError:
        options["walls"] = []
    return options


def steps(env: GridWorld, seed: int, n_steps: int) -> Iterable[tuple[list[int], list[int]]]:
    """States and random actions of an episode, and the check of its rewards and observations."""
    game = markov_game(env)
    rng = np.random.default_rng(seed)
    observations, _ = env.reset(seed=seed)
    for actions in rng.integers(N_ACTIONS, size=(n_steps, game.n_agents)).tolist():
        state = game.state_index(observations["agent_0"])
        observations, rewards, *_ = env.step(dict(zip(env.agents, actions, strict=True)))
        assert all(np.array_equal(seen, env.state()) for seen in observations.values())
        assert rewards == {
            agent: game.reward(index)[state] for index, agent in enumerate(game.agents)
        }
        yield [state, game.state_index(env.state())], actions


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(options=grid_options(), seed=st.integers(0, 2**32 - 1))
def test_simulator_and_model_agree_step_by_step(options: dict[str, object], seed: int) -> None:
    env = grid_world_v0.parallel_env(**options)
    game = markov_game(env)
    next_states = game.next_states
    assert game.start == game.state_index(env.reset()[0]["agent_0"])
    for (state, after), actions in steps(env, seed, 60):
        assert after == next_states[(state, *actions)]


@given(options=grid_options(), slip=st.floats(0.01, 1.0), seed=st.integers(0, 2**32 - 1))
def test_slips_lead_only_where_the_model_says(
    options: dict[str, object], slip: float, seed: int
) -> None:
    env = grid_world_v0.parallel_env(**options, slip=slip)
    successors = [factor.successors for factor in markov_game(env).factors]
    game = markov_game(env)
    for (state, after), actions in steps(env, seed, 60):
        before, now = game.local_states(state), game.local_states(after)
        for index, action in enumerate(actions):
            assert now[index] in successors[index][before[index], action]


def chi_square(env: GridWorld, game: MarkovGame, actions: list[int], n_draws: int) -> float:
    """Distance of the simulator's first steps from the model's probabilities, in standard units."""
    successors, probabilities = game.joint_successors()
    expected = np.zeros(game.n_states)
    entry = (game.start, *actions)
    np.add.at(expected, successors[entry], probabilities[entry])
    observed = np.zeros(game.n_states)
    env.reset(seed=0)
    for _ in range(n_draws):
        env.step(dict(zip(env.agents, actions, strict=True)))
        observed[game.state_index(env.state())] += 1
        env.reset()
    assert np.all(observed[expected == 0] == 0)
    possible = expected > 0
    gap = (observed - n_draws * expected)[possible]
    statistic = (gap**2 / (n_draws * expected[possible])).sum()
    degrees = int(possible.sum()) - 1
    return float((statistic - degrees) / np.sqrt(2 * degrees))


@pytest.mark.parametrize("slip", [0.2, 0.7, 1.0])
@pytest.mark.parametrize("actions", [[3, 0], [4, 4], [1, 2]])
def test_slips_come_as_often_as_the_model_says(slip: float, actions: list[int]) -> None:
    env = grid_world_v0.parallel_env(starts=[(1, 1), (0, 1)], slip=slip)
    assert chi_square(env, markov_game(env), actions, 4000) < 4


def test_the_frequency_test_notices_another_slip_probability() -> None:
    env = grid_world_v0.parallel_env(starts=[(1, 1), (0, 1)], slip=0.2)
    other = grid_world_v0.parallel_env(starts=[(1, 1), (0, 1)], slip=0.25)
    assert chi_square(env, markov_game(other), [3, 0], 4000) > 6


def test_frequencies_along_an_episode() -> None:
    """Visits of every (state, action) pair that occurs often lead on as the model says."""
    env = grid_world_v0.parallel_env(size=2, slip=0.3, max_cycles=10**6)
    game = markov_game(env)
    factor = game.factors[1]
    counts = np.zeros((4, N_ACTIONS, 4))
    for (state, after), actions in steps(env, 1, 20_000):
        counts[state % 4, actions[1], after % 4] += 1
    expected = np.zeros_like(counts)
    for local, action in np.ndindex(4, N_ACTIONS):
        where = factor.successors[local, action]
        np.add.at(expected[local, action], where, factor.probabilities[local, action])
    visits = counts.sum(axis=-1, keepdims=True)
    assert visits.min() > 300
    spread = np.sqrt(np.clip(expected * (1 - expected), 0, None) / visits)
    assert np.all(np.abs(counts / visits - expected) <= 5 * spread + 1e-12)


@given(options=grid_options(), slip=st.sampled_from([0.0, 0.3, 1.0]))
def test_the_model_is_a_game(options: dict[str, object], slip: float) -> None:
    game = markov_game(grid_world_v0.parallel_env(**options, slip=slip))
    states = np.arange(game.n_states)
    np.testing.assert_array_equal(game.state_index(game.observation(states)), states)
    np.testing.assert_array_equal(
        np.ravel_multi_index(tuple(game.local_states(states).T), game.n_local), states
    )
    assert game.deterministic == (slip == 0.0)
    for factor in game.factors:
        np.testing.assert_allclose(factor.probabilities.sum(axis=-1), 1.0, rtol=0, atol=1e-12)
        assert factor.successors.min() >= 0
        assert factor.successors.max() < factor.n_local
    if game.n_states <= 81:
        successors, probabilities = game.joint_successors()
        assert successors.shape[:-1] == (game.n_states, *game.n_actions)
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, rtol=0, atol=1e-12)
        assert 0 <= successors.min() <= successors.max() < game.n_states


@given(options=grid_options())
def test_agents_are_told_apart_by_their_number_alone(options: dict[str, object]) -> None:
    """Exchanging the first two agents exchanges their digits, and nothing else."""
    order = [1, 0, *range(2, options["n_agents"])]
    exchanged = dict(options, rewards=["avoid"] * len(order))
    game = markov_game(grid_world_v0.parallel_env(**exchanged))
    for name in ("starts", "goals"):
        exchanged[name] = [options[name][index] for index in order]
    other = markov_game(grid_world_v0.parallel_env(**exchanged))
    observations = game.observation(np.arange(game.n_states))
    digits = observations.reshape(game.n_states, len(order), 2)[:, order]
    renamed = other.state_index(digits.reshape(game.n_states, -1))
    for index, old in enumerate(order):
        np.testing.assert_array_equal(other.reward(index)[renamed], game.reward(old))
        np.testing.assert_array_equal(other.factors[index].successors, game.factors[old].successors)


@settings(max_examples=30)
@given(options=grid_options(), seed=st.integers(0, 2**63))
def test_the_aec_form_plays_the_same_game(options: dict[str, object], seed: int) -> None:
    parallel = grid_world_v0.parallel_env(**options, slip=0.4)
    aec = grid_world_v0.env(**options, slip=0.4)
    rng = np.random.default_rng(seed)
    parallel.reset(seed=seed)
    aec.reset(seed=seed)
    for _ in range(20):
        actions = dict(
            zip(parallel.agents, rng.integers(5, size=len(parallel.agents)), strict=True)
        )
        _, rewards, *_ = parallel.step(actions)
        for agent in parallel.agents:
            assert aec.agent_selection == agent
            aec.step(actions[agent])
        assert np.array_equal(aec.state(), parallel.state())
        assert aec.rewards == rewards
