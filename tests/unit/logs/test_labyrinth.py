"""The log of mice in a labyrinth, which is not in the repository: skipped where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from malfl_algos import LearningTrace

FOLDER = Path(
    os.environ.get("MALFL_LABYRINTH", Path(__file__).parents[4] / "shared/data/labyrinth")
)
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the data are not here")


@pytest.fixture(scope="module")
def log():
    steps = np.load(FOLDER / "emissions500new.npy")
    pieces, length, _ = steps.shape
    return {
        "node": steps[..., 0].ravel(),
        "move": steps[..., 1].ravel(),
        "piece": np.repeat(np.arange(pieces), length),
        "step": np.tile(np.arange(length), pieces),
    }


def of(log, **cut):
    return LearningTrace.from_table(
        log, state="node", actions={"mouse": "move"}, episode="piece", step="step", **cut
    )


def test_every_step_within_a_piece_is_that_of_the_labyrinth(log):
    moves = np.load(FOLDER / "trans_probs.npy").argmax(-1)
    trace = of(log, n_stages=5)
    assert (trace.n_states, trace.n_actions, trace.agents) == (127, (4,), ("mouse",))
    assert sum(stage.n_steps for stage in trace.stages) == 238 * 499
    for stage in trace.stages:
        steps = stage.transitions
        expected = moves[steps.states, steps.joint_actions[:, 0]]
        np.testing.assert_array_equal(steps.next_states, expected)


def test_pieces_of_many_animals_are_pooled_or_apart(log):
    animals = {**log, "animal": [f"m{piece % 10}" for piece in log["piece"]]}
    pooled = of(animals, n_stages=4, subject="animal")
    assert pooled.n_stages == 4
    assert not pooled.stages[0].transitions.complete
    apart = LearningTrace.from_subjects(
        animals,
        subject="animal",
        state="node",
        actions={"mouse": "move"},
        episode="piece",
        step="step",
        n_stages=4,
    )
    assert len(apart) == 10
    total = sum(own.stages[2].counts for own in apart.values())
    np.testing.assert_array_equal(total, pooled.stages[2].counts)
