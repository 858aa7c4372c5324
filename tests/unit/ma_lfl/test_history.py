"""The learning history and its derivatives, against finite differences and soft evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from exact import exact_policies
from factored_cases import GAMES, factored

from malfl_algos.ma_lfl import history, history_slopes
from malfl_algos.ma_lfl.history import Followed, HistoryData, follow
from malfl_algos.ma_lfl.history_fit import fit_history, moves_of_dynamics, split
from malfl_algos.ma_lfl.history_search import STEP_SIZES, rule_of, searched
from malfl_algos.ma_lfl.history_settings import Prior, climb, kernels, uniform_start
from malfl_algos.ma_lfl.history_slopes import sensitivities
from malfl_algos.ma_lfl.learner_models import ExpectedTd
from malfl_algos.ma_lfl.low_rank_priors import LEVEL, Kernel, basis_of
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_env import MarkovGame, grid_world_v0, markov_game

ALPHA, GAMMA = 0.7, 0.8


def history_of(game: MarkovGame, *, visits: float = 40.0, **given: object) -> HistoryData:
    rng = np.random.default_rng(3)
    seen = rng.random((3, game.n_states)) < 0.7
    seen[0] = True
    shared = visits * rng.random((3, game.n_states)) * seen
    counts = [
        np.round(shared[..., None] * rng.dirichlet(np.ones(n), size=shared.shape))
        for n in game.n_actions
    ]
    # every agent has the same visits: the last action takes the difference
    total = counts[0].sum(axis=-1)
    for own in counts[1:]:
        own[..., -1] += total - own.sum(axis=-1)
        np.maximum(own, 0, out=own)
    first = [np.full((game.n_states, n), -np.log(n)) for n in game.n_actions]
    return HistoryData(
        game,
        counts,
        first,
        [None] * game.n_agents,
        GAMMA,
        ALPHA,
        **given,  # type: ignore[arg-type]
    )


def td_history_of(game: MarkovGame, *, retained: float) -> HistoryData:
    rng = np.random.default_rng(5)
    seen = rng.random((3, game.n_states, *game.n_actions)) < 0.6
    joint = rng.poisson(15.0, size=seen.shape) * seen
    stages = [StageArrays(own) for own in joint]
    counts = [
        np.stack([own.action_counts(index) for own in stages]).astype(float)
        for index in range(game.n_agents)
    ]
    learner = ExpectedTd(game, "state", GAMMA, ALPHA, step_size=0.1)
    return replace(history_of(game, retained=retained), counts=counts, td=learner, stages=stages)


def predictions(
    data: HistoryData, rewards: list[np.ndarray], noise: float, held: Followed | None
) -> np.ndarray:
    width = max(data.game.n_actions)
    rows = [
        np.pad(one.x, ((0, 0), (0, width - one.x.shape[1])))
        for stage in follow(data, rewards, noise, horizon=3, held=held).stages
        for one in stage.predicted
    ]
    return np.concatenate(rows)


@pytest.mark.parametrize("learner", ["exact", "td"])
@pytest.mark.parametrize("noise", [1e-6, 0.2])
@pytest.mark.parametrize("retained", [0.0, 0.4])
@pytest.mark.parametrize("name", ["three agents slip", "two kinds"])
def test_derivatives_are_those_of_finite_differences(name, retained, noise, learner, monkeypatch):
    monkeypatch.setattr(history, "VALUE_ERROR", 1e-12)
    monkeypatch.setattr(history_slopes, "SLOPE_ERROR", 1e-5)
    game = (
        factored([2, 3], [((0, 1), 6, 2)]) if name == "two kinds" else GAMES[name]()
    ).without_rewards()
    make = td_history_of if learner == "td" else history_of
    data = make(game, retained=retained)
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(game.n_states, 2)) for _ in range(game.n_agents)]
    weights = rng.normal(size=2 * game.n_agents)
    followed = follow(data, split(features, weights), noise, horizon=3)
    held = followed if learner == "td" else None  # the derivatives are those at fixed variances
    found = sensitivities(data, followed, features, noise)
    for place in range(len(weights)):
        step = np.zeros_like(weights)
        step[place] = 1e-4
        ends = [
            predictions(data, split(features, weights + way * step), noise, held) for way in (1, -1)
        ]
        wanted = (ends[0] - ends[1]) / 2e-4
        assert found[..., place] == pytest.approx(wanted, abs=2e-4 * max(1, np.abs(wanted).max()))


def test_without_noise_the_history_is_that_of_exact_learners(paper_game):
    game = paper_game(size=2)
    policies = exact_policies(game, 4, discount=GAMMA, temperature=ALPHA)
    data = history_of(game.without_rewards())
    rewards = [game.reward(agent) for agent in range(2)]
    followed = follow(data, rewards, 1e-12, horizon=3)
    for number, stage in enumerate(followed.stages):
        for index, following in enumerate(stage.following):
            assert np.exp(following) == pytest.approx(policies[number + 1][index], abs=1e-6)


def test_known_policies_are_taken_as_they_are(paper_game):
    game = paper_game(size=2).without_rewards()
    data = history_of(game)
    rng = np.random.default_rng(1)
    known = rng.dirichlet(np.ones(5), size=(3, game.n_states))
    followed = follow(
        HistoryData(game, data.counts, data.first, [known, None], GAMMA, ALPHA),
        [rng.normal(size=game.n_states)] * 2,
        0.1,
        horizon=3,
    )
    assert np.exp(followed.stages[1].log_policies[0]) == pytest.approx(known[1])


def test_other_dynamics_move_the_weights_to_first_order():
    games = [
        markov_game(grid_world_v0.parallel_env(size=2, slip=slip)).without_rewards()
        for slip in (0.3, 0.32)
    ]
    rng = np.random.default_rng(0)
    data = history_of(games[0])
    played = follow(data, list(rng.normal(size=(2, 16))), 1e-12, horizon=2).stages[0].following
    counts = [
        np.stack([np.full((16, 5), 100.0), rng.multinomial(2000, np.exp(own))]) for own in played
    ]
    basis = basis_of(cells(2), most=16)
    prior = Prior(basis, kernels("iid", basis), 2, GAMMA)
    datas = [replace(data, game=game, counts=counts) for game in games]
    here, there = (fit_history(own, prior, horizon=2) for own in datas)
    moves = moves_of_dynamics(datas[0], prior, here, games)
    same, moved = (here.posterior.covariance() @ moves).T
    assert same == pytest.approx(np.zeros_like(same), abs=1e-6)
    wanted = there.posterior.mean - here.posterior.mean
    level = np.arange(len(wanted)) % 17 == 16
    assert here.setting == there.setting
    assert np.corrcoef(moved[~level], wanted[~level])[0, 1] > 0.98
    assert np.linalg.norm(moved[~level]) == pytest.approx(np.linalg.norm(wanted[~level]), rel=0.2)


def cells(size: int) -> np.ndarray:
    """Row and column of two agents on a board, in every joint state."""
    return np.array(np.unravel_index(np.arange(size**4), (size,) * 4), float).T


def covariance_of(kernel: Kernel, points: np.ndarray) -> np.ndarray:
    gaps = np.abs(points[:, None] - points[None]) / kernel.length
    factors = np.exp(-(gaps**2) / 2)
    if kernel.form == "matern":
        factors = (1 + np.sqrt(3) * gaps) * np.exp(-np.sqrt(3) * gaps)
    factors = 1 - kernel.varied + kernel.varied * factors
    return kernel.share * factors.prod(axis=2) + (1 - kernel.share) * np.eye(len(points))


@pytest.mark.parametrize("share", [0.0, 0.6, 0.97])
def test_complete_functions_have_the_covariance_of_the_kernel(share):
    points = np.random.default_rng(0).normal(size=(12, 3))
    basis, kernel = basis_of(points, most=12), Kernel(1.3, share)
    features = basis.functions @ basis.root(kernel)
    assert features @ features.T == pytest.approx(covariance_of(kernel, points) + LEVEL**2)
    assert not basis.left_out(kernel).any()


@pytest.mark.parametrize("board", [True, False])
def test_functions_keep_the_projection_of_the_covariance_and_say_what_they_leave_out(board):
    points = cells(3) if board else np.random.default_rng(0).normal(size=(80, 3))
    basis, kernel = basis_of(points, most=30), Kernel(2.0, 1.0, "matern", 0.6)
    columns = np.linalg.qr(basis.functions[:, :-1])[0]
    projection = columns @ columns.T
    wanted = projection @ covariance_of(kernel, points) @ projection
    features = basis.functions[:, :-1] @ basis.root(kernel)[:-1, :-1]
    assert features @ features.T == pytest.approx(wanted, abs=1e-6)
    assert basis.left_out(kernel) == pytest.approx(np.maximum(1 - np.diag(wanted), 0), abs=1e-6)
    assert 0 < basis.left_out(kernel).mean() < 0.5


def test_few_functions_are_of_few_coordinates_and_leave_out_little():
    few, many = (basis_of(cells(4), most=most) for most in (30, 200))
    assert (few.varied, many.varied) == (0.3, 1.0)
    of_all = few.left_out(Kernel(2.0, 1.0, "matern")).mean()
    assert few.left_out(Kernel(2.0, 1.0, "matern", few.varied)).mean() < of_all / 3


def test_functions_do_not_depend_on_the_order_of_agents_and_states():
    points = cells(3)
    exchanged = points[:, [2, 3, 0, 1]]
    shuffled = np.random.default_rng(0).permutation(len(points))
    for most in (7, 20, 33):
        spans = [
            basis_of(own, most=most).functions for own in (points, exchanged, points[shuffled])
        ]
        here, there, elsewhere = (own @ np.linalg.pinv(own) for own in spans)
        assert there == pytest.approx(here)
        assert elsewhere == pytest.approx(here[np.ix_(shuffled, shuffled)])


def test_a_climb_finds_the_peak_from_either_side():
    grid = list(range(9))
    for start in (0, 4, 8, 30):
        found, tried = climb(lambda x: -((x - 6) ** 2), grid, start=start)
        assert found == 6
        assert max(tried.values()) == tried[6]


def test_uniform_policies_are_told_from_others():
    rng = np.random.default_rng(0)
    uniform = rng.multinomial(200, np.full(4, 0.25), size=30).astype(float)
    other = rng.multinomial(200, [0.35, 0.25, 0.2, 0.2], size=30).astype(float)
    assert uniform_start([uniform, uniform])
    assert not uniform_start([uniform, other])


def test_a_search_compares_learners_at_their_best_settings_with_all_functions():
    game = GAMES["three agents slip"]().without_rewards()
    data = td_history_of(game, retained=0.0)

    def evidence(own: HistoryData) -> float:
        if own.td is None:
            return 10.0 - abs(own.retained - 0.4)
        return -abs(own.td.step_size - 0.3) - abs(own.retained - 0.2)

    def compared(own: HistoryData) -> float:
        return evidence(own) + (20.0 if own.td is not None else 0.0)

    def found(**changed: object) -> tuple[HistoryData, dict]:
        given = {"learners": [None, data.td], "step_sizes": STEP_SIZES, "shares": [0.0, 0.2, 0.4]}
        return searched(data, evidence, compared, **{**given, **changed})

    chosen, told = found()
    assert (rule_of(chosen), chosen.td.step_size, chosen.retained) == ("td", 0.3, 0.2)
    assert told["rule"] == {"exact": 10.0, "td": 20.0}
    assert max(told["step_size"], key=lambda pair: pair[1])[0] == 0.3
    assert max(told["improvement"], key=lambda pair: pair[1])[0] == 0.2
    alone, told = found(learners=[None], shares=[0.6])
    assert (rule_of(alone), alone.retained, told) == ("exact", 0.6, {})
    given, told = found(learners=[data.td], step_sizes=[0.05], shares=[0.0])
    assert (given.td.step_size, told) == (data.td.step_size, {})
