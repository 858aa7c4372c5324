"""T-REX on observations: rewards as functions, their file, and agreement with tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from observer_cases import board, in_a_box, played

from malfl_algos import LearningTrace, Stage
from malfl_algos.networks.ranking import RankedRewards
from malfl_algos.observers.trex import Trex
from malfl_algos.testing import check_observer
from malfl_env.errors import InputError

NOTHING = {"game": None, "discount": None, "temperature": None}


@pytest.fixture(scope="module")
def trace():
    """Joint states are observed as rows and columns, and nothing else is known."""
    whole = played().with_observations(board().without_rewards())
    stages = [
        Stage(transitions=replace(stage.transitions, states=None, next_states=None))
        for stage in whole.stages
    ]
    return LearningTrace(tuple(stages), whole.agents, whole.n_actions, whole.spaces)


@pytest.mark.parametrize("model", ["state", "own_action"])
def test_functions_rank_stages_as_tables_do(trace, model):
    options = {"reward_model": model, "snippet_length": 20, "ridge": 1.0}
    tables = Trex(**options).recover(played(), **NOTHING)
    found = Trex(**options).recover(trace, **NOTHING)
    assert isinstance(found, RankedRewards)
    game = board()
    states, *actions = np.indices((16, 5, 5)).reshape(3, -1)
    for agent in trace.agents:
        own = found.reward(agent, game.observation(states), np.stack(actions, axis=1))
        own = own.reshape(16, 5, 5)
        table = tables.rewards[agent]
        if model == "state":
            assert np.ptp(own, axis=(1, 2)).max() == 0
            own = own[:, 0, 0]
        assert np.corrcoef(own.ravel(), table.ravel())[0, 1] > 0.8
        assert found.diagnostics[agent]["ranked"] > 0.5
        mean = [
            found.reward(agent, steps.observations[agent], steps.joint_actions)
            for steps in (stage.transitions for stage in trace.stages)
        ]
        assert abs(np.concatenate(mean).mean()) < 1e-9
        assert mean[-1].mean() > mean[0].mean()


def test_real_valued_observations_and_the_file(tmp_path):
    trace = in_a_box()
    found = Trex(hidden=(32,), pairs=500, reward_model="own_action").recover(trace, **NOTHING)
    found.save(tmp_path / "reward_functions.npz")
    again = RankedRewards.load(tmp_path / "reward_functions.npz")
    steps = trace.stages[0].transitions
    for agent in trace.agents:
        arguments = (agent, steps.observations[agent], steps.joint_actions)
        np.testing.assert_array_equal(found.reward(*arguments), again.reward(*arguments))
        assert np.ptp(found.reward(*arguments)) > 0
        assert again.diagnostics[agent]["loss"] == found.diagnostics[agent]["loss"]
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"other\.npz"):
        RankedRewards.load(tmp_path / "other.npz")


@pytest.mark.parametrize("model", ["state", "own_action"])
def test_it_conforms(model):
    check_observer("trex", options={"reward_model": model, "pairs": 500, "hidden": (16,)})
