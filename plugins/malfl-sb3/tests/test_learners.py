"""The learner plugins: stages of a learning trace from agents that learn by stable-baselines3."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from gymnasium import spaces
from malfl_sb3 import agent_views, train_independent
from malfl_sb3.behaviour import log_behaviour
from malfl_sb3.learners import Sb3A2c, Sb3Dqn, Sb3Ppo
from sb3_games import Matching, dqn, learner_threads, ppo
from scipy.stats import chisquare
from stable_baselines3 import SAC

from malfl_algos.cli.main import main
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.plugins import list_plugins, load_learner
from malfl_algos.soft import soft_evaluation
from malfl_algos.testing import check_learner
from malfl_algos.trace import LearningTrace
from malfl_env import grid_world_v0, markov_game

SMALL = {
    "sb3-ppo": {"timesteps": 32, "n_steps": 16, "batch_size": 16, "n_epochs": 2},
    "sb3-a2c": {"timesteps": 32},
    "sb3-dqn": {"timesteps": 32, "learning_starts": 8, "batch_size": 8},
}


def returns(game, joint_policy):
    """Expected discounted return of every agent, exactly."""
    policies = [joint_policy[agent] for agent in game.agents]
    return [
        soft_evaluation(game, policies, index, discount=0.9, temperature=0.0)[1][game.start]
        for index in range(game.n_agents)
    ]


@pytest.mark.parametrize("name", SMALL)
def test_conforms(name):
    check_learner(name, options=SMALL[name])
    assert learner_threads() == []


def test_are_found_by_name():
    found = {plugin.name for plugin in list_plugins() if plugin.distribution == "malfl-sb3"}
    assert found == set(SMALL)
    assert load_learner("sb3-dqn", discount=0.9) == Sb3Dqn(discount=0.9)


@pytest.mark.parametrize("family", ["homogeneous", "heterogeneous"])
def test_ppo_beats_the_uniform_policy_on_the_3x3_game(family):
    env = grid_world_v0.parallel_env(rewards=family)
    game = markov_game(env)
    uniform = returns(game, {agent: np.full((81, 5), 0.2) for agent in game.agents})
    learner = Sb3Ppo(discount=0.9, episodes=1)
    first, *_, last = learner.learn(env, n_stages=4, rng=np.random.default_rng(0))
    np.testing.assert_allclose(returns(game, first.joint_policy), uniform, atol=0.1)
    gained = np.subtract(returns(game, last.joint_policy), uniform)
    assert np.all(gained > 4), gained


@pytest.mark.parametrize("mode", ["simultaneous", "alternating"])
@pytest.mark.parametrize("learner_class", [Sb3Ppo, Sb3A2c, Sb3Dqn])
def test_stages_follow_the_training(learner_class, mode):
    env = grid_world_v0.parallel_env(size=2, max_cycles=20)
    learner = learner_class(
        discount=0.9, episodes=2, episode_length=30, keep_transitions=True, timesteps=512, mode=mode
    )
    stages = list(learner.learn(env, n_stages=3, rng=np.random.default_rng(0)))
    policies = [np.stack(list(stage.joint_policy.values())) for stage in stages]
    np.testing.assert_allclose(policies[0], 0.2, atol=0.02)
    assert all(np.abs(new - old).max() > 0.01 for old, new in pairwise(policies))
    for stage in stages:
        assert stage.observed.joint_counts.sum() == 60
        # they learned from other steps than these
        assert stage.observed.transitions.complete is False
        assert stage.observed.transitions.episode_ends.tolist() == ([False] * 29 + [True]) * 2


@pytest.mark.parametrize("learner_class", [Sb3Ppo, Sb3Dqn])
def test_one_hot_observations_are_what_the_networks_read_anyway(learner_class):
    options = SMALL["sb3-ppo" if learner_class is Sb3Ppo else "sb3-dqn"]
    learner = learner_class(discount=0.9, episodes=2, **options)
    cells, one_hot = (
        list(
            learner.learn(
                grid_world_v0.parallel_env(size=2, observations=form),
                n_stages=2,
                rng=np.random.default_rng(0),
            )
        )
        for form in ("cells", "one_hot")
    )
    for one, other in zip(cells, one_hot, strict=True):
        np.testing.assert_array_equal(one.observed.joint_counts, other.observed.joint_counts)
        for agent, policy in one.joint_policy.items():
            np.testing.assert_array_equal(policy, other.joint_policy[agent])


def test_coordinates_are_observed_as_such():
    env = grid_world_v0.parallel_env(size=3, observations="coordinates")
    learner = Sb3Ppo(discount=0.9, episodes=2, **SMALL["sb3-ppo"])
    first, last = learner.learn(env, n_stages=2, rng=np.random.default_rng(0))
    assert last.joint_policy["agent_0"].shape == (81, 5)
    assert np.abs(last.joint_policy["agent_0"] - first.joint_policy["agent_0"]).max() > 1e-4


def test_stages_are_those_of_one_training_without_pauses():
    env = grid_world_v0.parallel_env(size=2)
    learner = Sb3Dqn(discount=0.9, episodes=1, **SMALL["sb3-dqn"])
    *_, last = learner.learn(env, n_stages=3, rng=np.random.default_rng(4))
    models = train_independent(
        env,
        dict.fromkeys(env.possible_agents, learner.model),
        total_timesteps=64,
        rng=np.random.default_rng(4),
    )
    observations = markov_game(env).observation(np.arange(16))
    for agent, model in models.items():
        expected = np.exp(log_behaviour(model, observations))
        np.testing.assert_array_equal(last.joint_policy[agent], expected)


@pytest.mark.parametrize("factory", [partial(ppo, learning_rate=0.03), dqn])
def test_the_policy_that_is_read_is_the_one_that_acts(factory):
    env = Matching(random=False)
    models = train_independent(
        env,
        dict.fromkeys(env.possible_agents, factory),
        total_timesteps=64,
        rng=np.random.default_rng(0),
    )
    model = models["agent_1"]
    if factory is dqn:
        assert 0 < model.exploration_rate < 1
        model.exploration_rate = 0.6
    observations = np.eye(3, dtype=np.float32)
    policy = np.exp(log_behaviour(model, observations))
    np.testing.assert_allclose(policy.sum(axis=1), 1, rtol=0, atol=1e-12)
    np.random.seed(0)  # noqa: NPY002
    model.set_random_seed(0)
    n = 3000
    for observation, expected in zip(observations, policy, strict=True):
        drawn = [int(model.predict(observation, deterministic=False)[0]) for _ in range(n)]
        counts = np.bincount(drawn, minlength=3)
        assert chisquare(counts, n * expected).pvalue > 1e-4
        assert chisquare(counts, n * np.roll(expected, 1)).pvalue < 1e-4


def test_dqn_draws_at_random_until_it_learns():
    model = dqn(agent_views(Matching())["agent_0"])
    uniform = np.exp(log_behaviour(model, np.eye(3, dtype=np.float32)))
    np.testing.assert_allclose(uniform, 1 / 3)


def test_only_policies_of_discrete_actions_are_read():
    view = agent_views(Matching(action_space=spaces.Box(-1.0, 1.0, (1,), np.float32)))["agent_0"]
    with pytest.raises(ValueError, match="actions must be Discrete, got Box"):
        log_behaviour(ppo(view), np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="SAC cannot make stages: only actor-critic policies"):
        log_behaviour(SAC("MlpPolicy", view, buffer_size=10), np.eye(3, dtype=np.float32))


@pytest.mark.parametrize(
    ("learner_class", "options", "message"),
    [
        (Sb3Ppo, {"discount": 1.0}, r"discount must be in \[0, 1\), got 1.0"),
        (Sb3Ppo, {"timesteps": 0}, "timesteps must be >= 1, got 0"),
        (Sb3Ppo, {"timesteps": 1000}, r"timesteps must be a multiple of n_steps \(512\)"),
        (Sb3Ppo, {"n_steps": 1}, "n_steps must be >= 2, got 1"),
        (Sb3Ppo, {"mode": "both"}, "mode must be 'simultaneous' or 'alternating', got 'both'"),
        (Sb3A2c, {"gae_lambda": 1.5}, r"gae_lambda must be in \[0, 1\], got 1.5"),
        (Sb3A2c, {"entropy_weight": -1.0}, "entropy_weight must be >= 0"),
        (Sb3A2c, {"policy_network": (8, 0)}, r"policy_network must hold widths >= 1, got \(8, 0\)"),
        (Sb3Dqn, {"learning_rate": 0.0}, "learning_rate must be > 0"),
        (Sb3Dqn, {"learning_starts": 0}, "learning_starts must be >= 1, got 0"),
        (Sb3Dqn, {"exploration_fraction": 0.0}, "exploration_fraction must be > 0"),
    ],
)
def test_options_out_of_range(learner_class, options, message):
    with pytest.raises(ValueError, match=message):
        learner_class(**{"discount": 0.9, **options})


def test_without_a_table_stages_hold_observations():
    learner = Sb3Ppo(discount=0.9, episodes=2, **SMALL["sb3-ppo"])
    stage = next(learner.learn(Matching(), n_stages=1, rng=np.random.default_rng(0)))
    assert stage.observed.joint_counts is None
    assert set(stage.observed.transitions.observations) == {"agent_0", "agent_1"}


def test_reproduce_end_to_end(tmp_path, capsys):
    arguments = ["reproduce", "--fast", "--learner", "sb3-ppo", "--observers", "ma-lfl-faithful"]
    arguments += ["--reward-families", "homogeneous", "--output-dir", str(tmp_path / "out")]
    assert main(arguments) == 0
    folder = tmp_path / "out" / "homogeneous" / "seed_0"
    trace = LearningTrace.load(folder / "sb3-ppo" / "trace.npz")
    truth = GroundTruth.load(folder / "sb3-ppo" / "ground_truth.npz")
    assert trace.n_stages == 4
    for index, agent in enumerate(trace.agents):
        counts = trace.stages[-1].action_counts(index)
        policy = truth.joint_policies[agent][-1]
        often = counts.sum(axis=1) > 1000
        assert often.any()
        expected = counts.sum(axis=1, keepdims=True) * policy
        np.testing.assert_allclose(counts[often], expected[often], atol=200)
    assert (folder / "ma-lfl-faithful" / "rewards.npz").exists()
    assert main(arguments) == 0  # nothing left to do


def test_the_number_of_processes_does_not_change_a_trace(tmp_path):
    (tmp_path / "small.yaml").write_text(
        "game: {size: 2}\niterations: 3\nepisodes: 5\nepisode_length: 20\nseeds: [0, 1]\n"
        "reward_families: [homogeneous]\nobservers: [log-policy]\ntrend: false\n"
        "learner: {name: sb3-a2c, label: sb3-a2c, options: {timesteps: 32}}\n",
        encoding="utf-8",
    )
    for jobs in ("1", "2"):
        arguments = ["--config", str(tmp_path / "small.yaml"), "--jobs", jobs]
        assert main(["reproduce", *arguments, "--output-dir", str(tmp_path / jobs)]) == 0
    for name in ("trace.npz", "ground_truth.npz"):
        for seed in ("seed_0", "seed_1"):
            one, two = (
                (tmp_path / jobs / "homogeneous" / seed / "sb3-a2c" / name).read_bytes()
                for jobs in ("1", "2")
            )
            assert one == two
