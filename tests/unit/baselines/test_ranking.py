"""Pairs of pieces of episodes, and the ranking that they give."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from malfl_algos.baselines import ranking
from malfl_algos.baselines.ranking import fit_ranking, pairs_of_counts, pairs_of_steps


def stages_of(lengths):
    """Every step is a row of its own; per stage and step its episode and its place in it."""
    rows, ends, where, first = [], [], [], 0
    for stage, own in enumerate(lengths):
        n_steps = sum(own)
        rows.append(np.arange(first, first + n_steps))
        ends.append(np.isin(np.arange(n_steps), np.cumsum(own) - 1))
        where += [(stage, episode, t) for episode, n in enumerate(own) for t in range(n)]
        first += n_steps
    return rows, ends, np.array(where), first


@pytest.mark.parametrize("length", [1, 4, 100])
def test_pairs_are_pieces_of_episodes(length):
    lengths = [[9, 3, 5], [4, 6], [7], [2, 2, 2, 8]]
    rows, ends, where, n_rows = stages_of(lengths)
    ends[3][-1] = False  # the last episode was cut off
    rng = np.random.default_rng(0)
    pairs = pairs_of_steps(rows, ends, n_rows=n_rows, n_pairs=500, length=length, rng=rng)
    seen, firsts = set(), set()
    for row in pairs.toarray():
        pieces = [where[np.flatnonzero(row == sign)] for sign in (-1, 1)]
        assert len(pieces[0]) == len(pieces[1]) > 0
        assert np.all(np.isin(row, (-1, 0, 1)))
        for piece in pieces:
            assert len(set(map(tuple, piece[:, :2]))) == 1  # one episode
            np.testing.assert_array_equal(np.diff(piece[:, 2]), 1)
        (early, one, first), (late, other, second) = pieces[0][0], pieces[1][0]
        assert early < late
        shorter = min(lengths[early][one], lengths[late][other])
        assert len(pieces[0]) == min(length, shorter)
        room = lengths[late][other] - len(pieces[1])
        assert second >= min(first, room)
        seen.add((early, one, late, other))
        firsts.add(first)
    n_episodes = [len(own) for own in lengths]
    assert len(seen) == sum(n_episodes[i] * n_episodes[j] for j in range(4) for i in range(j))
    assert len(firsts) > 3 or length == 100


def test_pairs_come_from_the_given_generator():
    rows, ends, _, n_rows = stages_of([[5, 5], [5, 5]])
    drawn = [
        pairs_of_steps(
            rows, ends, n_rows=n_rows, n_pairs=20, length=2, rng=np.random.default_rng(seed)
        ).toarray()
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.any(drawn[0] != drawn[2])


def test_pairs_of_counts_are_differences_of_shares():
    visits = np.array([[3.0, 1.0], [2.0, 2.0], [0.0, 10.0]])
    pairs = pairs_of_counts(visits, length=8)
    np.testing.assert_allclose(pairs.toarray(), [[-2, 2], [-6, 6], [-4, 4]])


@pytest.mark.parametrize("sparse", [True, False])
def test_the_fit_is_the_maximum(sparse):
    """Against Newton's method on the same loss, from its definition."""
    rng = np.random.default_rng(3)
    design, ridge = rng.standard_normal((200, 6)) + 0.3, 2.0
    fit = fit_ranking(sp.csr_array(design) if sparse else design, ridge=ridge)
    weights = np.zeros(6)
    for _ in range(30):
        wrong = 1 / (1 + np.exp(design @ weights))
        slope = ridge * weights - design.T @ wrong
        curvature = ridge * np.eye(6) + (design.T * (wrong * (1 - wrong))) @ design
        weights = weights - np.linalg.solve(curvature, slope)
    np.testing.assert_allclose(fit.weights, weights, atol=1e-3 * np.abs(weights).max())
    margins = design @ weights
    assert fit.loss == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-4)
    assert fit.ranked == pytest.approx(np.mean(margins > 0), abs=0.01)
    assert fit.loss < np.log(2)


def test_ordered_returns_are_recovered():
    """Stages that visit better states more often: the reward and the order of the stages."""
    rng = np.random.default_rng(4)
    truth = rng.standard_normal(12)
    shares = np.exp(np.linspace(0, 1, 8)[:, None] * truth)
    shares /= shares.sum(axis=1, keepdims=True)
    rows = [rng.choice(12, size=4000, p=own) for own in shares]
    ends = [np.arange(1, 4001) % 40 == 0 for _ in shares]
    pairs = pairs_of_steps(
        rows, ends, n_rows=12, n_pairs=5000, length=20, rng=np.random.default_rng(5)
    )
    fit = fit_ranking(pairs, ridge=1.0)
    assert np.corrcoef(fit.weights, truth)[0, 1] > 0.95
    returns = shares @ fit.weights
    assert np.all(np.diff(returns) > 0)
    counted = fit_ranking(pairs_of_counts(shares, length=20), ridge=0.1)
    assert np.corrcoef(counted.weights, truth)[0, 1] > 0.85
    assert counted.ranked == 1


def test_what_does_not_converge_is_an_error(monkeypatch):
    monkeypatch.setattr(ranking, "ITERATIONS", 1)
    design = np.random.default_rng(6).standard_normal((50, 5)) + 1
    with pytest.raises(ArithmeticError, match=r"a gradient per pair of .* a larger ridge"):
        fit_ranking(design, ridge=1e-6)
