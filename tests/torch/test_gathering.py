"""Distinct observations and steps, and the features that networks take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from hypothesis import given
from hypothesis import strategies as st
from observer_cases import board, in_a_box, played

from malfl_algos.networks import gathering
from malfl_algos.networks.encoding import Encoder, input_features
from malfl_algos.networks.features import random_map, with_actions
from malfl_algos.networks.gathering import distinct_observations, gather, number_columns


@given(
    st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=40),
    st.sampled_from([(4, 4, 4), (2**40, 2**40, 2**40)]),
    st.booleans(),
)
def test_rows_are_numbered_as_numpy_does(rows, sizes, sorting):
    table = np.array(rows)
    before = gathering._TABLE
    try:
        gathering._TABLE = 0 if sorting else before
        places, which = number_columns(list(table.T), sizes)
    finally:
        gathering._TABLE = before
    unique, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    assert np.array_equal(places, first)
    assert np.array_equal(which, inverse.ravel())
    assert np.array_equal(table[places], unique)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_floats_are_one_observation(dtype):
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(7, 3)).astype(dtype)
    pool[0, 0], pool[1] = 0.0, pool[0]
    pool[1, 0] = -0.0
    arrays = [pool[rng.integers(7, size=20)], pool]
    first, numbers = distinct_observations(arrays, Box(-9.0, 9.0, (3,), dtype))
    assert len(first) == 6
    for array, number in zip(arrays, numbers, strict=True):
        assert np.array_equal(first[number], array)


def test_digits_out_of_their_range_are_rejected():
    with pytest.raises(ValueError, match="out of range"):
        distinct_observations([np.array([[0, 3]])], MultiDiscrete([3, 3]))
    with pytest.raises(ValueError, match="out of range"):
        distinct_observations([np.array([0, 5])], Discrete(5))


def test_gathered_counts_are_those_of_the_trace():
    trace, game = played(), board()
    views = gather(trace.with_observations(game.without_rewards()))
    assert views[1].inputs is views[0].inputs
    for agent, view in enumerate(views):
        assert view.n_own == 5
        for stage, steps in enumerate(view.stages):
            rows, table = view.action_counts(stage, steps.counts())
            expected = trace.stages[stage].action_counts(agent)
            assert np.array_equal(table, expected[expected.sum(axis=1) > 0])
            assert len(rows) == len(table)
            other = view.action_counts(stage, steps.counts(), 1 - agent)[1]
            assert other.sum() == table.sum()
            assert steps.n_blocks == 60


def test_weights_of_episodes_are_weights_of_their_steps():
    view = gather(played().with_observations(board().without_rewards()))[0]
    steps = view.stages[0]
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 3, steps.n_blocks).astype(float) for _ in range(2)]
    assert np.array_equal(
        steps.counts(parts[0]) + steps.counts(parts[1]), steps.counts(parts[0] + parts[1])
    )
    assert np.array_equal(steps.counts(), steps.counts(np.ones(steps.n_blocks)))


def test_a_stage_of_few_episodes_is_resampled_in_parts():
    short = played(2, 2, 3, 50)
    view = gather(short.with_observations(board().without_rewards()))[0]
    assert view.stages[0].n_blocks == 20
    assert np.bincount(view.stages[0].block).min() >= 7


def test_observations_that_never_repeat_are_all_kept():
    trace = in_a_box()
    view = gather(trace)[0]
    n_steps = sum(stage.n_steps for stage in trace.stages)
    assert sum(len(steps.here) for steps in view.stages) == n_steps
    assert view.inputs.std(axis=0) == pytest.approx(1.0, abs=1e-3)


def test_inputs_hold_digits_and_their_values():
    space = MultiDiscrete([3, 2])
    found = input_features(Encoder(space), np.array([[0, 1], [2, 0]]))
    assert found.shape == (2, 7)
    assert np.array_equal(found[:, :5], Encoder(space).encode(np.array([[0, 1], [2, 0]])))
    all_values = input_features(
        Encoder(space), np.array([[a, b] for a in range(3) for b in (0, 1)])
    )
    assert all_values[:, 5:].mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert all_values[:, 5:].std(axis=0) == pytest.approx(1, abs=1e-6)


def test_features_are_standardised_and_end_in_a_constant():
    inputs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    inputs[:, 3] = 2.0
    features = random_map(
        torch.Generator().manual_seed(0),
        (32, 16),
        inputs,
        read=np.array([True, True, False, True]),
        device=torch.device("cpu"),
    )
    found = features(inputs)
    assert found.shape == (50, features.n_features) == (50, 21)
    assert np.all(found[:, -1] == 1)
    assert found[:, :-1].mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert (found[:, :16].std(axis=0) ** 2).sum() == pytest.approx(1)
    assert (found[:, 16:-1].std(axis=0) ** 2).sum() == pytest.approx(1)


def test_random_layers_read_values_not_one_hots():
    view = gather(played().with_observations(board().without_rewards()))[0]
    assert view.read.tolist() == [False] * 8 + [True] * 4
    assert gather(in_a_box())[0].read.all()
    inputs = view.inputs.copy()
    features = random_map(
        torch.Generator().manual_seed(0), (8,), inputs, read=view.read, device=torch.device("cpu")
    )
    before = features(inputs)
    inputs[:, :8] = 0.5
    after = features(inputs)
    assert np.array_equal(before[:, :8], after[:, :8])
    assert not np.array_equal(before[:, 8:16], after[:, 8:16])


def test_actions_stand_one_hot_behind_inputs():
    found = with_actions(np.zeros((2, 1), np.float32), np.array([[1, 0], [0, 2]]), (2, 3))
    assert found.tolist() == [[0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 1]]
