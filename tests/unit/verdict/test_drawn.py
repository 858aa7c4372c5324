"""The arrays that figures of a verdict are drawn from, against closed forms."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax
from verdict_rows import sums_of

from malfl_algos.contract import Verdict
from malfl_algos.recovered import RecoveredRewards
from malfl_algos.scores.agreement import mean_removed_sd
from malfl_algos.verdict.drawn import EDGES, calibration, half_rewards, predicted_log_policies
from malfl_algos.verdict.halves import Improvement, halves, mean

RNG = np.random.default_rng(0)
N_STATES, N_ACTIONS, N_UNKNOWNS = 12, 3, 4
PRIOR = np.eye(N_UNKNOWNS) / 100
THETA = np.array([1.0, -0.5, 0.25, 2.0])


def improvements(n: int = 6) -> tuple[list[Improvement], list[np.ndarray]]:
    """Rows without noise of a learner that keeps 0.3 of its log policy, and the policies after."""
    log, rows, logs = np.zeros((N_STATES, N_ACTIONS)), [], []
    small = np.full((N_STATES, N_ACTIONS), 1e-8)
    for _ in range(n):
        k = RNG.normal(size=(N_STATES, N_ACTIONS, N_UNKNOWNS))
        log = log_softmax(0.3 * log + k @ THETA, axis=-1)
        rows.append(Improvement(k, k @ THETA, small, small, small))
        logs.append(log + RNG.normal(size=(N_STATES, 1)))  # a constant per state says nothing
    return rows, logs


def test_policies_without_noise_are_predicted_exactly_from_the_other_half():
    rows, logs = improvements()
    found = predicted_log_policies(rows, logs, PRIOR, [sums_of(own) for own in rows])
    np.testing.assert_allclose(found, log_softmax(np.stack(logs), axis=-1), atol=1e-5)


def test_an_improvement_is_not_predicted_from_itself():
    rows, logs = improvements()
    parts = [sums_of(own) for own in rows]
    before = predicted_log_policies(rows, logs, PRIOR, parts)
    changed = Improvement(rows[0].coefficients, rows[0].response + 3, *[rows[0].counting] * 3)
    changed.response[:, 0] -= 6
    logs[0] = logs[0] + changed.response - rows[0].response  # what is kept stays the same
    after = predicted_log_policies(
        [changed, *rows[1:]], logs, PRIOR, [sums_of(changed), *parts[1:]]
    )
    np.testing.assert_allclose(after[[0, 2, 4]], before[[0, 2, 4]], atol=1e-9)
    assert np.abs(after[1] - before[1]).max() > 0.1


def test_calibration_counts_every_action_once_and_a_right_prediction_is_calibrated():
    policies = RNG.dirichlet(np.ones(N_ACTIONS), (2, N_STATES))
    visits = RNG.integers(0, 4000, (2, N_STATES))
    counts = np.array(
        [
            [RNG.multinomial(n, p) for n, p in zip(*own, strict=True)]
            for own in zip(visits, policies, strict=True)
        ]
    ).astype(float)
    bins, divergence = calibration(counts, np.log(policies))
    assert bins.shape == (len(EDGES) - 1, 3)
    steps = counts.sum()
    np.testing.assert_allclose(bins.sum(axis=0), [N_ACTIONS * steps, steps, steps])
    used = bins[:, 0] > 0
    share = bins[used, 1] / bins[used, 0]
    assert np.all((share >= np.array(EDGES[:-1])[used]) & (share <= np.array(EDGES[1:])[used]))
    sd = np.sqrt(bins[used, 0] * share * (1 - share))
    assert np.all(np.abs(bins[used, 2] - bins[used, 1]) < 4 * sd)
    # 2 n KL is about chi-squared with (actions - 1) degrees of freedom in every state
    degrees = (visits > 0).sum() * (N_ACTIONS - 1)
    assert 0.4 < 2 * steps * divergence / degrees < 1.8
    assert calibration(counts, np.log(policies[:, ::-1]))[1] > 20 * divergence


def test_half_rewards_have_the_mean_removed_posterior_of_each_half():
    rows, _ = improvements()
    parts = [sums_of(own, np.ones((N_STATES, N_ACTIONS))) for own in rows]
    found = half_rewards(parts, PRIOR, lambda theta: theta[:3])
    for own, (reward, sd) in zip(halves(parts), found, strict=True):
        centre = mean(own, PRIOR)[:3]
        np.testing.assert_allclose(reward, centre - centre.mean())
        covariance = np.linalg.inv(own.information + PRIOR)[:3, :3]
        np.testing.assert_allclose(sd, mean_removed_sd(covariance))


def test_arrays_are_kept_with_a_result(tmp_path):
    arrays = {
        "calibration": np.ones((2, len(EDGES) - 1, 3)),
        "divergence": np.array([0.1, 0.2]),
        "halves": np.arange(12.0).reshape(2, 2, 3),
        "states": np.arange(3),
    }
    own = Verdict("doubt", arrays=arrays)
    made = RecoveredRewards({"a": np.zeros(3)}, verdict=Verdict("doubt", agents={"a": own}))
    made.save(tmp_path / "result")
    found = RecoveredRewards.load(tmp_path / "result").verdict
    assert found == made.verdict
    assert {*found.agents["a"].arrays} == {*arrays}
    np.testing.assert_array_equal(found.agents["a"].arrays["halves"], arrays["halves"])
