"""Rewards against values computed by hand, and the checks of the option `rewards`."""

from __future__ import annotations

import numpy as np
import pytest

from malfl_env.rewards import (
    FAMILIES,
    REWARD_NAMES,
    approach,
    avoid,
    family_rewards,
    grid_rewards,
    reward_table,
    state_rewards,
)
from malfl_env.rules import GridRules, grid_rules

RULES = grid_rules()


def family_tables(name: str, rules: GridRules = RULES) -> list[np.ndarray]:
    names = family_rewards(name, rules.n_agents)
    return [reward_table(entry, rules, index) for index, entry in enumerate(names)]


def test_two_agents_by_hand() -> None:
    # agent 0 in (0, 1), agent 1 in (2, 0); goal (2, 2): distances 3, 2 and 3 between them
    positions = np.array([[(0, 1), (2, 0)]])
    goals = RULES.goals
    assert approach(positions, 0, goals=goals).tolist() == [-3 - 3]
    assert approach(positions, 1, goals=goals).tolist() == [-2 - 3]
    assert avoid(positions, 0, goals=goals).tolist() == [-3 + 3]
    assert avoid(positions, 1, goals=goals).tolist() == [-2 + 3]


def test_three_agents_sum_over_the_others_and_have_own_goals() -> None:
    positions = np.array([[(0, 0), (0, 2), (3, 3)], [(1, 1), (1, 1), (1, 1)]])
    goals = [(3, 3), (0, 0), (3, 0)]
    assert avoid(positions, 0, goals=goals).tolist() == [-6 + 2 + 6, -4]
    assert avoid(positions, 1, goals=goals).tolist() == [-2 + 2 + 4, -2]
    assert approach(positions, 2, goals=goals).tolist() == [-3 - 6 - 4, -3]


def test_families() -> None:
    assert set(FAMILIES) == {"homogeneous", "heterogeneous"}
    assert set(REWARD_NAMES) == {"approach", "avoid"}
    assert family_rewards("homogeneous", 3) == ("avoid", "avoid", "avoid")
    assert family_rewards("heterogeneous", 2) == ("approach", "avoid")
    assert family_rewards("heterogeneous", 5) == (
        "approach",
        "avoid",
        "approach",
        "avoid",
        "approach",
    )


def test_the_families_differ_in_agent_0_alone() -> None:
    homogeneous, heterogeneous = family_tables("homogeneous"), family_tables("heterogeneous")
    correlation = np.corrcoef(homogeneous[0], heterogeneous[0])[0, 1]
    assert correlation == pytest.approx(0.10, abs=0.005)
    np.testing.assert_array_equal(homogeneous[1], heterogeneous[1])


def test_table_is_numbered_like_joint_states() -> None:
    table = reward_table("avoid", RULES, 1)
    # agent 0 in cell 2 = (0, 2), agent 1 in cell 7 = (2, 1): 1 from the goal, 3 apart
    assert table.shape == (81,)
    assert table[2 * 9 + 7] == -1 + 3


def test_tables_of_large_games_are_made_in_parts() -> None:
    rules = grid_rules(size=5, n_agents=4)  # 390625 joint states
    table = reward_table("avoid", rules, 2)
    states = [0, 65535, 65536, 390624, 200000]
    cells = np.stack(np.unravel_index(states, (25,) * 4), axis=-1)
    positions = np.stack(np.divmod(cells, 5), axis=-1)
    np.testing.assert_array_equal(table[states], avoid(positions, 2, goals=rules.goals))


def test_callable_gets_read_only_positions_and_its_agent() -> None:
    seen = []

    def own_row(positions: np.ndarray, agent_index: int) -> np.ndarray:
        seen.append((positions.dtype, positions.shape[1:], positions.flags.writeable))
        return positions[:, agent_index, 0]

    _, entry = grid_rewards(["avoid", own_row], RULES)
    table = reward_table(entry, RULES, 1)
    assert table.dtype == np.float64
    assert table.tolist() == [state % 9 // 3 for state in range(81)]
    assert set(seen) == {(np.dtype(np.int64), (2, 2), False)}


def test_arrays_are_copied_and_frozen() -> None:
    given = np.arange(81)
    joint = np.zeros((81, 5, 5))
    first, second = grid_rewards([given, joint], RULES)
    given[:] = -1
    assert first.tolist() == list(range(81))
    assert not first.flags.writeable
    assert second.shape == (81, 5, 5)
    assert joint.flags.writeable
    assert grid_rewards(np.zeros((2, 81)), RULES)[1].shape == (81,)


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (
            "homogenous",
            r"one of 'homogeneous', 'heterogeneous'; got 'homogenous' \(did you mean 'h",
        ),
        (
            "avoid",
            r"rewards must be a family name .* 'avoid' of all agents, pass \('avoid', 'avoid'\)",
        ),
        (["avoid"], r"one entry for each of the 2 agents, got 1 entries"),
        (["avoid"] * 3, r"got 3 entries"),
        (None, r"rewards must be .* got None"),
        ({"agent_0": "avoid", "agent_1": "avoid"}, r"rewards must be .* got {"),
        (np.array(3.0), r"rewards must be"),
        (["avoid", "aproach"], r"entry of agent_1 .* got 'aproach' \(did you mean 'approach'\?\)"),
        (["avoid", 3], r"entry of agent_1 must be a reward name, a callable or an array, got 3"),
        (["avoid", None], r"entry of agent_1 .* got None"),
        (["avoid", ["a", "b"]], r"entry of agent_1 must be a reward name"),
        (["avoid", [True] * 81], r"entry of agent_1 must be a reward name"),
        (["avoid", [[0.0], [0.0, 1.0]]], r"entry of agent_1 must be a reward name"),
        (
            [np.zeros(80), "avoid"],
            r"agent_0 must have shape \(81,\) or \(81, 5, 5\) .* got \(80,\)",
        ),
        ([np.zeros((81, 5)), "avoid"], r"got \(81, 5\)"),
        ([np.r_[np.zeros(80), np.nan], "avoid"], r"agent_0 must be finite, got nan at \(80,\)"),
        ([np.full((81, 5, 5), np.inf), "avoid"], r"must be finite, got inf at \(0, 0, 0\)"),
    ],
)
def test_bad_rewards_are_named_with_their_value(rewards: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_rewards(rewards, RULES)


def nan_when_together(positions: np.ndarray, agent_index: int) -> np.ndarray:
    together = (positions[:, 0] == positions[:, 1]).all(axis=-1)
    return np.where(together & (positions[:, 0, 0] == 1), np.nan, 0.0)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (
            nan_when_together,
            r"agent_0 must return finite numbers, got nan .* \[\[1, 0\], \[1, 0\]\]",
        ),
        (lambda positions, agent: np.zeros((len(positions), 2)), r"it returned shape \(81, 2\)"),
        (lambda positions, agent: np.zeros(1), r"shape \(81,\) .* it returned shape \(1,\)"),
        (lambda positions, agent: 0.0, r"what it returns must be an array of numbers, got 0\.0"),
        (lambda positions, agent: ["low"] * len(positions), r"must be an array of numbers"),
        (lambda positions, agent: None, r"must be an array of numbers, got None"),
    ],
)
def test_callables_are_tried_out(reward: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_rewards([reward, "avoid"], RULES)


def test_callables_of_large_games_are_tried_on_more_than_one_state() -> None:
    rules = grid_rules(size=30, n_agents=6)
    with pytest.raises(ValueError, match=r"it returned shape \(1,\)"):
        grid_rewards([lambda positions, agent: np.zeros(1)] + ["avoid"] * 5, rules)


def test_unknown_family() -> None:
    with pytest.raises(ValueError, match="got 'mixed'"):
        family_rewards("mixed", 2)


def test_values_are_checked_at_every_call() -> None:
    positions = np.array([[(1, 1), (1, 1)]])
    with pytest.raises(ValueError, match="finite"):
        state_rewards(nan_when_together, positions, 0, goals=RULES.goals)
