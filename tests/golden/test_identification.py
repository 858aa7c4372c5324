"""Identification from exact learners on the paper's 3x3 game.

The expected ranks are counts of independent directions in the stacked system of the game, found by
a dense singular value decomposition in an independent prototype.
"""

from __future__ import annotations

import numpy as np
import pytest
from exact import exact_policies
from recovery_cases import recovered_exactly

from malfl_algos.ma_lfl.recovery import reward_targets
from malfl_algos.observers.paper import MaLfl, MaLflOwnAction, MaLflState
from malfl_algos.soft import averaged_transition, log_soft_improvement, soft_evaluation
from malfl_algos.trace import LearningTrace, Stage

SETTINGS = {"discount": 0.9, "temperature": 3.0}
FAMILIES = ["homogeneous", "heterogeneous"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_stages", [2, 3, 10])
@pytest.mark.parametrize("observer", [MaLfl(), MaLflOwnAction(), MaLflState()])
def test_the_regression_fits_exact_learners_exactly(paper_game, family, n_stages, observer):
    result = recovered_exactly(observer, paper_game(family), n_stages)
    for agent in ("agent_0", "agent_1"):
        assert result.diagnostics[agent]["residual"] < 1e-8


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_stages", [3, 10])
def test_state_rewards_are_recovered_from_three_stages_on(
    paper_game, random_rewards, family, n_stages
):
    for game in (paper_game(family), random_rewards(paper_game(family), n_stages)):
        result = recovered_exactly(MaLflState(), game, n_stages)
        for index, agent in enumerate(game.agents):
            truth = game.reward(index) - game.reward(index).mean()
            np.testing.assert_allclose(result.rewards[agent], truth, atol=1e-6)
            assert np.corrcoef(result.rewards[agent], truth)[0, 1] > 0.9999
            assert result.diagnostics[agent]["identification"] == (
                "identified up to one additive constant"
            )


@pytest.mark.parametrize("family", FAMILIES)
def test_rank_of_state_rewards(paper_game, family):
    for n_stages, rank in [(2, 72), (3, 80), (10, 80)]:
        result = recovered_exactly(MaLflState(), paper_game(family), n_stages)
        assert [result.diagnostics[a]["rank"] for a in result.rewards] == [rank, rank]


@pytest.mark.parametrize("n_stages", [3, 4, 10])
def test_nine_directions_of_own_action_rewards_are_free(paper_game, random_rewards, n_stages):
    for game in (
        paper_game("homogeneous"),
        paper_game("heterogeneous"),
        random_rewards(paper_game(), 0),
    ):
        result = recovered_exactly(MaLflOwnAction(), game, n_stages)
        for agent in game.agents:
            diagnostics = result.diagnostics[agent]
            assert (diagnostics["n_unknowns"], diagnostics["n_unidentified"]) == (405, 9)


def test_756_directions_of_joint_rewards_are_free(paper_game):
    diagnostics = recovered_exactly(MaLfl(), paper_game("heterogeneous"), 10).diagnostics["agent_0"]
    assert (diagnostics["n_unknowns"], diagnostics["n_unidentified"]) == (2025, 756)


def test_the_reward_of_smallest_norm_is_not_the_ground_truth(paper_game):
    """The fit is exact but the correlation is not 1, because some directions are unidentified."""
    game = paper_game("heterogeneous")
    own = recovered_exactly(MaLflOwnAction(), game, 10).rewards["agent_0"].mean(axis=(1, 2))
    assert np.corrcoef(own, game.reward(0))[0, 1] == pytest.approx(0.92, abs=0.01)
    joint = recovered_exactly(MaLfl(), game, 10).rewards["agent_0"].mean(axis=(1, 2))
    assert 0.6 < np.corrcoef(joint, game.reward(0))[0, 1] < 0.95


def test_shaping_does_not_change_the_targets(paper_game, random_rewards):
    """r + phi(s) - gamma E[phi(s') | s, a] gives the same policies, hence the same targets."""
    game = random_rewards(paper_game(), 1)
    phi = np.random.default_rng(2).standard_normal((2, game.n_states)) * 10
    shaped = game.with_rewards(
        [
            (game.reward(i) + phi[i])[:, None, None] - 0.9 * phi[i][game.next_states]
            for i in range(2)
        ]
    )
    plain, moved = (exact_policies(g, 5, **SETTINGS) for g in (game, shaped))
    for stage in range(4):
        for agent in range(2):
            targets = [
                reward_targets(
                    stages[stage][agent],
                    stages[stage + 1][agent],
                    averaged_transition(game, stages[stage], agent),
                    **SETTINGS,
                )
                for stages in (plain, moved)
            ]
            np.testing.assert_allclose(targets[0], targets[1], atol=1e-8)
            assert np.ptp(targets[0]) > 1


def test_targets_are_the_reward_plus_potentials(paper_game, random_rewards):
    """(12) with the potential that the derivation names, g_h = -alpha log Z_h."""
    game = random_rewards(paper_game(slip=0.2), 3)
    stages = exact_policies(game, 2, **SETTINGS)
    q, _ = soft_evaluation(game, stages[0], 0, **SETTINGS)
    improved = np.exp(log_soft_improvement(q, temperature=3.0))
    potential = -3.0 * np.log(np.exp(q / 3.0).sum(axis=1))
    step = averaged_transition(game, stages[0], 0)
    targets = reward_targets(stages[0][0], improved, step, **SETTINGS)
    left = game.reward(0)[:, None] + potential[:, None]
    left = left - 0.9 * (step @ potential).reshape(-1, 5)
    np.testing.assert_allclose(left, targets, atol=1e-9)


def test_temperature_only_scales_the_reward(paper_game):
    game = paper_game("heterogeneous")
    stages = exact_policies(game, 4, **SETTINGS)
    ones = Stage(np.ones((81, 5, 5), dtype=np.int64))
    known = {f"agent_{i}": np.stack([stage[i] for stage in stages]) for i in range(2)}
    one, three = (
        MaLflState().recover(
            LearningTrace((ones,) * 4),
            game=game.without_rewards(),
            discount=0.9,
            temperature=temperature,
            known_policies=known,
        )
        for temperature in (1.0, 3.0)
    )
    np.testing.assert_allclose(one.rewards["agent_0"] * 3, three.rewards["agent_0"], atol=1e-8)
