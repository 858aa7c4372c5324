"""The model of policy-gradient learners: its gradient, its evidence, and what it recovers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import multivariate_normal

from malfl_algos import judge
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.ma_lfl.gradient_inference import fit_gradient, log_posterior
from malfl_algos.ma_lfl.gradient_settings import first_settings
from malfl_algos.ma_lfl.learner_models import ExactEvaluation
from malfl_algos.ma_lfl.policy_gradient import (
    GradientRows,
    contrasts,
    coordinate_orders,
    gradient_rows,
)
from malfl_algos.ma_lfl.reward_priors import FLAT, prior_of_states, prior_of_weights
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.soft import averaged_transition, policy_transition
from malfl_algos.trace import LearningTrace, Stage
from malfl_env import grid_world_v0, markov_game
from malfl_env.errors import InputError
from malfl_env.markov_game import deterministic_game

DISCOUNT = 0.8
SETTINGS = {"discount": DISCOUNT, "temperature": 1.0}


def one_agent(n_states=4, n_actions=3, seed=0):
    rng = np.random.default_rng(seed)
    table = rng.integers(n_states, size=(n_states, n_actions))
    return deterministic_game(table, start=0, rewards=[rng.standard_normal(n_states)])


def occupancy(game, policy):
    """Discounted visits of a single agent from the start; they sum to 1."""
    onward = policy_transition(averaged_transition(game, [policy], 0), policy).toarray()
    start = np.eye(game.n_states)[game.start]
    return (1 - DISCOUNT) * np.linalg.solve((np.eye(game.n_states) - DISCOUNT * onward).T, start)


def test_contrasts_and_orders_are_orthonormal_and_count_coordinates():
    frame = contrasts(5)
    np.testing.assert_allclose(frame @ frame.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(frame.sum(axis=1), 0, atol=1e-12)
    orders = coordinate_orders((3, 2, 3))
    np.testing.assert_allclose(orders.basis.T @ orders.basis, np.eye(18), atol=1e-12)
    assert np.bincount(orders.order).tolist() == [1, 5, 8, 4]
    first = orders.basis[:, orders.order <= 1].reshape(3, 2, 3, -1)
    mixed = first[1:, 1:, 1:] - first[:-1, 1:, 1:] - first[1:, :-1, 1:] + first[:-1, :-1, 1:]
    np.testing.assert_allclose(mixed, 0, atol=1e-12)  # no interaction of two coordinates


def test_gradient_is_that_of_the_return():
    game = one_agent()
    logits = np.random.default_rng(1).standard_normal((game.n_states, 3))

    def value(theta):
        policy = softmax(theta, axis=1)
        return occupancy(game, policy) @ game.reward(0) / (1 - DISCOUNT)

    expected = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        expected[index] = (value(logits + step) - value(logits - step)) / 2e-5
    policy = softmax(logits, axis=1)
    counts = np.round(1e12 * occupancy(game, policy)[:, None] * policy).astype(np.int64)
    stage, orders = StageArrays(counts), coordinate_orders((game.n_states,))
    rows = gradient_rows(
        ExactEvaluation(game, "state", DISCOUNT, 1.0),
        (stage, stage),
        ([policy], [policy]),
        0,
        orders,
        change=np.zeros_like(policy),
        variances=(np.ones_like(policy), np.ones_like(policy)),
        linked=False,
        features=None,
    )
    found = orders.basis @ (rows.gradient @ game.reward(0)).reshape(game.n_states, -1)
    np.testing.assert_allclose(
        found @ contrasts(3) / (1 - DISCOUNT), expected, rtol=1e-6, atol=1e-8
    )


def random_rows(n_states, n_unknowns, n_stages, *, linked, seed=0):
    rng = np.random.default_rng(seed)
    width = 2 * n_states

    def covariance():
        root = rng.standard_normal((width, width))
        return root @ root.T / width

    errors = [covariance() + np.eye(width) for _ in range(n_stages + 1)]
    return [
        GradientRows(
            rng.standard_normal((width, n_unknowns)),
            rng.standard_normal(width),
            errors[h] + errors[h + 1],
            covariance(),
            errors[h] if linked and h else None,
        )
        for h in range(n_stages)
    ]


@pytest.fixture(scope="module", params=[False, True])
def random_case(request):
    orders = coordinate_orders((2, 3)).order
    coordinates = np.stack(np.unravel_index(np.arange(6), (2, 3)), axis=-1)
    prior = prior_of_states(coordinates)
    rows = random_rows(6, 6, 3, linked=request.param)
    first = first_settings(3, orders, prior)
    numbers = first.joined() + np.random.default_rng(2).standard_normal(first.joined().size)
    return rows, orders, prior, first.split(numbers)


def test_slope_is_the_derivative_of_the_evidence(random_case):
    rows, orders, prior, settings = random_case
    numbers = settings.joined()
    _, slope = log_posterior(rows, orders, prior, settings)
    for place in range(len(numbers)):
        step = np.zeros_like(numbers)
        step[place] = 1e-5
        high, low = (
            log_posterior(rows, orders, prior, settings.split(numbers + sign * step))[0]
            for sign in (1, -1)
        )
        assert (high - low) / 2e-5 == pytest.approx(slope[place], rel=1e-5, abs=1e-5)


def test_evidence_is_the_density_of_all_rows_at_once(random_case):
    rows, orders, prior, _ = random_case
    first = first_settings(len(rows), orders, prior)
    number = np.repeat(orders, 2)
    covariance, _ = prior.covariance(first.prior)
    blocks, parts = [], []
    for h, row in enumerate(rows):
        weights = np.exp(first.weights[h])[number]
        blocks.append(weights[:, None] * row.gradient)
        sampled = np.exp(first.noise[h]) * np.outer(weights, weights) * row.sampling
        parts.append(row.estimation + sampled + np.diag(np.exp(first.rest[h])[number]))
    table, noise = np.concatenate(blocks), np.zeros((36, 36))
    for h, part in enumerate(parts):
        own = slice(12 * h, 12 * h + 12)
        noise[own, own] = part
        if rows[h].shared is not None:
            before = slice(12 * h - 12, 12 * h)
            noise[own, before] = noise[before, own] = -rows[h].shared
    change = np.concatenate([row.change for row in rows])
    whole = multivariate_normal(np.zeros(36), table @ covariance @ table.T + noise)
    # at the first settings the prior of the settings is at its maximum, so it adds nothing
    value, _ = log_posterior(rows, orders, prior, first)
    assert value == pytest.approx(whole.logpdf(change), rel=1e-9)


def test_settings_that_overflow_are_the_worst(random_case):
    """A search tries them in its first steps; it must turn back, not end."""
    rows, orders, prior, settings = random_case
    for weight in (200.0, 360.0, 800.0):
        far = replace(settings, weights=np.full_like(settings.weights, weight))
        value, slope = log_posterior(rows, orders, prior, far)
        assert value < log_posterior(rows, orders, prior, settings)[0]
        assert np.isfinite(slope).all()


def test_search_rises_and_returns_the_mean_of_its_own_settings(random_case):
    rows, orders, prior, _ = random_case
    start, _ = log_posterior(rows, orders, prior, first_settings(3, orders, prior))
    found = fit_gradient(rows, orders, prior, start=None, iterations=30)
    assert found.log_evidence > start
    assert found.log_evidence == pytest.approx(
        log_posterior(rows, orders, prior, found.settings)[0], rel=1e-12
    )
    again = fit_gradient(rows, orders, prior, start=found.settings, iterations=30)
    assert again.log_evidence >= found.log_evidence


def test_priors_are_smooth_over_coordinates_and_free_in_the_mean():
    coordinates = np.stack(np.unravel_index(np.arange(9), (3, 3)), axis=-1)
    prior = prior_of_states(coordinates)
    covariance, _ = prior.covariance(np.log([0.5, 2.0, 1.0]))
    assert covariance[0, 0] == pytest.approx(2.5 + FLAT / 9)
    assert covariance[0, 1] == pytest.approx(2 * np.exp(-0.5) + FLAT / 9)
    assert covariance[0, 8] == pytest.approx(2 * np.exp(-4.0) + FLAT / 9)
    actions, slopes = prior_of_states(coordinates, per_state=2).covariance(np.log([0.5, 2.0, 1.0]))
    assert actions[0, 1] == pytest.approx(FLAT / 18)
    assert all(np.isfinite(slope).all() for slope in slopes)
    hidden = np.full((9, 9), 0.0)
    hidden[:3, :3] = 1 / 3  # one reward: the same in the first three states
    apart, slopes = replace(prior, hidden=hidden).covariance(np.log([0.5, 2.0, 1.0]))
    seen = np.eye(9) - hidden
    np.testing.assert_allclose(hidden @ (apart - prior.flat) @ seen, 0, atol=1e-12)
    step = np.array([0, 0, 1e-6])
    high, low = (
        replace(prior, hidden=hidden).covariance(np.log([0.5, 2.0, 1.0]) + sign * step)[0]
        for sign in (1, -1)
    )
    np.testing.assert_allclose((high - low) / 2e-6, slopes[2], atol=1e-6)
    labels = prior_of_states(np.arange(9)[:, None])
    assert len(labels.means) == 1
    intercept = np.column_stack([np.arange(9.0), np.ones(9)])
    weights, _ = prior_of_weights(intercept).covariance(np.log([3.0]))
    np.testing.assert_allclose(weights, np.diag([3.0, FLAT]), atol=1e-9)


def gradient_trace(game, *, steps, n_visits, seed=0):
    """Stages of tabular learners that follow the exact gradient of their average reward."""
    rng = np.random.default_rng(seed)
    logits = [np.zeros((game.n_states, n)) for n in game.n_actions]
    stages = []
    for size in steps:
        policies = [np.exp(log_softmax(own, axis=1)) for own in logits]
        share = np.full(game.n_states, 1 / game.n_states)
        joint = share.reshape(-1, *[1] * game.n_agents)
        for index, own in enumerate(policies):
            shape = [game.n_states] + [1] * game.n_agents
            shape[index + 1] = own.shape[1]
            joint = joint * own.reshape(shape)
        stages.append(Stage(rng.multinomial(n_visits, joint.ravel()).reshape(joint.shape)))
        for index, own in enumerate(policies):
            transition = averaged_transition(game, policies, index)
            onward = policy_transition(transition, own).toarray()
            value = np.linalg.solve(np.eye(game.n_states) - DISCOUNT * onward, game.reward(index))
            q = game.reward(index)[:, None] + DISCOUNT * (transition @ value).reshape(own.shape)
            advantage = q - (own * q).sum(axis=1, keepdims=True)
            logits[index] = logits[index] + size * share[:, None] * own * advantage
    return LearningTrace(tuple(stages))


@pytest.fixture(scope="module")
def tabular():
    game = markov_game(grid_world_v0.parallel_env(size=2, rewards="heterogeneous"))
    trace = gradient_trace(game, steps=(8.0, 4.0, 8.0, 12.0, 6.0, 8.0), n_visits=10**7)
    return trace, game


def influenced(reward, index):
    """The reward without functions of the other agent's cell, which no action of its own changes.

    A gradient learner does not show these functions: they have no advantage.
    """
    table = reward.reshape(4, 4)
    return (table - table.mean(axis=index, keepdims=True)).ravel()


def test_tabular_learners_are_told_by_the_evidence_and_their_rewards_recovered(tabular):
    trace, game = tabular
    result = MaLflBellman().recover(trace, game=game.without_rewards(), **SETTINGS)
    for index, agent in enumerate(trace.agents):
        said = result.diagnostics[agent]
        json.dumps(dict(said), allow_nan=False)
        assert said["rule"] == "policy-gradient"
        assert said["improvement"] == 1.0
        assert said["scale"] == "open"
        assert max(said["searches"]["rule"], key=said["searches"]["rule"].get) == said["rule"]
        truth = game.reward(index) - game.reward(index).mean()
        reward, sd = result.rewards[agent], result.sd[agent]
        assert np.corrcoef(influenced(reward, index), influenced(truth, index))[0, 1] > 0.95
        scale = (truth @ reward) / (truth @ truth)
        assert np.mean(np.abs(reward - scale * truth) < 2 * sd) >= 0.8


def test_steps_of_the_stages_are_found_up_to_one_factor(tabular):
    trace, game = tabular
    observer = MaLflBellman(learner="policy-gradient")
    result = observer.recover(trace, game=game.without_rewards(), **SETTINGS)
    weights = np.array(result.diagnostics["agent_0"]["order_weights"])
    ratio = weights[:, 1] / np.array([8.0, 4.0, 8.0, 12.0, 6.0])
    assert ratio.max() / ratio.min() < 1.6


def test_the_verdict_asks_the_rule_that_was_chosen(tabular):
    trace, game = tabular
    given = {"game": game.without_rewards(), **SETTINGS}
    observer = MaLflBellman(learner="policy-gradient")
    result = observer.recover(trace, **given)
    verdict = judge(result, trace, observer=observer, **given)
    for agent in trace.agents:
        numbers = verdict.agents[agent].numbers
        assert numbers["rule"] == "policy-gradient"
        assert numbers["explained"] > 0.9
        assert numbers["gain_over_no_change"] > 0
    wrong = replace(result, rewards={agent: -own for agent, own in result.rewards.items()})
    said = judge(wrong, trace, **given)
    assert said.word != "believe"


def test_soft_policy_iteration_is_not_taken_for_a_policy_gradient():
    env = grid_world_v0.parallel_env(size=2, rewards="homogeneous")
    learner = MaSpi(
        evaluation="exact", discount=DISCOUNT, temperature=1.0, episodes=300, episode_length=100
    )
    stages = learner.learn(env, n_stages=4, rng=np.random.default_rng(0))
    trace = LearningTrace(tuple(stage.observed for stage in stages))
    game = markov_game(env).without_rewards()
    result = MaLflBellman().recover(trace, game=game, **SETTINGS)
    for said in result.diagnostics.values():
        assert said["rule"] in ("td", "exact")
        table = said["searches"]["rule"]
        assert table["policy-gradient"] < max(table.values())


def test_known_policies_and_features_are_used():
    game = one_agent(n_states=6, seed=3)
    features = np.random.default_rng(5).standard_normal((6, 2))
    game = game.with_rewards([features @ [1.0, -2.0]])
    trace = gradient_trace(game, steps=(20.0,) * 5, n_visits=10**6)
    observer = MaLflBellman(learner="policy-gradient", reward_model="features", features=features)
    result = observer.recover(trace, game=game.without_rewards(), **SETTINGS)
    assert np.corrcoef(result.rewards["agent_0"], game.reward(0))[0, 1] > 0.99
    known = {"agent_0": result.estimated_policies["agent_0"]}
    again = observer.recover(trace, game=game.without_rewards(), known_policies=known, **SETTINGS)
    assert np.corrcoef(again.rewards["agent_0"], game.reward(0))[0, 1] > 0.99


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reward_model": "joint"}, "reward_model state, own_action or features"),
        ({"noise_variance": 1.0, "prior_variance": 1.0}, "noise_variance null"),
        ({"improvement": 0.5}, "improvement auto or 1"),
        ({"solver": "iterative"}, "solver iterative"),
    ],
)
def test_options_that_the_rule_cannot_follow_are_named(options, words):
    with pytest.raises(InputError, match=words):
        MaLflBellman(learner="policy-gradient", **options)
