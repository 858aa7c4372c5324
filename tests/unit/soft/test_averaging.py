"""Averaged dynamics in three forms: written out from joint successors, sparse, and as products."""

from __future__ import annotations

import numpy as np
import pytest
from factored_cases import GAMES, dense_transition, factored, policies_of
from hypothesis import given, settings
from hypothesis import strategies as st

from malfl_algos.soft import (
    averaged_transition,
    discounted_sum,
    policy_transition,
    soft_evaluation,
    transition_under,
)
from malfl_algos.soft import evaluation as soft
from malfl_algos.soft.averaging import (
    AveragedDynamics,
    averaged_dynamics,
    contrast_diagonal,
    sparse_bytes,
)
from malfl_algos.soft.iteration import iterated_sum
from malfl_env.markov_game import MarkovGame

CLOSE = {"rtol": 0, "atol": 1e-10}


def contrasts(dense: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Diagonal of P' C P with C written out state by state."""
    total = np.zeros(dense.shape[1])
    for rows, w in zip(dense.reshape(*weights.shape, -1), weights, strict=True):
        if w.sum() > 0:
            total += np.diag(rows.T @ (np.diag(w) - np.outer(w, w) / w.sum()) @ rows)
    return total


def all_forms_agree(game: MarkovGame, seed: int, *, zeros: bool = False) -> None:
    """Products with vectors and matrices, both ways, for the actions and under a policy."""
    rng = np.random.default_rng(seed)
    policies = policies_of(game, seed, zeros=zeros)
    for agent in range(game.n_agents):
        own = policies[agent]
        by_action = dense_transition(game, policies, agent)
        np.testing.assert_allclose(by_action.sum(axis=1), 1, **CLOSE)
        under = np.einsum("sa,sat->st", own, by_action.reshape(*own.shape, -1))
        operator = averaged_dynamics(game, policies, agent)
        sparse = averaged_transition(game, policies, agent)
        pairs = [
            (by_action, (operator, sparse)),
            (
                under,
                (operator.under(own), operator.under(own).sparse(), policy_transition(sparse, own)),
            ),
        ]
        for dense, forms in pairs:
            weights = rng.gamma(0.5, size=(game.n_states, len(dense) // game.n_states))
            weights[:: max(3, game.n_states)] = 0
            expected = contrasts(dense, weights)
            for form in forms:
                assert form.shape == dense.shape
                for columns in ((), (1,), (3,)):
                    x = rng.normal(size=(game.n_states, *columns))
                    y = rng.normal(size=(len(dense), *columns))
                    np.testing.assert_allclose(form @ x, dense @ x, **CLOSE)
                    np.testing.assert_allclose(form.T @ y, dense.T @ y, **CLOSE)
                np.testing.assert_allclose(contrast_diagonal(form, weights), expected, **CLOSE)
        np.testing.assert_allclose(sparse.toarray(), by_action, **CLOSE)
        np.testing.assert_allclose(operator.T.T @ np.eye(game.n_states), by_action, **CLOSE)


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("zeros", [False, True])
def test_three_forms_agree(name, zeros):
    all_forms_agree(GAMES[name](), 3, zeros=zeros)


@st.composite
def factored_games(draw: st.DrawFn) -> MarkovGame:
    """Each agent moves one factor, alone or with others; sometimes no agent moves a factor."""
    n_actions = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    of = [draw(st.integers(0, len(n_actions) - 1)) for _ in n_actions]
    groups = [tuple(i for i, f in enumerate(of) if f == factor) for factor in sorted(set(of))]
    if draw(st.booleans()):
        groups.append(())
    groups = draw(st.permutations(groups))
    sizes = st.tuples(st.integers(1, 4), st.integers(1, 3))
    return factored(n_actions, [(agents, *draw(sizes)) for agents in groups])


@settings(max_examples=60)
@given(game=factored_games(), seed=st.integers(0, 2**16), zeros=st.booleans())
def test_three_forms_agree_on_any_factored_game(game, seed, zeros):
    all_forms_agree(game, seed, zeros=zeros)


def test_the_agents_own_policy_is_not_read():
    game = GAMES["two move one"]()
    policies = policies_of(game, 0)
    changed = [np.full_like(policies[0], np.nan), *policies[1:]]
    x = np.random.default_rng(0).normal(size=game.n_states)
    np.testing.assert_array_equal(
        averaged_dynamics(game, policies, 0) @ x, averaged_dynamics(game, changed, 0) @ x
    )


def test_inputs_of_other_layouts_and_types_are_taken_as_they_are():
    game = GAMES["slip"]()
    operator = averaged_dynamics(game, policies_of(game, 1), 1)
    wide = np.random.default_rng(0).normal(size=(3, 2 * game.n_states))
    strided = wide.T[::2]
    strided.flags.writeable = False
    np.testing.assert_array_equal(operator @ strided, operator @ strided.copy())
    whole = np.arange(game.n_states)
    np.testing.assert_array_equal(operator @ whole, operator @ whole.astype(float))


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("zeros", [False, True])
def test_the_bytes_of_sparse_transitions_are_not_underestimated(name, zeros):
    game = GAMES[name]()
    policies = policies_of(game, 0, zeros=zeros)
    for agent in range(game.n_agents):
        transition = averaged_transition(game, policies, agent)
        both = transition, policy_transition(transition, policies[agent])
        taken = sum(one.data.nbytes + one.indices.nbytes + one.indptr.nbytes for one in both)
        assert taken <= sparse_bytes(game, agent)


def test_the_form_is_chosen_by_size(monkeypatch):
    game = GAMES["grid"]()
    policies = policies_of(game, 0)
    needed = sparse_bytes(game, 0)
    monkeypatch.setattr(soft, "SPARSE_BYTES", 9 * needed)
    assert not isinstance(transition_under(game, policies, 0, copies=9), AveragedDynamics)
    assert isinstance(transition_under(game, policies, 0, copies=10), AveragedDynamics)


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("discount", [0.0, 0.9, 0.99])
def test_soft_evaluation_is_the_same_by_every_solver(name, discount, monkeypatch):
    game = GAMES[name]()
    policies = policies_of(game, 4)
    for agent in range(game.n_agents):
        rules = {"discount": discount, "temperature": 2.0}
        dense_q, dense_value = soft_evaluation(game, policies, agent, **rules)
        size = 1 + np.abs(dense_value).max()
        for constant in ("DENSE_STATES", "SPARSE_BYTES"):
            with monkeypatch.context() as patch:
                patch.setattr(soft, constant, 0)
                q, value = soft_evaluation(game, policies, agent, **rules)
            np.testing.assert_allclose(value, dense_value, rtol=0, atol=1e-10 * size)
            np.testing.assert_allclose(q, dense_q, rtol=0, atol=1e-10 * size)


def cycle(n_states: int) -> AveragedDynamics:
    """A lone agent that is led around a circle."""
    game = factored([1], [((0,), n_states, 1)])
    factor = game.factors[0]
    ring = np.roll(np.arange(n_states), -1).reshape(factor.successors.shape)
    game = MarkovGame((1,), (type(factor)((0,), ring, factor.probabilities),), 0)
    return averaged_dynamics(game, [np.ones((n_states, 1))], 0)


@pytest.mark.parametrize("discount", [0.5, 0.9, 0.99])
def test_a_sum_along_a_circle_has_a_closed_form(discount):
    """A point of gain that is met again every 40 steps: no spectrum is harder for Krylov."""
    n = 40
    gain = np.zeros(n)
    gain[0] = 1.0
    value = iterated_sum(cycle(n), gain, discount=discount, residual=1e-12)
    steps = (n - np.arange(n)) % n
    np.testing.assert_allclose(value, discount**steps / (1 - discount**n), rtol=1e-9, atol=1e-11)


def test_no_gain_no_value():
    transition = cycle(5)
    for form in (transition, transition.sparse()):
        np.testing.assert_array_equal(
            iterated_sum(form, np.zeros(5), discount=0.9, residual=1e-12), np.zeros(5)
        )
        np.testing.assert_array_equal(discounted_sum(form, np.zeros(5), discount=0.9), np.zeros(5))


@pytest.mark.parametrize("residual", [1e-3, 1e-8, 1e-12])
def test_the_residual_asked_for_is_reached(residual):
    game = GAMES["walls"]()
    policies = policies_of(game, 6)
    onward = averaged_dynamics(game, policies, 0).under(policies[0])
    gain = np.random.default_rng(0).normal(size=game.n_states)
    for form in (onward, onward.T):
        value = iterated_sum(form, gain, discount=0.95, residual=residual)
        left = gain + 0.95 * (form @ value) - value
        assert np.linalg.norm(left) <= residual * np.linalg.norm(gain)


def test_a_sum_that_does_not_converge_names_the_residual_reached():
    game = GAMES["slip"]()
    policies = policies_of(game, 7)
    onward = averaged_dynamics(game, policies, 0).under(policies[0])
    gain = np.random.default_rng(1).normal(size=game.n_states)
    with pytest.raises(ArithmeticError, match=r"residual \d\.\de-1[5-7], allowed 0\.0e\+00"):
        iterated_sum(onward, gain, discount=0.9, residual=0.0)
    gain[3] = np.nan
    with pytest.raises(ArithmeticError, match="did not converge"):
        iterated_sum(onward, gain, discount=0.9, residual=1e-12)
