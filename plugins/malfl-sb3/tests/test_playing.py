"""Stages of any parallel environment, played in copies of it side by side."""

from itertools import pairwise

import numpy as np
import pytest
from gymnasium import spaces
from malfl_sb3 import train_independent
from malfl_sb3.behaviour import log_behaviour
from malfl_sb3.learners import Sb3A2c, Sb3Dqn, Sb3Ppo
from mpe2 import simple_spread_v3
from sb3_games import Matching, global_state, learner_threads
from scipy.stats import chisquare

from malfl_algos import LearningTrace
from malfl_algos.contract import Learner
from malfl_algos.play import action_counts, observation_spaces

SMALL = {
    Sb3Ppo: {"timesteps": 32, "n_steps": 16, "batch_size": 16, "n_epochs": 2},
    Sb3A2c: {"timesteps": 32},
    Sb3Dqn: {"timesteps": 32, "learning_starts": 8, "batch_size": 8},
}


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert learner_threads() == []


def stages_of(env, learner_class=Sb3Ppo, *, n_stages=2, seed=0, **options):
    settings = {"episodes": 6, "episode_length": 100, "game_copies": 4, **SMALL[learner_class]}
    learner = learner_class(discount=0.9, **{**settings, **options})
    return list(learner.learn(env, n_stages=n_stages, rng=np.random.default_rng(seed)))


def columns(stage):
    """All arrays of a stage by name."""
    steps = stage.observed.transitions
    found = {"joint_actions": steps.joint_actions, "episode_ends": steps.episode_ends}
    for kind, of_agents in (
        ("observations", steps.observations),
        ("next_observations", steps.next_observations),
        ("policies", stage.truth.policies),
        ("rewards", stage.truth.rewards),
    ):
        found |= {f"{kind} {agent}": column for agent, column in of_agents.items()}
    return found


def first_stage(env, **options):
    """Played before anything is learned: nearly uniformly."""
    return stages_of(env, n_stages=1, **options)[0]


class Counting(Matching):
    """Observations that say which step it is, in one array that is used again and again."""

    def __init__(self, **options):
        super().__init__(space=spaces.Box(0.0, 1e6, (2,), np.float32), **options)
        self.shown = np.zeros(2, np.float32)

    def reset(self, seed=None, options=None):
        self.first = (seed or 0) % 1000
        return super().reset(seed, options)

    def _observe(self):
        self.shown[:] = self.first, self.cycle
        return dict.fromkeys(self._named, self.shown)


@pytest.mark.parametrize("learner_class", SMALL)
def test_one_seed_gives_the_same_bytes(learner_class):
    first, again, other = (
        stages_of(Matching(global_random=True), learner_class, seed=seed) for seed in (0, 0, 1)
    )
    assert isinstance(learner_class(discount=0.9), Learner)
    for one, two, three in zip(first, again, other, strict=True):
        assert columns(one).keys() == columns(two).keys()
        for name, column in columns(one).items():
            assert column.tobytes() == columns(two)[name].tobytes(), name
        assert (
            one.observed.transitions.joint_actions.tobytes()
            != three.observed.transitions.joint_actions.tobytes()
        )


def test_generators_and_environment_of_the_caller_are_unchanged():
    env = Matching(global_random=True)
    before = global_state()
    first_stage(env, n_steps=2, timesteps=2, batch_size=2)
    assert global_state() == before
    assert env.calls.count("step") == 0


def test_stages_fit_into_a_trace_and_follow_the_training():
    env = simple_spread_v3.parallel_env(max_cycles=7)
    stages = stages_of(env, n_stages=3, episodes=5)
    trace = LearningTrace(
        tuple(stage.observed for stage in stages),
        tuple(env.possible_agents),
        action_counts(env),
        observation_spaces(env),
    )
    assert trace.n_stages == 3
    for stage in stages:
        assert stage.observed.transitions.episode_ends.tolist() == ([False] * 6 + [True]) * 5
        assert stage.observed.transitions.complete is False
        assert stage.observed.transitions.terminations is None
        assert all(
            observed.dtype == np.float32
            for observed in stage.observed.transitions.observations.values()
        )
    np.testing.assert_allclose(stages[0].truth.policies["agent_0"], 0.2, atol=0.02)
    policies = [stage.truth.policies["agent_0"][0] for stage in stages]
    assert all(np.abs(new - old).max() > 1e-4 for old, new in pairwise(policies))


def test_the_policies_are_those_of_one_training_without_pauses():
    env = Matching()
    *_, last = stages_of(env, n_stages=3, seed=4)
    learner = Sb3Ppo(discount=0.9, **SMALL[Sb3Ppo])
    models = train_independent(
        env,
        dict.fromkeys(env.possible_agents, learner.model),
        total_timesteps=64,
        rng=np.random.default_rng(4),
    )
    for agent, model in models.items():
        expected = np.exp(log_behaviour(model, last.observed.transitions.observations[agent]))
        np.testing.assert_allclose(last.truth.policies[agent], expected, rtol=0, atol=1e-6)


def test_actions_are_drawn_with_the_reported_probabilities():
    *_, stage = stages_of(
        Matching(), episodes=2000, learning_rate=0.02, timesteps=128, game_copies=300
    )
    apart = 0
    for index, (agent, policies) in enumerate(stage.truth.policies.items()):
        named = stage.observed.transitions.observations[agent].argmax(axis=1)
        drawn = stage.observed.transitions.joint_actions[:, index]
        for row in range(3):
            expected = policies[named == row]
            assert np.ptp(expected, axis=0).max() < 1e-6
            counts = np.bincount(drawn[named == row], minlength=3)
            assert chisquare(counts, counts.sum() * expected[0]).pvalue > 1e-4
            apart += chisquare(counts, counts.sum() * np.roll(expected[0], 1)).pvalue < 1e-4
        np.testing.assert_array_equal(stage.truth.rewards[agent], drawn == named)
    assert apart > 3  # it has learned enough for this to be a test
    together = np.corrcoef(stage.observed.transitions.joint_actions.T)[0, 1]
    assert abs(together) < 0.05  # agents draw apart from one another


@pytest.mark.parametrize("copies", [1, 4, 100])
def test_episodes_stand_one_after_the_other_and_end_where_they_ended(copies):
    stage = first_stage(Counting(lengths=3), game_copies=copies)
    steps = stage.observed.transitions
    assert steps.episode_ends.tolist() == [False, False, True] * 6
    for agent in stage.truth.policies:
        before, after = (
            own[agent].reshape(6, 3, 2) for own in (steps.observations, steps.next_observations)
        )
        assert before[:, :, 1].tolist() == [[0, 1, 2]] * 6
        assert after[:, :, 1].tolist() == [[1, 2, 3]] * 6  # 3 is no step of the next episode
        np.testing.assert_array_equal(after[:, :, 0], before[:, :, 0])
    assert len(np.unique(before[:, 0, 0])) == 6  # every episode has a seed of its own


def test_games_of_different_lengths_are_played_on():
    class Uneven(Counting):
        def reset(self, seed=None, options=None):
            self.lengths = dict.fromkeys(self.possible_agents, 1 + (seed or 0) % 5)
            return super().reset(seed, options)

    steps = first_stage(Uneven(), episodes=40, game_copies=8).observed.transitions
    first = np.append(True, steps.episode_ends[:-1])
    seeds = steps.observations["agent_0"][:, 0]
    starts = np.append(np.flatnonzero(first), len(first))
    assert len(starts) == 41
    np.testing.assert_array_equal(np.diff(starts), 1 + seeds[first] % 5)
    assert len(set(np.diff(starts))) == 5


@pytest.mark.parametrize("terminates", [False, True])
def test_a_termination_is_distinguished_from_a_cut(terminates):
    stage = first_stage(Matching(lengths=4, terminates=terminates))
    ends = ([False] * 3 + [True]) * 6
    assert stage.observed.transitions.episode_ends.tolist() == ends
    if terminates:
        assert stage.observed.transitions.terminations.tolist() == ends
    else:
        assert stage.observed.transitions.terminations is None


def test_long_episodes_are_cut():
    stage = first_stage(Counting(lengths=9, terminates=True), episode_length=4)
    assert stage.observed.transitions.episode_ends.tolist() == ([False] * 3 + [True]) * 6
    assert stage.observed.transitions.terminations is None
    last = stage.observed.transitions.next_observations["agent_0"][3::4]
    assert last[:, 1].tolist() == [4] * 6


def test_discrete_observations():
    class Named(Matching):
        def _observe(self):
            return dict(self._named)

    stage = first_stage(Named(space=spaces.Discrete(3)))
    for observed in stage.observed.transitions.observations.values():
        assert observed.shape == (30,)
        assert observed.dtype == np.uint8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"action_space": spaces.Box(-1.0, 1.0, (1,), np.float32)},
            "agent_0: actions must be Discrete, the space is Box",
        ),
        ({"space": spaces.Dict({"a": spaces.Discrete(3)})}, "agent_0: observations must be arrays"),
    ],
)
def test_spaces_that_cannot_be_played_are_rejected_before_anything_runs(options, message):
    env = Matching(**options)
    with pytest.raises(ValueError, match=message):
        stages_of(env)
    assert env.calls == []


def test_an_environment_that_is_not_parallel_is_rejected():
    with pytest.raises(ValueError, match="aec_to_parallel"):
        stages_of(simple_spread_v3.env())


def test_agents_that_end_apart_are_rejected():
    with pytest.raises(ValueError, match="agent_0 ended before the others"):
        stages_of(Matching(lengths={"agent_0": 3, "agent_1": 5}))
