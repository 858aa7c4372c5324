"""Rewards from moves: closed forms, noise that is new in every stage, and the observer itself."""

import numpy as np
import pytest
from gymnasium import spaces
from scipy.special import log_softmax
from scipy.stats import multivariate_normal

import malfl_algos
from malfl_algos import LearningTrace, Stage, Transitions
from malfl_algos.networks.gathering import Gathered, Steps
from malfl_algos.networks.moves import SCALING, Move, fit_moves, moves_of
from malfl_algos.networks.policy_gradients import StageGradient, advantages, stage_gradient
from malfl_algos.networks.recovered_functions import RecoveredFunctions
from malfl_algos.networks.relations import Group, relation_names, relations, with_relations
from malfl_algos.plugins import load_observer
from malfl_algos.verdict.moved import judge_moves
from malfl_env.errors import InputError

WEIGHTS = np.array([1.0, -2.0, 0.0, 0.5])


def moves(rng, *, noise, n_stages=8):
    """Moves along random advantages; the noise is a smooth function, new in every stage."""
    found = []
    for _ in range(n_stages):
        design = rng.normal(size=(300, 4))
        change = design @ (WEIGHTS + noise * rng.normal(size=4))
        found.append(Move(design.T @ design, design.T @ change, change @ change))
    return found


def test_exact_moves_give_the_weights():
    fit = fit_moves(moves(np.random.default_rng(0), noise=0.0), np.eye(4))
    np.testing.assert_allclose(fit.weights / fit.weights[0], WEIGHTS, atol=1e-3)
    np.testing.assert_allclose(fit.agreement, 1.0, atol=1e-3)


def test_the_evidence_is_that_of_the_projections():
    """Second route: the projections of all moves as rows of one regression with iid noise."""
    own = moves(np.random.default_rng(2), noise=1.0, n_stages=3)
    rows, targets = [], []
    for one in own:
        values, vectors = np.linalg.eigh(one.second)
        rows.append((vectors * np.sqrt(values)).T)
        targets.append(vectors.T @ one.cross / np.sqrt(values))
    design, target = np.concatenate(rows), np.concatenate(targets)
    fit = fit_moves(own, SPREAD)
    noise = fit.covariance @ (design.T @ design + prior_of(fit, design))
    np.testing.assert_allclose(noise, noise[0, 0] * np.eye(4), atol=1e-9)
    variance = noise[0, 0] * (
        np.eye(len(target)) + design @ np.linalg.solve(prior_of(fit, design), design.T)
    )
    expected = multivariate_normal(np.zeros(len(target)), variance).logpdf(target)
    assert fit.log_evidence == pytest.approx(expected)


SPREAD = np.array(
    [[1.0, 0.8, 0.0, 0.0], [0.8, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.5], [0, 0, 0.5, 1]]
)


def prior_of(fit, design):
    precision = np.linalg.inv(SPREAD)
    return fit.ridge * np.trace(design.T @ design) / np.trace(precision) * precision


def stages_of(rng, *, scaling, n_stages=6, n=20):
    """Exact gradients and changes of a learner that scales coordinates by v^scaling.

    The pull of the entropy has another strength in every stage.
    """
    found = []
    for _ in range(n_stages):
        axes = np.linalg.qr(rng.normal(size=(n, n)))[0]
        v = np.logspace(0, -3, n)
        advantage, pull = rng.normal(size=(n, 4)), rng.normal(size=n)
        back = axes * np.sqrt(v)
        found.append(
            StageGradient(
                (axes * v) @ axes.T,
                back @ advantage,
                np.zeros((n, 4)),
                back @ pull,
                back @ (v**scaling * (advantage @ WEIGHTS + 3 * rng.normal() * pull)),
                1e-9,
            )
        )
    return found


def test_the_moves_of_a_learner_that_scales_its_gradient_give_the_weights(monkeypatch):
    monkeypatch.setattr("malfl_algos.networks.moves.NEIGHBOUR", 0.0)
    fit = fit_moves(moves_of(stages_of(np.random.default_rng(3), scaling=SCALING)), np.eye(4))
    np.testing.assert_allclose(fit.weights / fit.weights[0], WEIGHTS, atol=1e-3)
    fit = fit_moves(moves_of(stages_of(np.random.default_rng(3), scaling=2.0)), np.eye(4))
    assert np.abs(fit.weights / fit.weights[0] - WEIGHTS).max() > 0.05


def test_moves_do_not_depend_on_the_coordinates_of_the_parameters():
    stages = stages_of(np.random.default_rng(4), scaling=0.5)
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(20, 20)))[0]
    turned = [
        StageGradient(
            turn @ one.fisher @ turn.T,
            turn @ one.gradient,
            turn @ one.noise,
            turn @ one.entropy,
            turn @ one.change,
            one.floor,
        )
        for one in stages
    ]
    for one, other in zip(moves_of(stages), moves_of(turned), strict=True):
        np.testing.assert_allclose(one.second, other.second, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(one.cross, other.cross, rtol=1e-6, atol=1e-9)


def chain(goes_on=(1, 1, 1, 1, 1, 1)):
    """Two episodes: rows of observations 0 1 2 3, then 0 2 3 1."""
    return Steps(
        here=np.array([0, 1, 2, 0, 2, 3]),
        after=np.array([1, 2, 3, 2, 3, 1]),
        joint_actions=np.zeros((6, 1), dtype=np.int64),
        goes_on=np.array(goes_on, dtype=np.float64),
        which=np.arange(6),
        block=np.array([0, 0, 0, 1, 1, 1]),
        n_blocks=2,
    )


def test_advantages_are_discounted_sums_of_errors_within_episodes():
    rng = np.random.default_rng(6)
    values, paid, successor = (rng.normal(size=shape) for shape in ((4, 3), (4, 2), (3, 2)))
    for goes_on in ((1, 1, 1, 1, 1, 1), (1, 0, 1, 1, 1, 0)):
        steps = chain(goes_on)
        worth = values @ successor
        error = paid[steps.after] - worth[steps.here]
        error += 0.9 * steps.goes_on[:, None] * worth[steps.after]
        expected = error.copy()
        for t in (1, 0, 4, 3):
            expected[t] += 0.9 * 0.7 * steps.goes_on[t] * expected[t + 1]
        found = advantages(steps, values, paid, successor, discount=0.9, after=True, trace=0.7)
        np.testing.assert_allclose(found, expected)


def test_the_gradient_is_that_of_the_expected_sum_of_features():
    """Second route: finite differences, in a game of one step whose counts are exact."""
    rng = np.random.default_rng(7)
    psi, paid = rng.normal(size=(2, 3)), rng.normal(size=(4, 2, 1))
    policy = np.array([[0.75, 0.25], [0.5, 0.5]])
    here, action = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    counts = 8 * policy.ravel()
    visits = np.repeat(np.arange(4), counts.astype(int))
    place = np.concatenate([np.arange(n) for n in counts.astype(int)])
    steps = Steps(here, here, action[:, None], np.zeros(4), visits, place, int(place.max()) + 1)
    gathered = Gathered(np.zeros((2, 1), np.float32), (steps, steps), 0, (2,), None, 0)
    gains = paid[action, here][visits]
    found = stage_gradient(
        gathered, 0, (counts, counts), gains, lambda rows: psi[rows], lambda rows: policy[rows]
    )

    def expected(theta):
        logits = np.log(policy) + psi @ theta.reshape(2, 3).T
        chosen = np.exp(log_softmax(logits, axis=1))
        return 0.5 * sum((chosen[o] * paid[:2, o, 0]).sum() for o in (0, 1))

    slope = [(expected(1e-6 * e) - expected(-1e-6 * e)) / 2e-6 for e in np.eye(6)]
    np.testing.assert_allclose(found.gradient[:, 0], slope, atol=1e-8)
    np.testing.assert_allclose(found.change, 0.0, atol=1e-12)

    def entropy(theta):
        log_policy = log_softmax(np.log(policy) + psi @ theta.reshape(2, 3).T, axis=1)
        return -0.5 * (np.exp(log_policy) * log_policy).sum()

    slope = [(entropy(1e-6 * e) - entropy(-1e-6 * e)) / 2e-6 for e in np.eye(6)]
    np.testing.assert_allclose(found.entropy, slope, atol=1e-8)
    score = (np.eye(2)[action] - policy[here])[:, :, None] * psi[here][:, None]
    flat = score.reshape(4, 6)
    np.testing.assert_allclose(found.fisher, (flat * counts[:, None]).T @ flat / 16, atol=1e-12)


def test_the_error_bars_hold_though_the_noise_is_smooth():
    inside = []
    for seed in range(30):
        fit = fit_moves(moves(np.random.default_rng(seed), noise=1.5), np.eye(4))
        gap = fit.weights - WEIGHTS
        inside.append(np.abs(gap) < 2 * np.sqrt(np.diag(fit.covariance)))
    assert 0.88 <= np.mean(inside) <= 0.99


GOOD = {
    "agreement": [0.4, 0.5, 0.3, 0.4],
    "identified": 0.8,
    "expected": 0.9,
    "halves": 0.7,
    "halves_expected": 0.7,
    "members": [{"bounds_hit": []}],
}


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "believe"),
        ({"identified": 0.3}, "doubt"),
        ({"identified": 0.05}, "do not believe"),
        ({"expected": 0.7}, "doubt"),
        ({"expected": 0.5}, "do not believe"),
        ({"halves": 0.4}, "doubt"),
        ({"halves": 0.2}, "do not believe"),
        ({"halves": None}, "doubt"),
        ({"agreement": [0.4, -0.5, 0.3, 0.4]}, "doubt"),
        ({"agreement": [-0.4, -0.5, 0.3, 0.4]}, "do not believe"),
    ],
)
def test_the_verdict_follows_the_numbers(changed, word):
    assert judge_moves({**GOOD, **changed}).word == word


def test_relations_are_distances_and_do_not_depend_on_the_order_of_things():
    groups = (Group("marks", 1, 2), Group("mates", 5, 1, team=True))
    seen = np.array([[9.0, 3.0, 4.0, 0.0, 1.0, 0.0, 3.0]])
    found = dict(zip(relation_names(groups), relations(seen, groups)[0], strict=True))
    assert found["mean self and marks"] == pytest.approx((5 + 1) / 2)
    assert found["near self to marks"] == pytest.approx(1.0)
    assert found["mean marks and marks"] == pytest.approx(np.hypot(3, 3))
    # the nearest of the agent and its mate: sqrt(10) from the first mark, 1 from the second
    assert found["near marks to team"] == pytest.approx((np.sqrt(10) + 1) / 2)
    assert found["mean team and team"] == pytest.approx(3.0)
    swapped = seen[:, [0, 3, 4, 1, 2, 5, 6]]
    np.testing.assert_allclose(relations(swapped, groups), relations(seen, groups))


def walk(rng, n, bias):
    """A walk on a line of 9 cells: down, stay, up; the policy prefers the side of `bias`."""
    place = rng.integers(9, size=n)
    policy = np.exp(log_softmax(bias * (4 - place)[:, None] * np.array([-1.0, 0.0, 1.0]), axis=1))
    action = (rng.random(n)[:, None] > policy.cumsum(axis=1)).sum(axis=1)
    after = np.clip(place + action - 1, 0, 8)
    return place, action, after


def trace():
    rng, stages = np.random.default_rng(0), []
    for bias in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        place, action, after = walk(rng, 2000, bias)
        steps = Transitions(
            states=None,
            joint_actions=action[:, None].astype(np.int8),
            next_states=None,
            episode_ends=np.arange(2000) % 20 == 19,
            complete=False,
            observations={"a": np.stack([4.0 - place, 0 * place], 1).astype(np.float32)},
            next_observations={"a": np.stack([4.0 - after, 0 * after], 1).astype(np.float32)},
        )
        stages.append(Stage(transitions=steps))
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    return LearningTrace(tuple(stages), ("a",), (3,), (space,))


def test_the_observer_recovers_a_reward_of_the_distance(tmp_path):
    wide = with_relations(trace(), {"a": (Group("goal", 0, 1),)})
    observer = load_observer(
        "ma-lfl-network",
        form="moves",
        rewarded="after",
        reward_inputs=((0, 2),),
        learner_inputs=((0, 1),),
        widths=(16,),
        hidden=(16,),
        ensemble=1,
        epochs=10,
    )
    found = observer.recover(wide, game=None, discount=0.5, temperature=None)
    seen = np.stack([np.arange(-4.0, 5), np.zeros(9), np.abs(np.arange(-4.0, 5))], axis=1)
    reward = found.reward("a", seen.astype(np.float32), np.zeros((9, 1), dtype=np.int64))
    assert np.corrcoef(reward, -np.abs(np.arange(-4, 5)))[0, 1] > 0.9
    verdict = malfl_algos.judge(found, wide, game=None, discount=0.5, temperature=None)
    assert verdict.word == "believe"
    found.save(tmp_path / "found.npz")
    again = RecoveredFunctions.load(tmp_path / "found.npz")
    same = again.reward("a", seen.astype(np.float32), np.zeros((9, 1), dtype=np.int64))
    np.testing.assert_allclose(same, reward)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "moves", "reward_model": "joint"}, "form: moves needs reward_model: state"),
        ({"rewarded": "after"}, "learner_inputs and rewarded need form: moves"),
        ({"form": "moves", "reward_inputs": ((7,),), "epochs": 1}, "must be columns 0 to 1"),
        ({"form": "moves", "learner_inputs": ((),), "epochs": 1}, "learner_inputs of agent 0"),
        ({"form": "moves", "reward_inputs": ((0,), (1,)), "epochs": 1}, "the columns of 1 agents"),
        ({"form": "moves", "reward_inputs": ((1,),), "epochs": 1}, "no reward feature of agent 0"),
    ],
)
def test_bad_options_are_rejected(options, message):
    with pytest.raises(InputError) as fault:
        load_observer("ma-lfl-network", ensemble=1, **options).recover(
            trace(), game=None, discount=0.5, temperature=None
        )
    assert message in str(fault.value)


def test_bad_groups_are_rejected():
    for groups, message in (
        ({}, "a is missing"),
        ({"a": (Group("goal", 1, 1),)}, "the observation has 2"),
        ({"a": (Group("self", 0, 1),)}, "not self or team"),
    ):
        with pytest.raises(InputError, match=message):
            with_relations(trace(), groups)
