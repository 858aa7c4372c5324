"""Action values applied without their coefficients, against the coefficients themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from factored_cases import GAMES, grid, policies_of

from malfl_algos.ma_lfl.learner_models import ExactEvaluation, ExpectedTd, MatrixFreeModel
from malfl_algos.ma_lfl.matrix_free_values import ExactValues, TdValues
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.soft import evaluation as soft
from malfl_algos.soft.averaging import AveragedDynamics

GAMMA, ALPHA, TIGHT = 0.9, 2.0, 1e-13
KINDS = ["grid", "slip", "three agents", "lone", "table", "two move one", "crossed", "one action"]
MODELS = ["state", "own_action", "joint"]


def played(game, seed):
    """Counts in which some pairs and one whole state have no visits."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.3, 20, size=(game.n_states, *game.n_actions)))
    counts[rng.random(counts.shape) < 0.6] = 0
    counts[1] = 0
    return StageArrays(counts.astype(np.int64))


def learner(kind, game, model):
    if kind == "exact":
        return ExactEvaluation(game, model, GAMMA, ALPHA)
    return ExpectedTd(game, model, GAMMA, ALPHA, 0.1)


def agrees(game, model, kind, *, seed=0):
    """Products, offset and the transposed product, agent by agent; returns the last values."""
    rng = np.random.default_rng(seed)
    stage, policies = played(game, seed), policies_of(game, seed)
    one = learner(kind, game, model)
    assert isinstance(one, MatrixFreeModel)
    for agent in range(game.n_agents):
        dense = one.stage_coefficients(stage, policies, agent)
        values = one.values(stage, policies, agent, n_stages=3)
        np.testing.assert_allclose(values.offset, dense[..., -1], atol=1e-9)
        unknowns = rng.normal(size=dense.shape[-1] - 1)
        applied = values.apply(unknowns, residual=TIGHT)
        assert applied.shape == values.offset.shape == dense.shape[:-1]
        np.testing.assert_allclose(applied, dense[..., :-1] @ unknowns, atol=1e-10)
        weights = rng.normal(size=dense.shape[:-1])
        back = values.adjoint(weights, residual=TIGHT)
        assert back.shape == unknowns.shape
        np.testing.assert_allclose(
            back, np.einsum("sak,sa->k", dense[..., :-1], weights), atol=1e-9
        )
        size = np.linalg.norm(weights) * np.linalg.norm(applied)
        assert abs((weights * applied).sum() - back @ unknowns) < 1e-11 * size
    return values


@pytest.mark.parametrize("visits", [1e2, 1e5, 1e9])
def test_any_number_of_visits_has_a_transpose(visits):
    """With many, parts of a stage keep shares that are no numbers of double precision."""
    game = grid(size=2)
    stage, policies = played(game, 0), policies_of(game, 0)
    values = learner("td", game, "state").values(stage, policies, 0, n_stages=3)
    values = replace(values, log_kept=visits * values.log_kept)
    rng = np.random.default_rng(0)
    unknowns = rng.normal(size=16)
    weights = rng.normal(size=values.log_kept.shape)
    there = (weights * values.apply(unknowns, residual=TIGHT)).sum()
    back = unknowns @ values.adjoint(weights, residual=TIGHT)
    assert back == pytest.approx(there, rel=1e-9)


@pytest.mark.parametrize("kind", ["exact", "td"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", KINDS)
def test_products_are_those_of_the_coefficients(name, model, kind):
    values = agrees(GAMES[name](), model, kind)
    assert isinstance(values, {"exact": ExactValues, "td": TdValues}[kind])
    assert not isinstance(values.transition, AveragedDynamics)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["slip", "three agents", "crossed"])
def test_products_without_any_matrix(name, model, monkeypatch):
    monkeypatch.setattr(soft, "SPARSE_BYTES", 0)
    values = agrees(GAMES[name](), model, "exact")
    assert isinstance(values.transition, AveragedDynamics)
    assert isinstance(values.onward, AveragedDynamics)


def test_pairs_never_visited_keep_their_first_value_and_pay_nothing():
    game = grid(size=2)
    stage, policies = played(game, 1), policies_of(game, 1)
    never = stage.action_counts(0) == 0
    assert never.any()
    assert not never.all()
    values = learner("td", game, "own_action").values(stage, policies, 0, n_stages=1)
    rng = np.random.default_rng(2)
    q = values.apply(rng.normal(size=never.size), residual=TIGHT)
    assert not q[never].any()
    assert q[~never].all()
    assert not values.offset[never].any()
    weights = np.where(never, rng.normal(size=never.shape), 0.0)
    assert not values.adjoint(weights, residual=TIGHT).any()


@pytest.mark.parametrize("kind", ["exact", "td"])
def test_no_reward_gives_no_values_and_inputs_stay_as_they_are(kind):
    game = grid(size=2)
    stage, policies = played(game, 3), policies_of(game, 3)
    values = learner(kind, game, "state").values(stage, policies, 1, n_stages=1)
    zeros, weights = np.zeros(16), np.ones((16, 5))
    for array in (zeros, weights, *policies):
        array.flags.writeable = False
    assert not values.apply(zeros, residual=TIGHT).any()
    assert not values.adjoint(np.zeros((16, 5)), residual=TIGHT).any()
    first = values.adjoint(weights, residual=TIGHT)
    np.testing.assert_array_equal(first, values.adjoint(weights, residual=TIGHT))


def test_positions_of_the_others_have_different_indices():
    """Two states share a number when they differ in the agent's own factor alone."""
    game = GAMES["crossed"]()
    policies = policies_of(game, 0)
    local = game.local_states(np.arange(game.n_states))
    for agent, factor in ((0, 0), (1, 1), (2, 0)):
        values = learner("exact", game, "state").values(
            played(game, 0), policies, agent, n_stages=1
        )
        np.testing.assert_array_equal(values.others, local[:, factor])
    lone = GAMES["lone"]()
    values = learner("exact", lone, "state").values(
        played(lone, 0), policies_of(lone, 0), 0, n_stages=1
    )
    np.testing.assert_array_equal(values.others, np.zeros(lone.n_states))
    # nobody leaves or enters a wall, so its cell is a set of its own
    walled = GAMES["walls"]()
    values = learner("exact", walled, "state").values(
        played(walled, 0), policies_of(walled, 0), 0, n_stages=1
    )
    own, other = walled.local_states(np.arange(walled.n_states)).T
    sets = np.where(own == 4, 1, 0) * 9 + other
    np.testing.assert_array_equal(values.others, sets)


def test_a_looser_residual_is_a_rougher_product():
    game = grid(size=3)
    policies = policies_of(game, 5)
    values = learner("exact", game, "state").values(played(game, 5), policies, 0, n_stages=1)
    unknowns = np.random.default_rng(0).normal(size=81)
    tight, loose = (values.apply(unknowns, residual=r) for r in (1e-13, 1e-2))
    off = np.abs(loose - tight).max() / np.abs(tight).max()
    assert 1e-9 < off < 0.2
