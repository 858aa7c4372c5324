"""The baselines against closed forms, finite differences and the observers that they reduce to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from exact import exact_policies

from malfl_algos.contract import Observer
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.ma_lfl.policy_estimation import smoothed_policy
from malfl_algos.observers.lfl import Lfl, mean_policy
from malfl_algos.observers.log_policy import LogPolicy
from malfl_algos.observers.maxent_irl import MaxEntIrl
from malfl_algos.observers.paper import MaLflOwnAction, MaLflState
from malfl_algos.soft import averaged_transition
from malfl_algos.soft import soft_optimal as soft_optimal_module
from malfl_algos.soft.soft_optimal import identified_rank, log_posterior, soft_optimal
from malfl_algos.trace import LearningTrace, Stage
from malfl_env import grid_world_v0
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame, deterministic_game

OBSERVERS = [Lfl(), Lfl(reward_model="state"), MaxEntIrl(), LogPolicy()]
LAST_STAGE = [MaxEntIrl(), LogPolicy()]
SETTINGS = {"discount": 0.9, "temperature": 3.0}


def trained(options, *, n_stages=3, episodes=20, **learner):
    agents = MaSpi(**SETTINGS, episodes=episodes, episode_length=100, **learner)
    env = grid_world_v0.parallel_env(**options)
    stages = agents.learn(env, n_stages=n_stages, rng=np.random.default_rng(0))
    return LearningTrace(tuple(stage.observed for stage in stages))


def played(joint_policies, visits):
    """A stage in which every state had `visits` visits and actions came as often as expected."""
    joint = np.ones((len(joint_policies[0]), 1))
    for policy in joint_policies:
        joint = (joint[:, :, None] * policy[:, None, :]).reshape(len(policy), -1)
    shape = (len(joint), *(policy.shape[1] for policy in joint_policies))
    return Stage(np.round(visits * joint).astype(np.int64).reshape(shape))


def softly_optimal_agent(game, seed):
    """Random rewards of agent 0, its softly optimal policy, and a random policy of agent 1."""
    rng = np.random.default_rng(seed)
    reward = rng.standard_normal(game.n_states) * 3
    other = rng.dirichlet(np.ones(5), size=game.n_states)
    transition = averaged_transition(game, [other, other], 0)
    log_policy, _ = soft_optimal(transition, reward / 3, discount=0.9)
    return reward, np.exp(log_policy), other


def single_agent_game(game):
    """Agent 0 of a two-agent grid world alone on its board."""
    return MarkovGame((5,), game.factors[:1], start=0)


def test_they_are_observers():
    for observer in OBSERVERS:
        assert isinstance(observer, Observer)
        assert observer.api_version == (2, 0)


# Softly optimal policies and their likelihood


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.95])
def test_newton_agrees_with_soft_value_iteration(paper_game, discount):
    game = paper_game(slip=0.2)
    rng = np.random.default_rng(1)
    policies = [rng.dirichlet(np.ones(5), size=81) for _ in range(2)]
    dense = averaged_transition(game, policies, 0).toarray().reshape(81, 5, 81)
    reward = rng.standard_normal(81) * 2
    value = np.zeros(81)
    for _ in range(1000):
        value = reward + np.log(np.exp(discount * dense @ value).sum(axis=1))
    log_policy, ours = soft_optimal(
        averaged_transition(game, policies, 0), reward, discount=discount
    )
    np.testing.assert_allclose(ours, value, atol=1e-8)
    expected = reward[:, None] + discount * dense @ value - value[:, None]
    np.testing.assert_allclose(log_policy, expected, atol=1e-8)
    np.testing.assert_allclose(np.exp(log_policy).sum(axis=1), 1)


def test_rewards_of_any_size_do_not_overflow(paper_game):
    game = paper_game()
    transition = averaged_transition(game, [np.full((81, 5), 0.2)] * 2, 0)
    reward = np.random.default_rng(0).standard_normal(81) * 1e5
    log_policy, value = soft_optimal(transition, reward, discount=0.9)
    assert np.all(np.isfinite(log_policy))
    assert np.all(np.isfinite(value))


@pytest.mark.parametrize("slip", [0.0, 0.3])
def test_gradient_against_finite_differences(paper_game, slip):
    game = paper_game(size=2, slip=slip)
    rng = np.random.default_rng(2)
    policies = [rng.dirichlet(np.ones(5), size=16) for _ in range(2)]
    transition = averaged_transition(game, policies, 1)
    weights = rng.integers(0, 20, size=(16, 5)) * 1.0
    weights[3] = 0
    reward = rng.standard_normal(16)

    def level(at):
        return log_posterior(transition, weights, at, discount=0.9, prior_variance=0.7)

    _, slope, _ = level(reward)
    steps = np.eye(16) * 1e-5
    expected = [(level(reward + step)[0] - level(reward - step)[0]) / 2e-5 for step in steps]
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-9)
    assert np.abs(slope).max() > 1e-2


@pytest.mark.parametrize("seen", [slice(None), slice(0, 16, 2), slice(0, 3)])
def test_rank_is_that_of_what_actions_say_about_rewards(paper_game, seen):
    """Against the singular values of the derivative of log pi by finite differences."""
    game = paper_game(size=2, slip=0.1)
    rng = np.random.default_rng(3)
    policies = [rng.dirichlet(np.ones(5), size=16) for _ in range(2)]
    transition = averaged_transition(game, policies, 0)
    informed = np.zeros(16, dtype=bool)
    informed[seen] = True
    reward = rng.standard_normal(16)
    columns = [
        [
            soft_optimal(transition, reward + sign * step, discount=0.9)[0][informed].ravel()
            for sign in (1, -1)
        ]
        for step in np.eye(16) * 1e-4
    ]
    derivative = np.array([(up - down) / 2e-4 for up, down in columns]).T
    rank = np.linalg.matrix_rank(derivative, tol=1e-5)
    assert identified_rank(transition, informed) == rank
    assert 0 < rank < 16


# maxent-irl


@pytest.mark.parametrize(("known", "slip"), [(True, 0.2), (False, 0.0)])
def test_maxent_reproduces_a_softly_optimal_policy(paper_game, known, slip):
    game = paper_game(slip=slip)
    _, own, other = softly_optimal_agent(game, 4)
    trace = LearningTrace((played([own, other], 1e8),))
    result = MaxEntIrl(prior_variance=1e4).recover(
        trace,
        game=game.without_rewards(),
        known_policies={"agent_0": own[None], "agent_1": other[None]} if known else None,
        **SETTINGS,
    )
    transition = averaged_transition(game, [own, other], 0)
    log_policy, _ = soft_optimal(transition, result.rewards["agent_0"] / 3, discount=0.9)
    np.testing.assert_allclose(np.exp(log_policy), own, atol=1e-4)
    diagnostics = result.diagnostics["agent_0"]
    assert diagnostics["divergence_from_observed"] < 1e-7
    assert diagnostics["gradient"] <= 1e-6
    # agent 1 plays at random, which no reward of the state makes softly optimal
    assert result.diagnostics["agent_1"]["divergence_from_observed"] > 1e-2


def test_maxent_recovers_the_reward_of_a_single_agent_up_to_a_constant(paper_game):
    game = single_agent_game(paper_game(slip=0.1))
    truth = np.random.default_rng(7).standard_normal(9)
    transition = averaged_transition(game, [np.full((9, 5), 0.2)], 0)
    own = np.exp(soft_optimal(transition, truth / 3, discount=0.9)[0])
    result = MaxEntIrl(prior_variance=1e4).recover(
        LearningTrace((played([own], 1e8),)), game=game, **SETTINGS
    )
    np.testing.assert_allclose(result.rewards["agent_0"], truth - truth.mean(), atol=1e-3)
    diagnostics = result.diagnostics["agent_0"]
    assert (diagnostics["rank"], diagnostics["n_unidentified"]) == (8, 1)
    assert diagnostics["identification"].startswith("identified up to one additive constant")


def test_maxent_rewards_have_mean_zero_and_scale_with_the_temperature(paper_game):
    trace = trained({})
    game = paper_game().without_rewards()
    one, three = (
        MaxEntIrl().recover(trace, game=game, discount=0.9, temperature=temperature)
        for temperature in (1.0, 3.0)
    )
    assert abs(one.rewards["agent_0"].mean()) < 1e-12
    np.testing.assert_allclose(3 * one.rewards["agent_0"], three.rewards["agent_0"])
    assert np.ptp(one.rewards["agent_0"]) > 0.1


def test_maxent_reads_the_last_stage_alone(paper_game):
    trace = trained({})
    game = paper_game().without_rewards()
    alone = LearningTrace(trace.stages[-1:])
    for observer in LAST_STAGE:
        whole, last = (observer.recover(t, game=game, **SETTINGS) for t in (trace, alone))
        np.testing.assert_array_equal(whole.rewards["agent_1"], last.rewards["agent_1"])


def test_a_smaller_prior_variance_gives_a_smaller_reward(paper_game):
    trace = trained({}, episodes=2)
    sizes = [
        np.linalg.norm(
            MaxEntIrl(prior_variance=variance)
            .recover(trace, game=paper_game().without_rewards(), **SETTINGS)
            .rewards["agent_0"]
        )
        for variance in (1e-6, 0.1, 10.0)
    ]
    assert sizes[0] < 1e-2 < sizes[1] < sizes[2]


def test_without_a_future_actions_say_nothing(paper_game):
    game = paper_game().without_rewards()
    result = MaxEntIrl().recover(trained({}), game=game, discount=0.0, temperature=3.0)
    assert not result.rewards["agent_0"].any()
    assert result.diagnostics["agent_0"]["n_unidentified"] == 81


def test_what_does_not_converge_is_an_error_with_its_residual(monkeypatch, paper_game):
    trace, game = trained({}), paper_game().without_rewards()
    monkeypatch.setattr(soft_optimal_module, "ITERATIONS", 2)
    with pytest.raises(ArithmeticError, match=r"gradient per visit is \d\.\de-\d\d after 2"):
        MaxEntIrl().recover(trace, game=game, **SETTINGS)
    monkeypatch.setattr(soft_optimal_module, "NEWTON_STEPS", 1)
    with pytest.raises(ArithmeticError, match=r"residual of \d\.\de[+-]\d\d after 1 Newton"):
        MaxEntIrl().recover(trace, game=game, **SETTINGS)


# lfl


@pytest.mark.parametrize("model", ["own_action", "state"])
def test_lfl_is_ma_lfl_where_the_others_never_change(paper_game, model):
    game = paper_game("heterogeneous", slip=0.1)
    stages = exact_policies(game, 5, **SETTINGS)
    other = np.random.default_rng(5).dirichlet(np.ones(5), size=81)
    known = {
        "agent_0": np.stack([stage[0] for stage in stages]),
        "agent_1": np.stack([other] * 5),
    }
    trace = LearningTrace(
        tuple(played([own, other], 1e4 * (h + 1)) for h, (own, _) in enumerate(stages))
    )
    multi = MaLflOwnAction() if model == "own_action" else MaLflState()
    options = {"game": game.without_rewards(), "known_policies": known, **SETTINGS}
    ours = Lfl(reward_model=model).recover(trace, **options)
    theirs = multi.recover(trace, **options)
    np.testing.assert_allclose(ours.rewards["agent_0"], theirs.rewards["agent_0"], atol=1e-7)
    np.testing.assert_allclose(ours.targets["agent_0"], theirs.targets["agent_0"], atol=1e-10)
    # agent 0 does change, so agent 1's results differ
    assert np.abs(ours.rewards["agent_1"] - theirs.rewards["agent_1"]).max() > 1e-3


def test_lfl_of_a_single_agent_is_ma_lfl(paper_game):
    game = single_agent_game(paper_game(slip=0.1))
    learning = game.with_rewards([np.random.default_rng(8).standard_normal(9)])
    stages = exact_policies(learning, 4, **SETTINGS)
    trace = LearningTrace(tuple(played(stage, 1e4) for stage in stages))
    single, multi = (o.recover(trace, game=game, **SETTINGS) for o in (Lfl(), MaLflOwnAction()))
    np.testing.assert_array_equal(single.rewards["agent_0"], multi.rewards["agent_0"])
    assert np.ptp(single.rewards["agent_0"]) > 0.1


def test_mean_policy_weighs_stages_by_visits():
    policies = np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    mean = mean_policy(policies, np.array([[3, 0], [1, 0]]))
    np.testing.assert_allclose(mean, [[[0.75, 0.25], [0.5, 0.5]]] * 2)


def test_lfl_fits_no_worse_than_nothing_where_states_were_never_visited(paper_game):
    """Its best reward must leave smaller residuals than the reward 0 with potentials 0."""
    trace = trained({}, n_stages=6, episodes=3, keep_transitions=True)
    for observer in OBSERVERS[:2]:
        result = observer.recover(trace, game=None, **SETTINGS)
        for agent in trace.agents:
            diagnostics = result.diagnostics[agent]
            assert diagnostics["rows_left_out"] > 0
            assert diagnostics["residual"] < np.sqrt(np.mean(result.targets[agent] ** 2))


def published_regression(targets, transition, seen, discount, epochs, rate):
    """Jacq et al.'s regression by Adam, from its definition: reward and potentials from 0.

    The residual of stage h is r(s, a) + g_h(s) - gamma E[g_h(s')] - Y_h(s, a).
    """
    n_stages, n_states, n_actions = targets.shape
    dense = transition.toarray().reshape(n_states, n_actions, n_states)
    point = [np.zeros((n_states, n_actions)), np.zeros((n_stages, n_states))]
    means, squares = ([np.zeros_like(part) for part in point] for _ in range(2))
    for epoch in range(1, epochs + 1):
        reward, potential = point
        after = np.einsum("sat,ht->hsa", dense, potential)
        error = reward + potential[:, :, None] - discount * after - targets
        error = np.where(seen[:, :, None], error, 0.0)
        slopes = [
            2 * error.sum(axis=0),
            2 * (error.sum(axis=2) - discount * np.einsum("hsa,sat->ht", error, dense)),
        ]
        for part, slope, mean, square in zip(point, slopes, means, squares, strict=True):
            mean += (1 - 0.9) * (slope - mean)
            square += (1 - 0.999) * (slope**2 - square)
            unbiased = square / (1 - 0.999**epoch)
            part -= rate * (mean / (1 - 0.9**epoch)) / (np.sqrt(unbiased) + 1e-8)
    return point


@pytest.mark.parametrize("slip", [0.0, 0.2])
def test_lfl_by_adam_is_the_published_regression(paper_game, slip):
    options = {"size": 2, "slip": slip}
    trace = trained(options, n_stages=4, episodes=3)
    game = paper_game(**options).without_rewards()
    result = Lfl(fit="adam").recover(trace, game=game, **SETTINGS)
    visits = np.stack([stage.state_counts for stage in trace.stages])
    policies = [mean_policy(own, visits) for own in result.estimated_policies.values()]
    for index, agent in enumerate(trace.agents):
        transition = averaged_transition(game, [own[0] for own in policies], index)
        seen = (visits[:-1] > 0) & (visits[1:] > 0)
        reward, potentials = published_regression(
            result.targets[agent], transition, seen, 0.9, epochs=200, rate=1.0
        )
        ours = np.moveaxis(result.rewards[agent], index + 1, 1)[:, :, 0]
        np.testing.assert_allclose(ours, reward, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(result.potentials[agent], potentials, rtol=1e-6, atol=1e-6)
        assert "after 200 epochs" in result.diagnostics[agent]["representative"]
        diagnostics = result.diagnostics[agent]
        assert diagnostics["residual"] >= diagnostics["least_squares_residual"]


def test_many_steps_of_adam_fit_as_well_as_the_exact_solution(paper_game):
    trace, game = trained({"size": 2}), paper_game(size=2).without_rewards()
    exact = Lfl().recover(trace, game=game, **SETTINGS)
    long = Lfl(fit="adam", epochs=20_000, learning_rate=0.01).recover(trace, game=game, **SETTINGS)
    for agent in trace.agents:
        best = exact.diagnostics[agent]["residual"]
        assert best - 1e-12 <= long.diagnostics[agent]["residual"] < best + 1e-4


def test_estimated_dynamics_do_not_read_the_game(paper_game):
    """A trace of a game with slips, and the game without them."""
    trace = trained({"size": 2, "slip": 0.3}, keep_transitions=True)
    slipping, sure = (paper_game(size=2, slip=slip).without_rewards() for slip in (0.3, 0.0))
    observer = Lfl(dynamics="estimated")
    estimated = observer.recover(trace, game=slipping, **SETTINGS)
    without = Lfl().recover(trace, game=None, **SETTINGS)
    given = Lfl().recover(trace, game=slipping, **SETTINGS)
    for agent in trace.agents:
        np.testing.assert_array_equal(estimated.rewards[agent], without.rewards[agent])
        assert np.abs(estimated.rewards[agent] - given.rewards[agent]).max() > 1e-3
    bare = LearningTrace(tuple(Stage(stage.counts) for stage in trace.stages))
    with pytest.raises(InputError, match="next-state counts"):
        observer.recover(bare, game=sure, **SETTINGS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "sgd"}, "fit must be exact or adam, got 'sgd'"),
        ({"dynamics": "mine"}, "dynamics must be given or estimated, got 'mine'"),
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0"),
    ],
)
def test_options_of_lfl_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        Lfl(**options)


# log-policy


def test_log_policy_by_hand():
    counts = np.zeros((3, 2, 3), dtype=np.int64)
    counts[0] = [[4, 0, 0], [1, 1, 2]]
    counts[2] = [[0, 5, 0], [0, 0, 0]]
    result = LogPolicy(pseudo_count=1.0).recover(
        LearningTrace((Stage(counts),)), game=None, discount=None, temperature=2.0
    )
    first = 2 * np.log([[5 / 10, 5 / 10], [6 / 7, 1 / 7]])
    second = 2 * np.log([[6 / 11, 2 / 11, 3 / 11], [1 / 8, 6 / 8, 1 / 8]])
    for agent, expected, axis in [("agent_0", first, 2), ("agent_1", second, 1)]:
        reward = result.rewards[agent]
        assert reward.shape == (3, 2, 3)
        spread = np.broadcast_to(np.expand_dims(expected, axis), (2, 2, 3))
        np.testing.assert_allclose(reward[[0, 2]], spread)
        np.testing.assert_allclose(reward[1], expected.mean())
        assert result.diagnostics[agent]["states_without_data"] == [1]


def test_log_policy_of_known_policies_with_zeros_is_finite():
    known = {"agent_0": np.array([[[1.0, 0.0], [0.5, 0.5]]])}
    trace = LearningTrace((Stage(np.array([[[3], [0]], [[0], [0]]])),))
    result = LogPolicy().recover(
        trace, game=None, discount=None, temperature=1.0, known_policies=known
    )
    reward = result.rewards["agent_0"][:, :, 0]
    np.testing.assert_allclose(reward[[0, 1, 1], [0, 0, 1]], np.log([1, 0.5, 0.5]))
    assert -1000 < reward[0, 1] < -700
    assert result.diagnostics["agent_0"]["probabilities_of_0"] == 1
    assert result.diagnostics["agent_0"]["states_without_data"] == []
    assert result.diagnostics["agent_1"]["states_without_data"] == [1]


def test_smoothed_policy_tends_to_the_frequencies():
    counts = np.array([[8, 2, 0], [0, 0, 0]])
    np.testing.assert_allclose(
        smoothed_policy(counts, pseudo_count=0.5),
        [[8.5 / 11.5, 2.5 / 11.5, 0.5 / 11.5], [1 / 3] * 3],
    )
    many = smoothed_policy(counts * 10**9, pseudo_count=0.5)
    np.testing.assert_allclose(many[0], [0.8, 0.2, 0], atol=1e-9)


# All of them


@pytest.mark.parametrize("observer", OBSERVERS)
def test_three_agents_slip_and_states_never_visited(observer, paper_game):
    options = {"n_agents": 3, "size": 2, "slip": 0.1}
    trace = trained(options, episodes=2)
    result = observer.recover(trace, game=paper_game(**options).without_rewards(), **SETTINGS)
    by_state = isinstance(observer, MaxEntIrl) or getattr(observer, "reward_model", "") == "state"
    for agent in trace.agents:
        reward, diagnostics = result.rewards[agent], result.diagnostics[agent]
        assert reward.shape == ((64,) if by_state else (64, 5, 5, 5))
        assert np.all(np.isfinite(reward))
        assert diagnostics["rows_left_out"] > 0
        assert diagnostics["identification"].startswith("not identified")
        assert diagnostics["learner_model"]


@pytest.mark.parametrize("observer", OBSERVERS)
def test_dynamics_estimated_from_transitions_are_the_games_own(observer, paper_game):
    trace = trained({"size": 2}, episodes=500, keep_transitions=True)
    given, estimated = (
        observer.recover(trace, game=game, **SETTINGS)
        for game in (paper_game(size=2).without_rewards(), None)
    )
    np.testing.assert_allclose(
        given.rewards["agent_0"], estimated.rewards["agent_0"], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("observer", LAST_STAGE)
def test_states_without_data_are_named(observer, paper_game):
    trace = trained({}, episodes=1)
    missing = np.flatnonzero(trace.stages[-1].state_counts == 0).tolist()
    assert missing
    result = observer.recover(trace, game=paper_game().without_rewards(), **SETTINGS)
    assert result.diagnostics["agent_1"]["states_without_data"] == missing


def test_states_whose_dynamics_were_not_seen_are_left_out():
    trace = trained({}, episodes=3, keep_transitions=True)
    counts = sum(stage.joint_counts for stage in trace.stages)
    incomplete = (counts == 0).any(axis=(1, 2)) | (trace.stages[-1].state_counts == 0)
    result = MaxEntIrl().recover(trace, game=None, **SETTINGS)
    left_out = result.diagnostics["agent_0"]["states_without_data"]
    assert left_out == np.flatnonzero(incomplete).tolist()
    known = {agent: np.full((3, 81, 5), 0.2) for agent in trace.agents}
    known["agent_0"] = np.random.default_rng(9).dirichlet(np.ones(5), size=(3, 81))
    last = trace.stages[-1]
    partly = replace(last.transitions, complete=False)
    more = last.joint_counts * np.where(incomplete, 7, 1)[:, None, None]
    other = LearningTrace((*trace.stages[:-1], Stage(more, None, partly)))
    first, second = (
        MaxEntIrl().recover(t, game=None, known_policies=known, **SETTINGS) for t in (trace, other)
    )
    np.testing.assert_array_equal(first.rewards["agent_0"], second.rewards["agent_0"])


@pytest.mark.parametrize("observer", OBSERVERS)
def test_the_seat_of_an_agent(observer, paper_game):
    """A known policy replaces counts of its owner, and is not written to."""
    trace = trained({})
    game = paper_game().without_rewards()
    own = np.random.default_rng(6).dirichlet(np.ones(5), size=(3, 81))
    own.flags.writeable = False
    outside = observer.recover(trace, game=game, **SETTINGS)
    inside = observer.recover(trace, game=game, known_policies={"agent_1": own}, **SETTINGS)
    assert np.abs(outside.rewards["agent_1"] - inside.rewards["agent_1"]).max() > 1e-3
    if not isinstance(observer, LogPolicy):  # the others' policies enter the dynamics
        assert np.abs(outside.rewards["agent_0"] - inside.rewards["agent_0"]).max() > 1e-3


def test_collapsed_policies_leave_rewards_finite(paper_game):
    game = paper_game().without_rewards()
    counts = np.zeros((81, 5, 5), dtype=np.int64)
    counts[:, 3, 0] = 10**4
    trace = LearningTrace((Stage(counts),) * 3)
    for observer in OBSERVERS:
        result = observer.recover(trace, game=game, **SETTINGS)
        assert np.all(np.isfinite(result.rewards["agent_0"]))


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, "temperature must be > 0"),
        ({"temperature": float("nan")}, "temperature must be > 0"),
        ({"discount": 1.0}, r"discount must be in \[0, 1\).*got 1.0"),
        ({"game": "small"}, "81 joint states.*has 16"),
        ({"known_policies": {"agent_9": np.ones((3, 81, 5)) / 5}}, "agent_9"),
        ({"known_policies": {"agent_0": np.ones((1, 81, 5)) / 5}}, r"shape \(1, 81, 5\)"),
        ({"known_policies": {"agent_0": np.ones((3, 81, 5))}}, "not distributions"),
    ],
)
def test_bad_input_is_named(observer, given, message, paper_game):
    options = {"game": paper_game().without_rewards(), **SETTINGS, **given}
    if given.get("game") == "small":
        options["game"] = paper_game(size=2).without_rewards()
    with pytest.raises(ValueError, match=message):
        observer.recover(trained({}, episodes=1), **options)


def test_what_a_method_cannot_do_without_is_named(paper_game):
    trace, game = trained({}), paper_game().without_rewards()
    for observer in OBSERVERS[:3]:
        with pytest.raises(ValueError, match="discount must be given"):
            observer.recover(trace, game=game, discount=None, temperature=3.0)
        with pytest.raises(ValueError, match="game is None, and stage"):
            observer.recover(trace, game=None, **SETTINGS)
    with pytest.raises(ValueError, match="at least 2 stages"):
        Lfl().recover(trace.first(1), game=game, **SETTINGS)
    empty = Stage(np.zeros((81, 5, 5), dtype=np.int64))
    for observer in LAST_STAGE:
        with pytest.raises(ValueError, match="stage 3, the last one, holds no data"):
            observer.recover(LearningTrace((*trace.stages, empty)), game=game, **SETTINGS)
    short = trained({}, episodes=1, n_stages=1, keep_transitions=True)
    with pytest.raises(ValueError, match="no state of the last stage"):
        MaxEntIrl().recover(short, game=None, **SETTINGS)


@pytest.mark.parametrize(
    ("observer", "options", "message"),
    [
        (Lfl, {"reward_model": "joint"}, "reward_model must be own_action or state"),
        (Lfl, {"entropy_coefficient": -1.0}, "entropy_coefficient must be"),
        (MaxEntIrl, {"prior_variance": 0.0}, "prior_variance must be > 0"),
        (MaxEntIrl, {"prior_variance": float("inf")}, "prior_variance must be > 0"),
        (MaxEntIrl, {"pseudo_count": 0.0}, "pseudo_count must be > 0"),
        (LogPolicy, {"pseudo_count": float("nan")}, "pseudo_count must be > 0"),
    ],
)
def test_bad_options_are_named(observer, options, message):
    with pytest.raises(ValueError, match=message):
        observer(**options)


def test_too_large_a_game_is_rejected_before_allocating(monkeypatch):
    monkeypatch.setattr("malfl_env.checks.MAX_TABLE_BYTES", 1000)
    game = deterministic_game(np.zeros((20, 2, 2), dtype=np.int64), start=0)
    transition = averaged_transition(game, [np.full((20, 2), 0.5)] * 2, 0)
    with pytest.raises(ValueError, match="the rank over 20 joint states"):
        identified_rank(transition, np.ones(20, dtype=bool))
