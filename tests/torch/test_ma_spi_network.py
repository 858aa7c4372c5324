"""MA-SPI with networks against exact MA-SPI, and its parts against soft evaluation on tables."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces
from network_games import Corridor, Ruinous

from malfl_algos.contract import Learner
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.learners.ma_spi_network import MaSpiNetwork
from malfl_algos.learners.soft_q import (
    AgentSteps,
    Descent,
    fit_soft_q,
    log_probabilities,
    new_agent,
    probabilities,
    project_policy,
)
from malfl_algos.networks.encoding import Encoder
from malfl_algos.soft import log_soft_improvement, soft_evaluation
from malfl_algos.testing import check_learner
from malfl_env import grid_world_v0
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame, deterministic_game

RATES = {"discount": 0.9, "temperature": 3.0}
SMALL = {"q_updates": 30, "policy_updates": 30, "hidden": (16,)}


def one_agent_game(rng) -> MarkovGame:
    """A lone agent among six states, where every sample of a step is its expectation."""
    table = rng.integers(6, size=(6, 3))
    return deterministic_game(table, start=0, rewards=[rng.standard_normal(6)])


def all_steps(game, *, terminations=None) -> AgentSteps:
    """Every state and action once."""
    states, actions = (grid.ravel() for grid in np.indices(game.next_states.shape))
    return AgentSteps(
        observations=states,
        actions=actions,
        rewards=game.reward(0)[states],
        next_observations=game.next_states.ravel(),
        episode_ends=np.zeros(len(states), dtype=bool),
        terminations=terminations,
    )


REGRESSION = Descent(800, 0.05, 64)
PROJECTION = Descent(600, 0.05, 64)
TARGET_RATE = 0.05


@pytest.fixture
def linear():
    """A tabular game, its steps, and networks of one-hot states without hidden layers."""
    game = one_agent_game(np.random.default_rng(3))
    generator = torch.Generator().manual_seed(0)
    agent = new_agent(Encoder(spaces.Discrete(6)), 3, hidden=(), generator=generator)
    return game, generator, agent


def q_of(agent, temperature):
    with torch.no_grad():
        features = torch.eye(6)
        out = features @ agent.q[0] + agent.q[1]
    return agent.offset + temperature * out.numpy()


def test_the_regression_solves_the_soft_bellman_equation(linear):
    """With one-hot networks (5) has one solution, which a linear solve gives, too."""
    game, generator, agent = linear
    policy = np.random.default_rng(0).dirichlet(np.full(3, 5.0), size=6)
    with torch.no_grad():
        agent.policy[0][:] = torch.tensor(np.log(policy))
    rates = {"discount": 0.6, "temperature": 0.7}
    exact, _ = soft_evaluation(game, [policy], 0, **rates)
    fit_soft_q(
        agent, all_steps(game), REGRESSION, target_rate=TARGET_RATE, **rates, generator=generator
    )
    np.testing.assert_allclose(q_of(agent, 0.7), exact, atol=0.02)


def test_after_a_termination_there_is_no_value(linear):
    game, generator, agent = linear
    ended = np.ones(18, dtype=bool)
    steps = all_steps(game, terminations=ended)
    fit_soft_q(
        agent,
        steps,
        REGRESSION,
        target_rate=TARGET_RATE,
        discount=0.8,
        temperature=0.7,
        generator=generator,
    )
    rewards = np.repeat(game.reward(0)[:, None], 3, axis=1)
    np.testing.assert_allclose(q_of(agent, 0.7), rewards, atol=0.01)


def test_the_projection_is_the_improved_policy(linear):
    _, generator, agent = linear
    with torch.no_grad():
        agent.q[0][:] = torch.tensor(np.random.default_rng(1).standard_normal((6, 3)))
    agent.offset = 5.0
    project_policy(agent, np.arange(6), PROJECTION, generator=generator)
    wanted = np.exp(log_soft_improvement(q_of(agent, 2.0), temperature=2.0))
    np.testing.assert_allclose(probabilities(agent, np.arange(6)), wanted, atol=2e-3)
    np.testing.assert_allclose(log_probabilities(agent, np.arange(6)), np.log(wanted), atol=2e-2)


@pytest.mark.parametrize("family", ["homogeneous", "heterogeneous"])
def test_policies_agree_with_exact_evaluation(family):
    """With fewer stages and steps than in the paper; docs/how-to/networks.md has the full table."""
    env = grid_world_v0.parallel_env(rewards=family)
    sizes = {"episodes": 100, "episode_length": 1000}
    exact = MaSpi(**RATES, evaluation="exact", episodes=1, episode_length=1)
    ours = MaSpiNetwork(**RATES, **sizes, q_updates=400, policy_updates=200)
    pairs = zip(
        exact.learn(env, n_stages=3, rng=np.random.default_rng(0)),
        ours.learn(env, n_stages=3, rng=np.random.default_rng(5)),
        strict=True,
    )
    for number, (known, found) in enumerate(pairs):
        gaps = [
            0.5 * np.abs(known.joint_policy[a] - found.joint_policy[a]).sum(axis=1)
            for a in env.possible_agents
        ]
        assert np.mean(gaps) <= (0.05 if number else 1e-12)


def test_it_keeps_the_contract_of_a_learner():
    check_learner("ma-spi-network" if installed() else MaSpiNetwork, options=SMALL)


def installed() -> bool:
    from malfl_algos.plugins import list_plugins

    return any(plugin.name == "ma-spi-network" for plugin in list_plugins())


def test_it_learns_in_tabular_games_and_in_any_other():
    learner = MaSpiNetwork(**RATES, **SMALL, episodes=2, episode_length=5)
    assert isinstance(learner, Learner)
    for env, tabular in ((grid_world_v0.parallel_env(), True), (Corridor(), False)):
        stage = next(learner.learn(env, n_stages=1, rng=np.random.default_rng(0)))
        assert (stage.observed.joint_counts is not None) == tabular
        assert (stage.truth.rewards is None) == tabular


def columns(stage):
    if stage.observed.joint_counts is not None:
        return [stage.observed.joint_counts, *stage.truth.policies.values()]
    steps = stage.observed.transitions
    return [
        steps.joint_actions,
        steps.episode_ends,
        *steps.observations.values(),
        *steps.next_observations.values(),
        *stage.truth.policies.values(),
        *stage.truth.rewards.values(),
    ]


@pytest.mark.parametrize(
    "make", [grid_world_v0.parallel_env, lambda: Corridor(noise=0.2, box=True)]
)
def test_one_seed_one_result_to_the_byte(make):
    learner = MaSpiNetwork(**RATES, **SMALL, episodes=7, episode_length=12, game_copies=3)

    def run(seed):
        np.random.seed(seed + 10)  # noqa: NPY002  # the global states are nobody's business
        torch.manual_seed(seed + 20)
        stages = learner.learn(make(), n_stages=3, rng=np.random.default_rng(seed))
        return [b"".join(column.tobytes() for column in columns(stage)) for stage in stages]

    assert run(0) == run(0)
    assert run(0)[0] != run(1)[0]


def test_global_random_states_are_unchanged():
    before = np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()  # noqa: NPY002
    learner = MaSpiNetwork(**RATES, **SMALL, episodes=2, episode_length=5)
    list(learner.learn(grid_world_v0.parallel_env(), n_stages=2, rng=np.random.default_rng(0)))
    after = np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()  # noqa: NPY002
    assert before == after


def test_networks_are_not_an_evaluation_of_ma_spi():
    with pytest.raises(InputError, match=r"'td' or 'exact', got 'network'.*'ma-spi-network'"):
        MaSpi(**RATES, evaluation="network")


@pytest.mark.parametrize("device", [None, "meta"])
def test_torchs_defaults_do_not_matter(device):
    """A default dtype or device that the user's program chose changes no number, and stays."""

    def learned():
        learner = MaSpiNetwork(**RATES, **SMALL, episodes=3, episode_length=9)
        return [
            {agent: own.tobytes() for agent, own in stage.joint_policy.items()}
            for stage in learner.learn(
                grid_world_v0.parallel_env(), n_stages=3, rng=np.random.default_rng(0)
            )
        ]

    expected = learned()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device(device)
    try:
        assert learned() == expected
        assert torch.get_default_dtype() == torch.float64
        assert str(torch.get_default_device()) == (device or "cpu")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_learning_pays():
    """Both walkers are rewarded on the right, and learn to go there."""
    learner = MaSpiNetwork(
        discount=0.9, temperature=0.5, episodes=40, episode_length=30, q_updates=300,
        policy_updates=150, hidden=(32,),
    )  # fmt: skip
    stages = list(learner.learn(Corridor(box=True), n_stages=3, rng=np.random.default_rng(0)))
    means = [np.mean([gain.mean() for gain in stage.truth.rewards.values()]) for stage in stages]
    assert means[0] < 2.5
    assert means[2] > 3.2


def test_options_that_are_out_of_range():
    for option, value in {
        "discount": 1.0, "temperature": 0.0, "episodes": 0, "q_updates": 0, "q_batch_size": 0,
        "q_learning_rate": 0.0, "policy_learning_rate": float("nan"), "target_rate": 1.5,
        "hidden": (0,), "game_copies": 0,
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=option):
            MaSpiNetwork(**{**RATES, option: value})


def test_a_device_that_is_not_there():
    env = grid_world_v0.parallel_env()
    for device in ("cuda:99", "abacus"):
        learner = MaSpiNetwork(**RATES, device=device)
        for game in (env, Corridor()):
            with pytest.raises(InputError, match=f"device '{device}' cannot be used here; choose"):
                learner.learn(game, n_stages=2, rng=np.random.default_rng(0))


def test_a_loss_that_is_not_finite():
    learner = MaSpiNetwork(**RATES, **SMALL, episodes=2, episode_length=5)
    stages = learner.learn(Ruinous(), n_stages=2, rng=np.random.default_rng(0))
    next(stages)
    with pytest.raises(RuntimeError, match="lower the learning rate"):
        next(stages)


def test_tensorboard_logs_losses_entropies_and_returns(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    learner = MaSpiNetwork(
        **RATES, **SMALL, episodes=4, episode_length=9, log_dir=str(tmp_path / "log")
    )
    stages = list(learner.learn(Corridor(), n_stages=3, rng=np.random.default_rng(0)))
    (run,) = (tmp_path / "log").iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    for name in ("soft_bellman_loss", "projection_divergence", "return", "entropy"):
        assert events.Scalars(f"left one/{name}")
    returns = [event.value for event in events.Scalars("right one/return")]
    wanted = [stage.truth.rewards["right one"].sum() / 4 for stage in stages[:2]]
    np.testing.assert_allclose(returns, wanted, rtol=1e-5)


def test_tables_load_no_torch():
    """MA-SPI itself stays free of it, whatever is installed."""
    code = "import sys, malfl_algos.learners.ma_spi as m; m.MaSpi(discount=.9, temperature=1.); " \
        "print('torch' in sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
