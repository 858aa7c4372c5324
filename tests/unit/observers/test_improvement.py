"""The share of its log policy that a learner keeps, as the Bayesian observers find it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recovery_cases import SETTINGS, learn
from scipy.special import log_softmax
from scipy.stats import dirichlet_multinomial

from malfl_algos.ma_lfl.policy_estimation import CONCENTRATION, CONCENTRATIONS
from malfl_algos.observers.bayesian import MaLflBellman, MaLflReplay
from malfl_algos.soft import soft_evaluation
from malfl_algos.trace import LearningTrace, Stage

AUTO = MaLflBellman(learner="exact")


@pytest.fixture
def game(paper_game, random_rewards):
    return random_rewards(paper_game(size=2), 3)


def kept(game, retained, n_stages=8, step=None):
    """A trace of learners that keep a share of their log policy, and their policies."""
    discount, alpha = SETTINGS["discount"], SETTINGS["temperature"]
    logs = [np.full((game.n_states, n), -np.log(n)) for n in game.n_actions]
    stages = []
    for _ in range(n_stages):
        joint = [np.exp(log) for log in logs]
        stages.append(joint)
        bonus = alpha if retained < 1 else 0.0
        q = [
            soft_evaluation(game, joint, i, discount=discount, temperature=bonus)[0]
            for i in range(game.n_agents)
        ]
        weight = (1 - retained if step is None else step) / alpha
        logs = [
            log_softmax(retained * log + weight * own, axis=1)
            for log, own in zip(logs, q, strict=True)
        ]
    visits = np.full((game.n_states, *game.n_actions), 100)
    trace = LearningTrace(tuple(Stage(visits) for _ in stages))
    known = {
        agent: np.stack([joint[index] for joint in stages])
        for index, agent in enumerate(game.agents)
    }
    return trace, known


def recovered(observer, game, trace, known=None, **scale):
    return observer.recover(
        trace, game=game.without_rewards(), known_policies=known, **{**SETTINGS, **scale}
    )


def centred(table):
    return table - table.mean()


@pytest.mark.parametrize("improvement", ["auto", 0.6])
def test_known_policies_give_the_reward_and_the_share(game, improvement):
    trace, known = kept(game, 0.6)
    result = recovered(replace(AUTO, improvement=improvement), game, trace, known)
    for index, agent in enumerate(game.agents):
        said = result.diagnostics[agent]
        assert said["improvement"] == pytest.approx(0.6, abs=1e-3)
        assert said["scale"] == "temperature"
        assert said["first_policy_concentration"] is None  # known policies need no pseudo-counts
        truth = centred(game.reward(index))
        assert np.corrcoef(result.rewards[agent], truth)[0, 1] > 0.9999
        np.testing.assert_allclose(result.rewards[agent], truth, atol=0.04)
        if improvement == "auto":
            low, high = said["improvement_interval"]
            assert low <= said["improvement"] <= high
            assert said["searches"]["improvement"]["> 0"]["exact"] > (
                said["searches"]["improvement"]["0"]["exact"] + 100
            )
        else:
            assert said["improvement_interval"] is None


def test_soft_policy_iteration_is_recognised(game):
    trace, known = kept(game, 0.0)
    result = recovered(AUTO, game, trace, known)
    fixed = recovered(replace(AUTO, improvement=0.0, stages="same"), game, trace, known)
    for agent in game.agents:
        assert result.diagnostics[agent]["improvement"] == 0
        assert result.diagnostics[agent]["first_policy_concentration"] is None
        assert result.diagnostics[agent]["improvement_interval"] == [0.0, 0.0]
        np.testing.assert_array_equal(result.rewards[agent], fixed.rewards[agent])
        np.testing.assert_array_equal(result.sd[agent], fixed.sd[agent])


def test_few_visits_of_a_uniform_first_policy_do_not_hide_the_share(game):
    """Where the first policy is uniform in most states, it is so in those seldom visited, too."""
    game = game.with_rewards([2 * game.reward(index) for index in range(game.n_agents)])
    _, known = kept(game, 0.9, n_stages=6)
    rng, stages = np.random.default_rng(0), []
    visits = rng.geometric(1 / 1500, size=game.n_states)
    visits[::4] //= 50
    for h in range(6):
        joint = np.einsum("sa,sb->sab", *(policies[h] for policies in known.values()))
        counts = rng.multinomial(visits, joint.reshape(game.n_states, -1))
        stages.append(Stage(counts.reshape(joint.shape)))
    result = recovered(AUTO, game, LearningTrace(tuple(stages)))
    for index, agent in enumerate(game.agents):
        said = result.diagnostics[agent]
        low, high = said["improvement_interval"]
        assert 0.6 < low < 0.9 < high
        own = stages[0].action_counts(index)
        evidence = [
            dirichlet_multinomial.logpmf(own, np.full(own.shape[1], c), own.sum(axis=1)).sum()
            for c in CONCENTRATIONS
        ]
        chosen = CONCENTRATIONS[int(np.argmax(evidence))]
        assert said["first_policy_concentration"] == chosen > CONCENTRATION


def test_mirror_descent_leaves_the_scale_open(game):
    trace, known = kept(game, 1.0, step=0.2)
    result = recovered(replace(AUTO, improvement=1.0), game, trace, known)
    for index, agent in enumerate(game.agents):
        said = result.diagnostics[agent]
        assert said["scale"] == "open"
        assert "step" in said["scale_reason"]
        truth = 0.2 * centred(game.reward(index))
        np.testing.assert_allclose(result.rewards[agent], truth, atol=0.02)


def test_the_temperature_is_the_unit_of_reward(game):
    trace, known = kept(game, 0.6)
    one, unit, double = (
        recovered(AUTO, game, trace, known, temperature=temperature)
        for temperature in (3.0, None, 6.0)
    )
    for agent in game.agents:
        assert unit.diagnostics[agent]["unit"] == "temperature"
        for other, factor in ((unit, 1 / 3), (double, 2)):
            np.testing.assert_allclose(
                other.rewards[agent], factor * one.rewards[agent], atol=1e-3 * factor
            )
            np.testing.assert_allclose(other.sd[agent], factor * one.sd[agent], rtol=0.02)


def test_one_improvement_does_not_show_what_was_kept(game):
    trace, known = kept(game, 0.6, n_stages=2)
    result = recovered(AUTO, game, trace, known)
    assert all(said["improvement"] == 0 for said in result.diagnostics.values())


@pytest.mark.parametrize("observer", [MaLflBellman, MaLflReplay])
@pytest.mark.parametrize("improvement", [-0.1, 1.1, np.nan, "soft"])
def test_a_share_out_of_range_is_named(observer, improvement):
    with pytest.raises(ValueError, match=r"improvement must be auto or a number in \[0, 1\]"):
        observer(improvement=improvement)


def test_what_differs_by_stage_is_one_of_five():
    with pytest.raises(ValueError, match="stages must be one of auto, same, noise, scale, both"):
        MaLflBellman(stages="all")


def test_the_iterative_solver_says_what_to_give(game):
    given = {"solver": "iterative", "noise_variance": 1e-3, "prior_variance": 1.0}
    with pytest.raises(ValueError, match="give improvement"):
        replace(AUTO, **given)
    with pytest.raises(ValueError, match="stages same"):
        replace(AUTO, improvement=0.0, stages="both", **given)
    trace, known = kept(game, 0.6)
    with pytest.raises(ValueError, match="set solver to dense"):
        recovered(replace(AUTO, improvement=0.6, **given), game, trace, known)


@pytest.mark.slow
def test_features_without_a_level_do_not_wreck_the_fit():
    """80 features that span every reward of mean zero, and td learners with little data."""
    trace, paper = learn(n_stages=10, seed=77)
    basis = np.linalg.svd(np.eye(81) - 1 / 81)[0][:, :80]
    observer = MaLflBellman(learner="td", reward_model="features", features=basis)
    result = recovered(observer, paper, trace)
    for index, agent in enumerate(paper.agents):
        truth = centred(paper.reward(index))
        assert np.corrcoef(result.rewards[agent], truth)[0, 1] > 0.8
        off = np.abs(result.rewards[agent] - truth)
        assert np.mean(off < 2 * result.sd[agent]) > 0.85


def test_few_visits_leave_out_rules_that_carry_q_over(game):
    trace, _ = kept(game, 0.0, n_stages=3)
    few = LearningTrace(tuple(Stage(stage.counts // 100) for stage in trace.stages))
    said = recovered(MaLflBellman(), game, few).diagnostics["agent_0"]
    assert not any("q-learning" in rule for rule in said["searches"]["rule"])
    assert said["rules_left_out"].startswith("q-learning; q-learning, moving")
    assert "5 times on average, fewer than 30" in said["rules_left_out"]
