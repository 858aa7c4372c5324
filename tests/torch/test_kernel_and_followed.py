"""Kernel features, values from learned dynamics, and policies that follow from fitted values."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from observer_cases import (
    DISCOUNT,
    TEMPERATURE,
    board,
    exact_policies,
    exact_steps,
    one_hot_map,
    played,
)

from malfl_algos.networks.action_values import ValueModel, model_value_map, soft_rows
from malfl_algos.networks.checkpoints import Checkpoints
from malfl_algos.networks.dynamics import Dynamics
from malfl_algos.networks.encoding import Encoder, input_features
from malfl_algos.networks.features import RewardFeatures, digit_groups, kernel_map
from malfl_algos.networks.followed import followed_policies
from malfl_algos.networks.members import Counts, Fitting, MemberFit
from malfl_algos.networks.options import FitOptions
from malfl_algos.networks.recovered_functions import Member, RecoveredFunctions
from malfl_algos.observers.network import MaLflNetwork
from malfl_algos.soft import soft_evaluation
from malfl_env.errors import InputError


def digits():
    encoder = Encoder(spaces.MultiDiscrete([3, 4, 3, 4]))
    seen = np.stack(np.unravel_index(np.arange(144), (3, 4, 3, 4)), axis=1)
    return encoder, seen, input_features(encoder, seen)


def test_waves_have_the_covariance_of_a_gaussian_kernel():
    _, _, inputs = digits()
    read = np.arange(inputs.shape[1]) >= 14
    found = kernel_map(
        torch.Generator().manual_seed(0), 20_000, 1.7, inputs, read=read, device=torch.device("cpu")
    )
    raw = found(inputs)[:, :20_000] / found.scale[0] + found.shift[:20_000]
    gaps = inputs[:, None, 14:].astype(float) - inputs[None, :, 14:]
    kernel = np.exp(-(gaps**2).sum(axis=2) / (2 * 1.7**2))
    np.testing.assert_allclose(raw @ raw.T / 10_000, kernel, atol=0.06)


def test_an_indicator_is_one_for_its_values_alone():
    encoder, seen, inputs = digits()
    groups = digit_groups(encoder, 2)
    assert len(groups) == 24
    found = kernel_map(
        torch.Generator().manual_seed(0),
        2,
        1.0,
        inputs,
        read=np.arange(inputs.shape[1]) >= 14,
        groups=groups,
        device=torch.device("cpu"),
    )
    units = found(inputs)[:, 2:26] / found.scale[2:26] + found.shift[2:26]
    expected = np.concatenate(
        [np.eye(12)[seen[:, 0] * 4 + seen[:, 1]], np.eye(12)[seen[:, 2] * 4 + seen[:, 3]]], axis=1
    )
    np.testing.assert_allclose(units, expected, atol=1e-6)
    with pytest.raises(InputError, match=r"grouped_digits must divide.* 4, got 3"):
        digit_groups(encoder, 3)


class _Exact:
    """One agent's view of exact policies and all steps of a small game."""

    def __init__(self, agent: int) -> None:
        self.game, self.agent = board(2), agent
        self.policies = exact_policies(self.game, 3)
        self.gathered, self.counts = exact_steps(self.game, self.policies, agent)
        features = one_hot_map(self.game.n_states)
        self.reward = RewardFeatures("state", features, self.game.n_actions, agent)
        self.features = features(self.gathered.inputs)
        self.weights = np.concatenate([[0.0], self.game.reward(agent), [0.0]])

    def chances(self, rows, stage):
        return [own[rows] for own in self.policies[stage]]


@pytest.mark.parametrize("agent", [0, 1])
def test_values_from_learned_dynamics_are_the_exact_soft_values(agent):
    exact = _Exact(agent)
    shared = (exact.gathered, exact.features, exact.counts, exact.chances)
    model = ValueModel(
        exact.gathered,
        exact.counts,
        exact.features,
        exact.reward,
        Dynamics(*shared, joint=True),
        exact.chances,
        DISCOUNT,
        everywhere=True,
    )
    _, value = soft_evaluation(
        exact.game, exact.policies[1], agent, discount=DISCOUNT, temperature=TEMPERATURE
    )
    found = exact.features @ model_value_map(model, 1, TEMPERATURE)
    assert found @ np.append(exact.weights, 1.0) == pytest.approx(value, abs=1e-3)


def test_policies_follow_from_the_true_rewards():
    """Starting from uniform policies in all stages, they are those of exact learners."""
    views = [_Exact(agent) for agent in range(2)]
    uniform = SimpleNamespace(
        log_policies=lambda inputs, stage: [np.full((len(inputs), 5), -np.log(5))] * 2
    )
    options = FitOptions(values="model")
    fitting = Fitting(
        options, DISCOUNT, TEMPERATURE, torch.device("cpu"), Checkpoints(None, {}), None
    )
    fits, members = [], []
    for one in views:
        counts = Counts(*[[1e-9 * own for own in one.counts]] * 3)
        fits.append(MemberFit(one.gathered, fitting, counts, uniform, {}, 0, None))
        member = Member(one.reward, one.weights, None, np.zeros(len(one.weights)))
        members.append((member, {"noise_variance": 1e-3}))
    found = followed_policies(fits, members, {})
    for agent in range(2):
        expected = np.stack([stage[agent] for stage in views[0].policies])
        np.testing.assert_allclose(found[agent], expected, atol=2e-3)
    given = np.full(found[1].shape, 0.2)
    np.testing.assert_array_equal(followed_policies(fits, members, {1: given})[1], given)


KERNEL = {"trunk": "kernel", "improvement": "soft", "learner": "exact", "grouped_digits": 2}


def test_the_evidence_chooses_the_length_scale_and_a_file_keeps_the_waves(tmp_path):
    trace = played(2, 3, 10, 20).with_observations(board().without_rewards())
    options = {"ensemble": 2, "epochs": 2, "hidden": (8,), "widths": (8,), **KERNEL}
    found = MaLflNetwork(**options).recover(
        trace, game=None, discount=DISCOUNT, temperature=TEMPERATURE
    )
    members = found.diagnostics["agent_0"]["members"]
    assert members[0]["length_scale"] in (0.9, 1.3, 1.9)
    assert members[1]["length_scale"] == members[0]["length_scale"]
    found.save(tmp_path / "found.npz")
    again = RecoveredFunctions.load(tmp_path / "found.npz")
    steps = trace.stages[0].transitions
    seen, actions = steps.observations["agent_0"][:50], steps.joint_actions[:50]
    np.testing.assert_array_equal(
        again.reward("agent_0", seen, actions), found.reward("agent_0", seen, actions)
    )


def test_first_moves_bound_the_stages_that_rewards_are_inferred_from():
    exact = _Exact(0)
    shared = (exact.gathered, exact.features, exact.counts, exact.chances)

    def stages(moves):
        model = ValueModel(
            exact.gathered,
            exact.counts,
            exact.features,
            exact.reward,
            Dynamics(*shared, joint=True),
            exact.chances,
            DISCOUNT,
            moves=moves,
        )
        rng = np.random.default_rng(0)
        return [one.stage for one in soft_rows(model, temperature=3.0, max_rows=9, rng=rng)]

    assert [stages(moves) for moves in (None, 1, 9)] == [[0, 1], [0], [0, 1]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"first_moves": 0}, "first_moves must be"),
        ({"rounds": 1}, "rounds needs form: bellman and improvement: soft"),
        ({"rounds": -1}, "rounds must be"),
        ({"grouped_digits": 0}, "grouped_digits must be"),
        ({"length_scale": 0.0}, "length_scale must be > 0"),
        ({"values": "none"}, "values must be one of steps, model"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(InputError, match=words):
        MaLflNetwork(**options)
