"""Identification by the baselines from exact learners on the paper's 3x3 game.

The numbers of unidentified directions follow from the game: a fixed transition leaves shaping by
any function of the 81 joint states free; and where the cells move independently, differences
between an agent's own actions span 8 directions for each of the other's 9 cells, so that 72 of 81
values of a reward of the state are determined.
"""

from __future__ import annotations

import numpy as np
import pytest
from recovery_cases import recovered_exactly

from malfl_algos.observers.lfl import Lfl
from malfl_algos.observers.log_policy import LogPolicy
from malfl_algos.observers.maxent_irl import MaxEntIrl
from malfl_algos.observers.paper import MaLflOwnAction, MaLflState

SETTINGS = {"discount": 0.9, "temperature": 3.0}
FAMILIES = ["homogeneous", "heterogeneous"]


def correlation(result, game, index):
    reward = result.rewards[game.agents[index]]
    by_state = reward.mean(axis=tuple(range(1, reward.ndim)))
    return np.corrcoef(by_state, game.reward(index))[0, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_fixed_dynamics_leave_shaping_free_and_do_not_fit(paper_game, family):
    game = paper_game(family)
    for single, multi, rank in [
        (Lfl(), MaLflOwnAction(), 405 - 81),
        (Lfl(reward_model="state"), MaLflState(), 72),
    ]:
        blind, seeing = recovered_exactly(single, game), recovered_exactly(multi, game)
        for agent in game.agents:
            assert blind.diagnostics[agent]["rank"] == rank
            assert seeing.diagnostics[agent]["rank"] > rank
            assert blind.diagnostics[agent]["residual"] > 1e-3
            assert seeing.diagnostics[agent]["residual"] < 1e-8


@pytest.mark.parametrize("family", FAMILIES)
def test_seventy_two_directions_show_in_the_last_policy(paper_game, family):
    game = paper_game(family)
    result = recovered_exactly(MaxEntIrl(), game)
    for agent in game.agents:
        assert result.diagnostics[agent]["rank"] == 72
        assert "9 of 81 directions are unidentified" in result.diagnostics[agent]["identification"]


@pytest.mark.parametrize("family", FAMILIES)
def test_correlations_with_the_ground_truth(paper_game, family):
    """Agents that converged are nearly softly optimal; their log policy is not their reward."""
    game = paper_game(family)
    maxent, log_policy = recovered_exactly(MaxEntIrl(), game), recovered_exactly(LogPolicy(), game)
    for index in range(2):
        assert correlation(maxent, game, index) > 0.97
        assert correlation(log_policy, game, index) < 0.5
        divergence = maxent.diagnostics[game.agents[index]]["divergence_from_observed"]
        assert 0 <= divergence < 1e-4


@pytest.mark.parametrize(
    "family", ["homogeneous", pytest.param("heterogeneous", marks=pytest.mark.slow)]
)
def test_after_one_improvement_the_agents_are_not_softly_optimal(paper_game, family):
    """The assumption of maxent-irl is wrong for agents that still learn, and its fit shows this."""
    game = paper_game(family)
    early, late = (recovered_exactly(MaxEntIrl(), game, n_stages=n) for n in (2, 10))
    for agent in game.agents:
        assert (
            early.diagnostics[agent]["divergence_from_observed"]
            > 10 * late.diagnostics[agent]["divergence_from_observed"]
        )
