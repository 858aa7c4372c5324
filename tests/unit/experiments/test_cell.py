"""One cell: a learner whose stages cannot be used is stopped at its first stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_plugins import FakeLearner

from malfl_algos.contract import LearnedStage
from malfl_algos.experiments import cell
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig, from_mapping
from malfl_algos.ma_lfl.race import Runner
from malfl_algos.observers.paper import MaLflState
from malfl_env import InputError


@pytest.fixture
def config() -> ExperimentConfig:
    return from_mapping({"game": {"size": 2}, "iterations": 5, "seeds": [0]})


def test_a_learner_without_the_needed_transitions_is_stopped_at_its_first_stage(
    config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It learned for hours, and was rejected afterwards."""
    yielded: list[LearnedStage] = []

    class Forgetful(FakeLearner):
        def learn(self, env: Any, **given: Any) -> Iterator[LearnedStage]:
            for stage in super().learn(env, **given):
                yielded.append(stage)
                yield replace(stage, observed=replace(stage.observed, transitions=None))

    monkeypatch.setattr(cell, "make_learner", lambda *_, **__: Forgetful(0.9, 1))
    with pytest.raises(InputError, match="needs transitions, which learner 'ma-spi' does not keep"):
        cell.learn(config, keep_transitions=True)
    assert len(yielded) == 1
    assert cell.learn(config, keep_transitions=False).trace.n_stages == 5


def test_every_fit_and_every_learner_has_a_log_of_its_own(
    config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Families and recoveries of a trend shared a folder, and TensorBoard mixed their curves."""
    logs: list[str] = []

    def made(kind: str, wanted: PluginConfig, *_: Any) -> Any:
        logs.append(wanted.options.get("log_dir", ""))
        return FakeLearner(0.9, 1) if kind == "learner" else MaLflState()

    monkeypatch.setattr(cell, "_make", made)
    observer = PluginConfig("ma-lfl-state", "mine", {"log_dir": "log"})
    learner = PluginConfig("fake", "fake", {"log_dir": "log"})
    config = replace(config, iterations=3, learner=learner, observers=(observer,))
    for family in ("homogeneous", "heterogeneous"):
        learned = cell.learn(config, family=family)
        logs.append(f"{family}:")
        cell.observe(learned, observer, judged=False).from_first(2)
    assert logs == [
        "log/homogeneous/seed_0/fake",
        "homogeneous:",
        "log",  # of the scores
        "log/homogeneous/seed_0/mine/stages_3",
        "log/homogeneous/seed_0/mine/stages_2",
        "log/heterogeneous/seed_0/fake",
        "heterogeneous:",
        "log",
        "log/heterogeneous/seed_0/mine/stages_3",
        "log/heterogeneous/seed_0/mine/stages_2",
    ]


def test_the_recoveries_of_a_trend_share_one_search_and_are_what_each_would_be_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Settings are searched on four stages: more stages made the same search again and again."""
    scored: list[float] = []
    score = Runner.scored

    def counted(runner: Runner, value: float) -> float:
        scored.append(value)
        return score(runner, value)

    monkeypatch.setattr(Runner, "scored", counted)
    options = {"learner": "exact", "prior": "iid", "stages": "same", "passes": 3}
    observer = PluginConfig("ma-lfl-bellman", "ma-lfl-bellman", options)
    given = {"game": {"size": 2}, "iterations": 6, "episodes": 20, "episode_length": 100}
    config = replace(from_mapping(given), observers=(observer,))
    learned = cell.learn(config)
    observed = cell.observe(learned, observer, judged=False)
    assert len(scored) == 2  # rho = 0 and rho > 0
    shorter = observed.from_first(5)[""]
    assert len(scored) == 2
    alone = cell.make_observer(config, observer, seed=0).recover(
        learned.trace.first(5),
        game=learned.game.without_rewards(),
        discount=config.discount,
        temperature=config.temperature,
    )
    assert len(scored) == 4
    for agent in alone.agents:
        np.testing.assert_array_equal(shorter.rewards[agent], alone.rewards[agent])
        assert shorter.diagnostics[agent]["searches"] == alone.diagnostics[agent]["searches"]
    observed.from_first(3)
    assert len(scored) == 6
