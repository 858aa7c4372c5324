"""Many games at once: which input is rejected, with which message."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from malfl_env import checks
from malfl_env.vector import GridWorldVector, SingleAgentVector


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_games": 0}, "n_games must be a whole number >= 1, got 0"),
        ({"n_games": 2.0}, "n_games must be a whole number >= 1, got 2.0"),
        ({"n_games": 10**12}, "a batch of 1000000000000 games would take"),
        ({"n_games": np.int64(10**18)}, "a batch of 1000000000000000000 games would take"),
        ({"autoreset_mode": "same-step"}, r"one of 'SameStep', .* \(did you mean 'SameStep'\?\)"),
        ({"autoreset_mode": None}, "autoreset_mode must be one of .*; got None"),
        ({"backend": "torch"}, "backend must be one of 'numpy', 'numba', 'auto'; got 'torch'"),
        ({"size": 1}, "size must be a whole number >= 2, got 1"),
        ({"render_mode": "ansi"}, "render_mode must be None"),
    ],
)
def test_bad_options_are_named(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        GridWorldVector(**{"n_games": 2, **options})


def test_a_table_too_large_is_rejected(monkeypatch) -> None:
    monkeypatch.setattr(checks, "MAX_TABLE_BYTES", 10_000)
    with pytest.raises(ValueError, match=r"would take .* of memory"):
        GridWorldVector(2)


def test_numba_is_asked_for_by_name_where_it_cannot_serve(monkeypatch) -> None:
    pytest.importorskip("numba")
    with pytest.raises(ValueError, match=r'at most 4194304 pairs .*; choose "numpy" or "auto"'):
        GridWorldVector(2, backend="numba", size=5, n_agents=4)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ValueError, match=r'backend="numba" needs numba: pip install'):
        GridWorldVector(2, backend="numba")
    GridWorldVector(2, backend="auto").reset()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 1], r"of shape \(2, 2\): .*; got shape \(2,\)"),
        ([[0, 1]], r"got shape \(1, 2\), dtype int64"),
        ([[0, 1, 2], [0, 1, 2]], r"got shape \(2, 3\)"),
        ([[0.0, 1.0], [0.0, 1.0]], r"got shape \(2, 2\), dtype float64"),
        ([[True, False], [True, False]], "dtype bool"),
        (None, "dtype object"),
        ([[0, 0], [0, 5]], r"action of agent_1 in game 1 must be .* from 0 to 4 .*, got 5"),
        ([[0, 0], [-1, 0]], "action of agent_0 in game 1 .*, got -1"),
        (np.full((2, 2), 2**64 - 1, dtype=np.uint64), "agent_0 in game 0 .*, got 18446744073"),
        (np.full((2, 2), -1, dtype=np.int8), "agent_0 in game 0 .*, got -1"),
    ],
)
def test_bad_actions_are_named_and_move_no_agent(actions, message) -> None:
    batch = GridWorldVector(2, slip=0.5)
    batch.reset(seed=0)
    batch.step([[0, 3], [3, 0]])
    before, drawn = batch.observations(), batch.np_random.bit_generator.state
    with pytest.raises(ValueError, match=message):
        batch.step(actions)
    np.testing.assert_array_equal(batch.observations(), before)
    assert batch.np_random.bit_generator.state == drawn


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, "seed must be a whole number >= 0, got -1"),
        (1.5, "seed must be a whole number >= 0, got 1.5"),
        (True, "seed must be a whole number >= 0, got True"),
        ([1], "one for each of the 2 games; got 1 of them"),
        ([1, None], r"seed\[1\] must be a whole number >= 0, got None"),
    ],
)
@pytest.mark.parametrize("make", [GridWorldVector, SingleAgentVector])
def test_bad_seeds_are_named(make, seed, message) -> None:
    with pytest.raises(ValueError, match=message):
        make(2).reset(seed=seed)


@pytest.mark.parametrize(
    "mask", [[True, False], np.array([1, 0]), np.array([True]), np.zeros(2, dtype=bool), None]
)
def test_bad_masks_are_named(mask) -> None:
    batch = GridWorldVector(2)
    batch.reset()
    with pytest.raises(ValueError, match=r"must be a bool array of shape \(2,\) with at least one"):
        batch.reset(options={"reset_mask": mask})


def test_the_order_of_calls() -> None:
    batch = GridWorldVector(2, max_cycles=1, autoreset_mode="Disabled")
    actions = np.zeros((2, 2), dtype=int)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        batch.step(actions)
    with pytest.raises(RuntimeError, match=r"call reset\(\) without a reset_mask first"):
        batch.reset(options={"reset_mask": np.array([True, False])})
    batch.reset()
    batch.step(actions)
    batch.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(RuntimeError, match="game 1 is over and autoreset is disabled"):
        batch.step(actions)
    batch.reset()
    assert batch.step(actions)[3].all()
