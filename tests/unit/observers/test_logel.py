"""LOGEL recovers the reward of learners that it is made for, and says what it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from logel_grid import WEIGHTS, Gpomdp, colour_features, logel_grid
from scipy.special import log_softmax

from malfl_algos import LearningTrace, Stage
from malfl_algos.ma_lfl.gpomdp import exact_gradient
from malfl_algos.observers import policy_gradients
from malfl_algos.observers.logel import Logel
from malfl_algos.soft import averaged_reward, averaged_transition
from malfl_algos.testing import check_observer
from malfl_env import TabularEnv, grid_world_v0, markov_game
from malfl_env.errors import InputError

DISCOUNT = 0.9
SETTINGS = {"discount": DISCOUNT, "temperature": None}


def gradient_agents(game, steps, last_fixed=False, visits=10**7):
    """Agents that all follow their exact gradients; what each of them plays is seen as it is."""
    logits = [np.zeros((game.n_states, n)) for n in game.n_actions]
    stages, known = [], {agent: [] for agent in game.agents}
    for step in (*steps, 0.0):
        policies = [np.exp(log_softmax(own, axis=1)) for own in logits]
        joint = np.ones((game.n_states, 1))
        for agent, own in zip(game.agents, policies, strict=True):
            joint = (joint[:, :, None] * own[:, None, :]).reshape(game.n_states, -1)
            known[agent].append(own)
        counts = np.rint(visits * joint).astype(int).reshape(game.n_states, *game.n_actions)
        stages.append(Stage(counts))
        for index in range(game.n_agents):
            gradient = exact_gradient(
                policies[index],
                averaged_transition(game, policies, index),
                averaged_reward(game, policies, index)[..., None],
                start=game.start,
                discount=DISCOUNT,
            )[..., 0]
            if last_fixed:
                gradient[:, -1] = 0
            logits[index] = logits[index] + step * gradient
    return LearningTrace(tuple(stages)), {a: np.stack(own) for a, own in known.items()}


def sampled(n_stages=16, seed=0, discount=DISCOUNT, **options):
    learner = Gpomdp(discount=discount, **options)
    env, rng = TabularEnv(logel_grid()), np.random.default_rng(seed)
    stages = list(learner.learn(env, n_stages=n_stages, rng=rng))
    policies = np.stack([stage.truth.policies["agent_0"] for stage in stages])
    return LearningTrace(tuple(stage.observed for stage in stages)), policies


def correlation(reward, truth):
    return np.corrcoef(np.ravel(reward), np.ravel(truth))[0, 1]


@pytest.mark.parametrize("last_fixed", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_weights_and_step_sizes_of_exact_steps(last_fixed, known):
    game, steps = logel_grid(), np.array([0.1, 0.3, 0.2, 0.4, 0.1])
    trace, policies = gradient_agents(game, steps, last_fixed)
    result = Logel(
        features=colour_features(),
        gradient="exact",
        parameters="last-fixed" if last_fixed else "all",
        pseudo_count=1e-3,
    ).recover(trace, game=game, known_policies=policies if known else None, **SETTINGS)
    reward, diagnostics = result.rewards["agent_0"], result.diagnostics["agent_0"]
    assert correlation(reward, game.reward(0)) > (1 - 1e-9 if known else 0.9999)
    tolerance = 1e-5 if known else 0.02
    expected = steps / steps.mean()
    np.testing.assert_allclose(diagnostics["step_sizes"], expected, rtol=tolerance)
    spread = np.array(WEIGHTS).max() - np.array(WEIGHTS).min()
    assert np.ptp(reward) == pytest.approx(steps.mean() * spread, rel=tolerance)
    assert abs(reward.mean()) < 1e-12
    assert diagnostics["n_unidentified"] == 0
    assert diagnostics["rank"] == 4  # five colours, less the constant


@pytest.mark.parametrize("by_action", [False, True])
def test_agents_that_learn_together(by_action):
    """Each agent's reward, with the others as they play in each stage."""
    game = markov_game(grid_world_v0.parallel_env(size=2))
    rng = np.random.default_rng(1)
    features = rng.standard_normal((16, 5, 5, 3) if by_action else (16, 3))
    weights = rng.standard_normal((2, 3))
    game = game.with_rewards([features @ own for own in weights])
    trace, policies = gradient_agents(game, np.ones(4))
    observer = Logel(features=features, step_sizes="constant")
    result = observer.recover(trace, game=game, known_policies=policies, **SETTINGS)
    for index, agent in enumerate(game.agents):
        assert result.diagnostics[agent]["gradient"] == "exact"
        np.testing.assert_allclose(result.diagnostics[agent]["weights"], weights[index], rtol=1e-8)
        assert result.rewards[agent].shape == features.shape[:-1]


def test_a_feature_per_state_by_default(paper_game):
    game = paper_game("heterogeneous", size=2)
    trace, policies = gradient_agents(game, np.ones(5))
    result = Logel().recover(trace, game=game, known_policies=policies, **SETTINGS)
    for index, agent in enumerate(game.agents):
        assert result.diagnostics[agent]["residual"] < 1e-6
        if result.diagnostics[agent]["n_unidentified"] == 0:
            assert correlation(result.rewards[agent], game.reward(index)) > 0.999


def test_the_default_is_the_identity():
    trace, _ = sampled()
    by_state, identity = (
        Logel(features=features).recover(trace, game=None, **SETTINGS).rewards["agent_0"]
        for features in (None, np.eye(25))
    )
    np.testing.assert_allclose(by_state, identity, atol=1e-8 * np.abs(identity).max())


def test_known_parameters_and_the_learners_own_steps_give_its_own_gradient():
    trace, policies = sampled()
    truth = logel_grid().reward(0)
    options = {"features": colour_features(), "parameters": "last-fixed"}
    found = {}
    for gradient in ("auto", "exact"):
        observer = Logel(**options, gradient=gradient)
        result = observer.recover(
            trace, game=logel_grid(), known_policies={"agent_0": policies}, **SETTINGS
        )
        found[gradient] = correlation(result.rewards["agent_0"], truth)
        assert result.diagnostics["agent_0"]["gradient"] == gradient.replace("auto", "gpomdp")
    assert found["auto"] > 0.9999
    assert found["exact"] < 0.99  # the learner's gradient is an estimate


@pytest.mark.slow
def test_cloning_from_much_data():
    """Cloned by the likelihood; few steps of Adam do not get there, however many data there are."""
    trace, _ = sampled(episodes=5000, step_size=1.0)
    found = {}
    for cloning in ("likelihood", "published"):
        observer = Logel(features=colour_features(), parameters="last-fixed", cloning=cloning)
        result = observer.recover(trace, game=None, **SETTINGS)
        found[cloning] = correlation(result.rewards["agent_0"], logel_grid().reward(0))
    assert found["likelihood"] > 0.97
    assert 0.5 < found["published"] < found["likelihood"]


@pytest.mark.slow
def test_a_fitted_constant_changes_nothing_where_a_constant_has_no_gradient():
    trace, policies = sampled(n_stages=6, episodes=10)
    given = {"game": logel_grid(), "known_policies": {"agent_0": policies}, **SETTINGS}
    for gradient in ("exact", "gpomdp"):
        removed, fitted = (
            Logel(features=colour_features(), gradient=gradient, constant=constant)
            .recover(trace, **given)
            .rewards["agent_0"]
            for constant in ("removed", "fitted")
        )
        assert fitted.mean() == pytest.approx(0.0, abs=1e-12)
        assert np.allclose(fitted, removed, atol=1e-9) == (gradient == "exact")
    with pytest.raises(InputError, match="constant fitted needs features, and fit alternating"):
        Logel(constant="fitted")


def test_it_conforms_as_published():
    check_observer("logel", options={"cloning": "published", "parameters": "last-fixed"})


class _Sampled(Logel):
    """From ordered steps, which the conformance tests then keep."""

    needs_transitions = True


@pytest.mark.slow
def test_it_conforms_with_sampled_gradients():
    check_observer(_Sampled, options={"gradient": "gpomdp"})


def test_what_it_cannot_use_is_rejected():
    trace, _ = sampled(n_stages=3, episodes=5)
    bare = LearningTrace(tuple(Stage(stage.counts) for stage in trace.stages))
    with pytest.raises(InputError, match="stage 0 has none: let the learner keep them"):
        Logel(gradient="gpomdp").recover(bare, game=logel_grid(), **SETTINGS)
    with pytest.raises(InputError, match="discount must be given"):
        Logel().recover(trace, game=None, discount=None, temperature=None)
    with pytest.raises(InputError, match="game is None"):
        Logel().recover(bare, game=None, **SETTINGS)
    certain = np.zeros((3, 25, 4))
    certain[:, :, 0] = 1.0
    down = LearningTrace(
        tuple(
            replace(stage, joint_counts=stage.counts * (np.arange(4) == 0), transitions=None)
            for stage in trace.stages
        )
    )
    with pytest.raises(InputError, match="agent_0 has a probability of 0"):
        Logel().recover(down, game=logel_grid(), known_policies={"agent_0": certain}, **SETTINGS)
    with pytest.raises(InputError, match=r"step_sizes must be one of estimated, constant, got 'x'"):
        Logel(step_sizes="x")
    with pytest.raises(InputError, match="pseudo_count must be > 0"):
        Logel(pseudo_count=0.0)
    with pytest.raises(InputError, match="linearly independent"):
        Logel(features=np.ones((25, 2))).recover(trace, game=None, **SETTINGS)


# The whole history


def test_the_history_of_exact_steps_gives_the_reward_times_the_step_size():
    game = logel_grid()
    trace, _ = gradient_agents(game, np.full(6, 0.2), visits=10**5)
    observer = Logel(
        features=colour_features(), gradient="exact", fit="history", prior_variance=100.0
    )
    result = observer.recover(trace, game=game, **SETTINGS)
    expected = 0.2 * (game.reward(0) - game.reward(0).mean())
    np.testing.assert_allclose(result.rewards["agent_0"], expected, atol=0.02)
    assert np.all(result.sd["agent_0"] < 0.05)
    diagnostics = result.diagnostics["agent_0"]
    assert diagnostics["converged"]
    assert (diagnostics["rank"], diagnostics["n_unidentified"]) == (4, 0)
    assert diagnostics["gain"] > 1000
    assert result.covariance is None


@pytest.mark.parametrize("by_action", [False, True])
def test_histories_of_agents_that_learn_together(by_action):
    game = markov_game(grid_world_v0.parallel_env(size=2))
    rng = np.random.default_rng(1)
    features = rng.standard_normal((16, 5, 5, 3) if by_action else (16, 3))
    game = game.with_rewards([features @ own for own in rng.standard_normal((2, 3))])
    trace, policies = gradient_agents(game, np.ones(3), visits=10**5)
    observer = Logel(features=features, fit="history", prior_variance=100.0, covariance=True)
    result = observer.recover(trace, game=game, known_policies=policies, **SETTINGS)
    for index, agent in enumerate(game.agents):
        centred = game.reward(index) - game.reward(index).mean()
        found, sd = result.rewards[agent], result.sd[agent]
        np.testing.assert_allclose(found, centred, atol=0.02)
        spread = np.diag(result.covariance[agent]).reshape(found.shape)
        np.testing.assert_allclose(np.sqrt(spread), sd)


def test_the_history_of_sampled_steps_needs_no_cloning():
    """LOGEL's grid as in its paper: better than cloning, with deviations that hold."""
    truth, inside, ours, cloned = logel_grid().reward(0), [], [], []
    paper = {"discount": 0.96, "temperature": None}
    options = {"features": colour_features(), "parameters": "last-fixed"}
    for seed in range(4):
        trace, _ = sampled(seed=seed, discount=0.96)
        result = Logel(**options, fit="history").recover(trace, game=None, **paper)
        reward, sd = result.rewards["agent_0"], result.sd["agent_0"]
        ours.append(correlation(reward, truth))
        error = reward - 0.1 * (truth - truth.mean())  # the learner's step size is 0.1
        inside.append(np.mean(np.abs(error) < 2 * sd))
        assert abs(reward.mean()) < 1e-9
        assert result.diagnostics["agent_0"]["converged"]
        other = Logel(**options).recover(trace, game=None, **paper)
        cloned.append(correlation(other.rewards["agent_0"], truth))
    assert np.mean(ours) > max(0.85, np.mean(cloned))
    assert np.mean(inside) > 0.85


@pytest.mark.slow
def test_it_conforms_with_whole_histories():
    check_observer("logel", options={"fit": "history"})


def test_the_history_is_the_same_where_the_sums_of_episodes_do_not_fit(monkeypatch):
    trace, _ = sampled(n_stages=6, episodes=10)
    observer = Logel(features=colour_features(), parameters="last-fixed", fit="history")
    paper = {"game": None, "discount": DISCOUNT, "temperature": None}
    fast = observer.recover(trace, **paper)
    monkeypatch.setattr(policy_gradients, "MOST_BYTES", 0)
    slow = observer.recover(trace, **paper)
    for found in ("rewards", "sd"):
        ours, other = (getattr(result, found)["agent_0"] for result in (fast, slow))
        np.testing.assert_allclose(ours, other, atol=1e-9)
    assert np.ptp(fast.rewards["agent_0"]) > 0.1


def test_options_of_the_history_are_checked():
    with pytest.raises(InputError, match="prior_variance must be > 0"):
        Logel(prior_variance=0.0)
    with pytest.raises(InputError, match="covariance needs fit history"):
        Logel(covariance=True)
