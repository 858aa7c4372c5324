"""Inputs that contradict themselves or each other: refused, or doubted by the verdict.

Each was recovered without a word, with error bars that were far too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

from malfl_algos import LearningTrace, Stage, judge
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.logel import Logel
from malfl_env import MarkovGame, grid_world_v0, markov_game
from malfl_env.errors import Contradiction

OF_LEARNERS = {"discount": 0.9, "temperature": 3.0}
OBSERVER = MaLflBellman(learner="td", passes=12)
BRIEF = MaLflBellman(learner="td", passes=1)
"""For reasons that do not depend on the fit."""


def board(**options: Any) -> MarkovGame:
    return markov_game(grid_world_v0.parallel_env(**options)).without_rewards()


@cache
def played() -> tuple[LearningTrace, Mapping[str, Any]]:
    env = grid_world_v0.parallel_env(rewards="heterogeneous", max_cycles=100)
    learner = MaSpi(**OF_LEARNERS, episodes=1000, episode_length=100, keep_transitions=True)
    stages = list(learner.learn(env, n_stages=5, rng=np.random.default_rng(1)))
    policies = {a: np.stack([s.joint_policy[a] for s in stages]) for a in env.possible_agents}
    return LearningTrace(tuple(stage.observed for stage in stages)), policies


def counts(trace: LearningTrace) -> LearningTrace:
    return LearningTrace(tuple(Stage(stage.counts) for stage in trace.stages))


def never_moves() -> dict[str, Any]:
    """A known policy of agent_0 that makes what it did nearly impossible."""
    policy = np.zeros((5, 81, 5))
    policy[..., 4], policy[..., :4] = 1 - 4e-9, 1e-9
    return {"agent_0": policy}


REFUSED = {
    "a wall where the trace has visits": lambda: {"game": board(walls=[(1, 1)])},
    "a wall, counts alone": lambda: {"trace": counts(played()[0]), "game": board(walls=[(1, 1)])},
    "another goal than the transitions'": lambda: {"game": board(goals=(0, 2))},
    "deterministic known policies": lambda: {
        "known_policies": {a: np.eye(5)[p.argmax(-1)] for a, p in played()[1].items()}
    },
}
DOUBTED = {
    "another goal, counts alone": (
        lambda: {"trace": counts(played()[0]), "game": board(goals=(0, 2))},
        "states to which the game does not lead",
    ),
    "all stages are one": (
        lambda: {"trace": LearningTrace(played()[0].stages[:1] * 5)},
        "hold exactly the counts of another stage",
    ),
    "a stage twice": (
        lambda: {"trace": LearningTrace(played()[0].stages[:1] + played()[0].stages)},
        "hold exactly the counts of another stage",
    ),
    "known policies exchanged": (
        lambda: {
            "known_policies": dict(zip(played()[1], [*played()[1].values()][::-1], strict=True))
        },
        "differ from the known policies",
    ),
    "a known policy that never moves": (
        lambda: {"known_policies": never_moves()},
        "differ from the known policies",
    ),
}


def arguments(changed: Mapping[str, Any]) -> dict[str, Any]:
    return {"trace": played()[0], "game": board(), **OF_LEARNERS, **changed}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_impossible_is_refused(case: str) -> None:
    with pytest.raises(Contradiction):
        OBSERVER.recover(**arguments(REFUSED[case]()))


@pytest.mark.slow
@pytest.mark.parametrize("case", DOUBTED)
def test_what_is_doubtful_is_in_the_verdict(case: str) -> None:
    changed, reason = DOUBTED[case]
    given = arguments(changed())
    verdict = judge(BRIEF.recover(**given), **given, observer=BRIEF)
    assert verdict.word != "believe"
    assert any(reason in told for told in verdict.reasons), verdict.summary()


@pytest.mark.slow
def test_the_same_inputs_without_a_contradiction_are_believed() -> None:
    given = arguments({})
    verdict = judge(OBSERVER.recover(**given), **given, observer=OBSERVER)
    assert verdict.word == "believe", verdict.summary()


def test_logel_counts_directions_of_visited_states_only() -> None:
    env = grid_world_v0.parallel_env(size=2, walls=[(0, 1)])
    learner = MaSpi(**OF_LEARNERS, episodes=50, episode_length=20)
    stages = [s.observed for s in learner.learn(env, n_stages=3, rng=np.random.default_rng(0))]
    given = {**OF_LEARNERS, "game": markov_game(env).without_rewards()}
    found = Logel().recover(LearningTrace(tuple(stages)), **given)  # type: ignore[arg-type]
    words = found.diagnostics["agent_0"]["identification"]
    assert words.endswith("; 7 joint states without data are not counted")
