"""Successor features, dynamics and the last layer, against exact results with one-hot features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from observer_cases import (
    DISCOUNT,
    TEMPERATURE,
    board,
    exact_policies,
    exact_steps,
    one_hot_map,
)

from malfl_algos.ma_lfl.posterior import Given
from malfl_algos.networks.action_values import ValueModel, soft_rows, value_map
from malfl_algos.networks.dynamics import Dynamics
from malfl_algos.networks.features import RewardFeatures
from malfl_algos.networks.last_layer import fit_last_layer, prediction
from malfl_algos.networks.mlp import apply
from malfl_algos.networks.potentials import fit_potentials
from malfl_algos.networks.training import TrainingSettings
from malfl_algos.soft import averaged_transition, entropy, soft_evaluation


class _Exact:
    """A small game with exact policies and all possible steps, weighted by their probabilities."""

    def __init__(self, agent_index: int, stages: int = 3) -> None:
        self.game, self.agent = board(2), agent_index
        self.policies = exact_policies(self.game, stages)
        self.gathered, self.counts = exact_steps(self.game, self.policies, agent_index)
        self.map = one_hot_map(self.game.n_states)
        self.features = self.map(self.gathered.inputs)

    def chances(self, rows, stage):
        return [own[rows] for own in self.policies[stage]]

    def dynamics(self, *, joint):
        return Dynamics(self.gathered, self.features, self.counts, self.chances, joint=joint)

    def model(self):
        return ValueModel(
            self.gathered,
            self.counts,
            self.features,
            RewardFeatures("state", self.map, self.game.n_actions, self.agent),
            self.dynamics(joint=True),
            self.chances,
            DISCOUNT,
        )

    def weights(self):
        """Last layer of the true reward: features are a dead unit, the states, a constant."""
        return np.concatenate([[0.0], self.game.reward(self.agent), [0.0]])

    def rows(self):
        rng = np.random.default_rng(0)
        return soft_rows(self.model(), temperature=TEMPERATURE, max_rows=1000, rng=rng)


@pytest.fixture(params=[0, 1])
def exact(request):
    return _Exact(request.param)


def test_the_value_is_the_exact_soft_value(exact):
    _, value = soft_evaluation(
        exact.game, exact.policies[1], exact.agent, discount=DISCOUNT, temperature=TEMPERATURE
    )
    steps = exact.gathered.stages[1]
    bonus = TEMPERATURE * entropy(exact.policies[1][exact.agent])[steps.here]
    found = value_map(exact.model(), 1, bonus)
    assert exact.features @ found @ np.append(exact.weights(), 1.0) == pytest.approx(
        value, abs=1e-3
    )


@pytest.mark.parametrize("joint", [True, False])
def test_what_follows_an_action_is_the_averaged_transition(exact, joint):
    dynamics = exact.dynamics(joint=joint)
    rows = np.arange(exact.game.n_states)
    expected = averaged_transition(exact.game, exact.policies[2], exact.agent)
    found = dynamics.onward(2, rows)[..., 1:-1]
    assert found.reshape(-1, exact.game.n_states) == pytest.approx(expected.toarray(), abs=1e-4)


def test_leverage_is_one_over_the_visits_of_an_action(exact):
    dynamics = exact.dynamics(joint=False)
    visits = exact.policies[2][exact.agent]  # every state counts as one
    # the constant beside one-hot features and the ridge shift it a little
    found = dynamics.leverage(2, np.arange(exact.game.n_states))
    assert found == pytest.approx(1 / visits, rel=1e-3)


def test_action_values_are_exact_and_the_true_reward_predicts_the_next_policy(exact):
    one = exact.rows()[1]
    q, _ = soft_evaluation(
        exact.game, exact.policies[1], exact.agent, discount=DISCOUNT, temperature=TEMPERATURE
    )
    assert one.coefficients @ exact.weights() + one.offset == pytest.approx(q, abs=2e-3)
    best = -entropy(exact.policies[2][exact.agent]).mean()
    found = prediction(one, exact.weights(), temperature=TEMPERATURE, step_size=None)
    assert found == pytest.approx(best, abs=1e-5)


def test_the_last_layer_of_exact_data_is_the_true_reward(exact):
    dynamics = exact.dynamics(joint=True)
    stages = exact.rows()
    for one in stages:
        one.counts[:] *= 1e9
    given = Given(1e-6, 1e-12, 100.0)
    found = fit_last_layer(stages, dynamics, temperature=TEMPERATURE, step_size=None, given=given)
    reward = (exact.features @ found.mean) - (exact.features @ found.mean).mean()
    truth = exact.game.reward(exact.agent)
    assert np.corrcoef(reward, truth)[0, 1] > 0.999
    assert reward == pytest.approx(truth - truth.mean(), abs=0.1)


def test_td_learners_values_stand_near_zero_where_they_tried_little(exact):
    """The same data, attributed to td learners: an action never tried has q = 0 for any r."""
    one = exact.rows()[1]
    one.visits[:] = 1e6
    whole = [
        prediction(one, exact.weights(), temperature=TEMPERATURE, step_size=size)
        for size in (None, 0.1)
    ]
    assert whole[0] == pytest.approx(whole[1])
    one.visits[:] = 0
    nothing = prediction(one, exact.weights(), temperature=TEMPERATURE, step_size=0.1)
    assert nothing == pytest.approx(-np.log(5))


def _residual(exact, fitted):
    """Root mean square of (12) with everything else exact, over alpha."""
    own = exact.agent
    inputs = torch.from_numpy(exact.gathered.inputs)
    with torch.no_grad():
        reward = apply(fitted.reward, inputs)[:, 0].numpy()
        potentials = apply(fitted.potentials, inputs).numpy()
    gaps, spread = [], []
    for stage in range(len(exact.policies) - 1):
        now, later = exact.policies[stage][own], exact.policies[stage + 1][own]
        onward = averaged_transition(exact.game, exact.policies[stage], own)
        divergence = (now * np.log(now / later)).sum(axis=1)
        target = np.log(later) + DISCOUNT * (onward @ divergence).reshape(later.shape)
        g = potentials[:, stage]
        found = (reward + g)[:, None] - DISCOUNT * (onward @ g).reshape(later.shape)
        gaps.append(found - target)
        spread.append(target - target.mean(axis=1, keepdims=True))
    return np.sqrt(np.mean(np.square(gaps))), np.sqrt(np.mean(np.square(spread)))


def test_the_potentials_are_not_flattened():
    """Descending the mean square of sampled steps would leave more than 0.4 of the spread."""
    exact = _Exact(0)
    fitted = fit_potentials(
        exact.gathered,
        exact.counts,
        exact.counts,
        exact.chances,
        model="state",
        hidden=(48,),
        discount=DISCOUNT,
        settings=TrainingSettings(16, 4096, 0.01, steady=True),
        generator=torch.Generator().manual_seed(1),
        device=torch.device("cpu"),
    )
    gap, spread = _residual(exact, fitted)
    assert gap < 0.1 * spread
