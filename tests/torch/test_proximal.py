"""Learners that start from their last policy, against exact results on a small game."""

from __future__ import annotations

import numpy as np
import pytest
from observer_cases import DISCOUNT, TEMPERATURE, board, exact_steps, one_hot_map, played
from scipy.special import log_softmax

from malfl_algos import LearningTrace
from malfl_algos.ma_lfl.posterior import Given
from malfl_algos.networks.action_values import ValueModel, retained_rows, soft_rows
from malfl_algos.networks.dynamics import Dynamics
from malfl_algos.networks.features import RewardFeatures
from malfl_algos.networks.kept import search_kept
from malfl_algos.networks.last_layer import fit_last_layer
from malfl_algos.observers.network import MaLflNetwork
from malfl_algos.play.tabular import observed_stage, sample_stage
from malfl_algos.soft import soft_evaluation

STAGES = 5


def policies_keeping(game, retained):
    """Policies that keep a share of their logarithm; with 1 they are multiplied by exp(q / alpha),
    q with no entropy in it.
    """
    rng = np.random.default_rng(0)
    logs = [log_softmax(0.3 * rng.normal(size=(game.n_states, n)), axis=1) for n in game.n_actions]
    found = []
    for _ in range(STAGES):
        joint = [np.exp(log) for log in logs]
        found.append(joint)
        bonus, step = (0.0, 1.0) if retained == 1 else (TEMPERATURE, 1 - retained)
        values = [
            soft_evaluation(game, joint, agent, discount=DISCOUNT, temperature=bonus)[0]
            for agent in range(game.n_agents)
        ]
        logs = [
            log_softmax(retained * log + step * q / TEMPERATURE, axis=1)
            for log, q in zip(logs, values, strict=True)
        ]
    return found


@pytest.fixture(scope="module", params=[0, 1])
def exact(request):
    """The game, its policies, and what the rows of both ways to improve are made from."""
    return exactly(1.0, request.param)


def exactly(retained, agent):
    game = board(2)
    policies = policies_keeping(game, retained)
    gathered, counts = exact_steps(game, policies, agent)
    features = one_hot_map(game.n_states)
    table = features(gathered.inputs)

    def chances(rows, stage):
        return [own[rows] for own in policies[stage]]

    model = ValueModel(
        gathered,
        counts,
        table,
        RewardFeatures("state", features, game.n_actions, agent),
        Dynamics(gathered, table, counts, chances, joint=False),
        chances,
        DISCOUNT,
    )
    return game, agent, policies, model


def options():
    return {
        "temperature": TEMPERATURE,
        "max_rows": 1000,
        "rng": np.random.default_rng(0),
    }


def recovered(stages, model, given):
    for one in stages:
        one.counts[:] *= 1e9
    layer = fit_last_layer(
        stages, model.dynamics, temperature=TEMPERATURE, step_size=None, given=given
    )
    reward = model.features @ layer.mean
    return reward - reward.mean()


def test_the_true_reward_gives_the_policies_of_all_stages(exact):
    game, agent, policies, model = exact
    weights = np.concatenate([[0.0], game.reward(agent), [0.0]])
    for one in retained_rows(model, retained=1.0, **options()):
        predicted = (one.coefficients @ weights + one.offset) / TEMPERATURE
        expected = policies[one.stage + 1][agent][one.rows]
        assert np.exp(log_softmax(predicted, axis=1)) == pytest.approx(expected, abs=1e-3)
        assert list(one.leverage) == list(range(one.stage + 1))


def test_exact_data_give_the_true_reward_and_under_soft_improvement_a_worse_one(exact):
    game, agent, _, model = exact
    truth = game.reward(agent) - game.reward(agent).mean()
    given = Given(1e-6, 1e-12, 100.0)
    own = recovered(retained_rows(model, retained=1.0, **options()), model, given)
    assert own == pytest.approx(truth, abs=0.1)
    other = recovered(soft_rows(model, **options()), model, given)
    assert np.sqrt(np.mean((other - truth) ** 2)) > 5 * np.sqrt(np.mean((own - truth) ** 2))


@pytest.mark.parametrize("agent", [0, 1])
def test_the_share_of_the_log_policy_is_found(agent):
    game, agent, _, model = exactly(0.6, agent)
    for one in model.counts:
        one *= 1e5
    found = search_kept(
        model, [None], temperature=TEMPERATURE, max_rows=100, seed=np.random.SeedSequence(0)
    )
    assert found.retained == pytest.approx(0.6, abs=0.02)
    assert found.searched["0"] < max(found.searched.values()) - 20
    low, high = found.details()["improvement_interval"]
    assert low <= found.retained <= high
    rows = retained_rows(model, retained=found.retained, **options())
    truth = game.reward(agent) - game.reward(agent).mean()
    assert np.corrcoef(recovered(rows, model, None), truth)[0, 1] > 0.99


def test_rewards_are_recovered_from_played_steps():
    game = board(2)
    stages = [
        observed_stage(
            game,
            sample_stage(
                game,
                [np.log(own) for own in joint],
                seed=number,
                episodes=1000,
                episode_length=100,
                discount=DISCOUNT,
                temperature=TEMPERATURE,
                step_size=0.0,
                keep_steps=True,
            ),
            keep_transitions=True,
            complete=True,
        )
        for number, joint in enumerate(policies_keeping(game, 1.0))
    ]
    correlations = {}
    for improvement in ("proximal", "soft"):
        observer = MaLflNetwork(
            improvement=improvement, learner="exact", ensemble=1, hidden=(24,), widths=(48,)
        )
        found = observer.recover(
            LearningTrace(tuple(stages)),
            game=game.without_rewards(),
            discount=DISCOUNT,
            temperature=TEMPERATURE,
        )
        correlations[improvement] = [
            np.corrcoef(found.rewards[agent], game.reward(index))[0, 1]
            for index, agent in enumerate(game.agents)
        ]
        assert (
            found.diagnostics["agent_0"]["improvement"]
            == {"proximal": 1.0, "soft": 0.0}[improvement]
        )
    assert min(correlations["proximal"]) > 0.9
    assert np.mean(correlations["soft"]) < np.mean(correlations["proximal"]) - 0.1


def test_a_given_prior_is_used():
    trace = played().with_observations(board().without_rewards())
    observer = MaLflNetwork(
        prior_variance=1e-9, ensemble=2, epochs=2, hidden=(8,), widths=(8,), learner="exact"
    )
    found = observer.recover(trace, game=None, discount=DISCOUNT, temperature=TEMPERATURE)
    for said in found.diagnostics.values():
        variances = [one["prior_variance"] for one in said["members"]]
        assert variances == [pytest.approx(1e-9 * TEMPERATURE**2)] * 2
    for functions in found.functions.values():
        assert np.abs(functions.members[0].mean[:-1]).max() < 1e-2


def test_twice_the_temperature_is_twice_the_reward():
    trace = played().with_observations(board().without_rewards())
    observer = MaLflNetwork(
        improvement="proximal", prior_variance=0.1, ensemble=1, epochs=2, hidden=(8,), widths=(8,)
    )
    once, twice = (
        observer.recover(trace, game=None, discount=DISCOUNT, temperature=factor * TEMPERATURE)
        for factor in (1, 2)
    )
    for agent, functions in once.functions.items():
        doubled = twice.functions[agent].members[0].mean[:-1]
        assert doubled == pytest.approx(2 * functions.members[0].mean[:-1], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("options", [{"form": "potentials"}, {"learner": "td"}])
def test_options_of_soft_improvement_are_rejected(options):
    with pytest.raises(ValueError, match="improvement: proximal needs form: bellman"):
        MaLflNetwork(improvement="proximal", **options)
