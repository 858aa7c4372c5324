"""Plugins for non-enumerable games: loader, conformance tests, `malfl plugins`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from fake_plugins import install

from malfl_algos import LearningTrace, RecoveredRewards, Stage, Transitions
from malfl_algos.contract import LearnedStage, Problem, StageTruth
from malfl_algos.plugins import list_plugins, load_learner, load_observer
from malfl_algos.testing import check_learner, check_observer
from malfl_env import grid_world_v0
from malfl_env.errors import InputError


@dataclass(frozen=True)
class Wanderer:
    """Agents of any parallel game that get to like one action more and more.

    Args:
        episodes: of a stage.
        episode_length: steps of an episode.
    """

    episodes: int
    episode_length: int

    api_version: ClassVar[tuple[int, int]] = (2, 0)

    def __post_init__(self) -> None:
        for name in ("episodes", "episode_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")

    def learn(self, env: Any, *, n_stages: int, rng: np.random.Generator) -> Iterator[LearnedStage]:
        """Yield stages."""
        for agent in env.possible_agents:
            if not hasattr(env.action_space(agent), "n"):
                raise InputError(f"actions of {agent} must be discrete")
        return self._stages(env, n_stages, rng)

    def _stages(self, env: Any, n_stages: int, rng: np.random.Generator) -> Iterator[LearnedStage]:
        for number in range(n_stages):
            policy = np.exp(-0.3 * number * np.arange(env.action_space(env.possible_agents[0]).n))
            yield self.played(env, policy / policy.sum(), rng)

    def played(self, env: Any, policy: np.ndarray, rng: np.random.Generator) -> LearnedStage:
        """One stage."""
        agents = env.possible_agents
        rows: dict[str, list[Any]] = {name: [] for name in ("seen", "acts", "after", "ends", "won")}
        for _ in range(self.episodes):
            seen, _ = env.reset(seed=int(rng.integers(2**31)))
            for step in range(self.episode_length):
                acts = rng.choice(len(policy), size=len(agents), p=policy)
                after, won, over, cut, _ = env.step(dict(zip(agents, map(int, acts), strict=True)))
                gone = [over[agent] or cut[agent] for agent in agents]
                if any(gone) and not all(gone):
                    raise InputError("agents must end together")
                last = step == self.episode_length - 1 or any(gone)
                for name, value in zip(rows, (seen, acts, after, last, won), strict=True):
                    rows[name].append(value)
                seen = after
                if last:
                    break
        steps = Transitions(
            None,
            np.stack(rows["acts"]),
            None,
            np.array(rows["ends"]),
            complete=True,
            observations={a: np.stack([own[a] for own in rows["seen"]]) for a in agents},
            next_observations={a: np.stack([own[a] for own in rows["after"]]) for a in agents},
        )
        return LearnedStage(
            Stage(transitions=steps),
            StageTruth(
                {agent: np.tile(policy, (steps.n_steps, 1)) for agent in agents},
                {agent: np.array([own[agent] for own in rows["won"]]) for agent in agents},
            ),
        )


@dataclass(frozen=True)
class Jumping(Wanderer):
    """Its observations do not continue."""

    def played(self, env: Any, policy: np.ndarray, rng: np.random.Generator) -> LearnedStage:
        """One stage, spoilt."""
        stage = super().played(env, policy, rng)
        steps = stage.observed.transitions
        spoilt = replace(steps, next_observations=steps.observations)
        return replace(stage, observed=Stage(transitions=spoilt))


@dataclass(frozen=True)
class Lying(Wanderer):
    """It claims other policies than it plays."""

    def played(self, env: Any, policy: np.ndarray, rng: np.random.Generator) -> LearnedStage:
        """One stage, spoilt."""
        stage = super().played(env, policy, rng)
        said = {agent: own[:, ::-1].copy() for agent, own in stage.truth.policies.items()}
        return replace(stage, truth=replace(stage.truth, policies=said))


@dataclass(frozen=True)
class Watcher:
    """The reward of an observation is the share of the last stage's steps near it."""

    api_version: ClassVar[tuple[int, int]] = (2, 0)

    def recover(
        self,
        trace: LearningTrace,
        *,
        game: Any,
        discount: float | None,
        temperature: float | None,
        known_policies: Mapping[str, Any] | None = None,
    ) -> RecoveredRewards:
        """Recover rewards as functions."""
        Problem(trace, game, discount, temperature, known_policies)
        if trace.spaces is None:
            raise InputError("Watcher reads observations, the trace has none")
        return RecoveredRewards(
            functions={agent: self.near(trace, agent) for agent in trace.agents},
            diagnostics={agent: {"identification": "not looked at"} for agent in trace.agents},
        )

    def near(self, trace: LearningTrace, agent: str) -> Any:
        """The reward function of an agent."""
        mean = trace.stages[-1].transitions.observations[agent].mean(axis=0)
        return lambda seen, actions: -np.abs(np.asarray(seen) - mean).sum(axis=1)


@dataclass(frozen=True)
class Infinite(Watcher):
    """Its rewards are not finite."""

    def near(self, trace: LearningTrace, agent: str) -> Any:
        """No reward function."""
        return lambda seen, actions: np.full(len(seen), np.inf)


def test_a_learner_of_any_parallel_game_conforms():
    check_learner(Wanderer)


def test_an_observer_of_observed_steps_conforms():
    check_observer(Watcher)


@pytest.mark.parametrize(
    ("faulty", "words"),
    [(Jumping, "transitions do not follow one another"), (Lying, "counts contradict the policies")],
)
def test_faults_of_observed_stages(faulty, words):
    with pytest.raises(AssertionError, match=words):
        check_learner(faulty)


def test_faults_of_reward_functions():
    with pytest.raises(AssertionError, match="not finite"):
        check_observer(Infinite)


def test_they_load_by_name_and_work_together(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "observed_plugins", sys.modules[__name__])
    entries = {
        "malfl.learners": {"wanderer": "observed_plugins:Wanderer"},
        "malfl.observers": {"watcher": "observed_plugins:Watcher"},
    }
    install(tmp_path, monkeypatch, entries)
    assert {"wanderer", "watcher"} <= {plugin.name for plugin in list_plugins()}
    env = grid_world_v0.parallel_env(size=2)
    learner = load_learner("wanderer", episodes=3, episode_length=20)
    stages = list(learner.learn(env, n_stages=3, rng=np.random.default_rng(0)))
    spaces = tuple(env.observation_space(agent) for agent in env.possible_agents)
    trace = LearningTrace(
        tuple(stage.observed for stage in stages), tuple(env.possible_agents), (5, 5), spaces
    )
    trace.save(tmp_path / "trace")
    found = load_observer("watcher").recover(
        LearningTrace.load(tmp_path / "trace"), game=None, discount=0.9, temperature=1.0
    )
    steps = trace.stages[0].transitions
    seen = steps.observations["agent_1"]
    assert found.reward("agent_1", seen, steps.joint_actions).shape == (60,)
    assert found.diagnostics["agent_0"]["identification"] == "not looked at"
    with pytest.raises(InputError, match="agent_9"):
        found.reward("agent_9", seen, steps.joint_actions)
