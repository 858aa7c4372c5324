"""Small learners and observers, and functions that install them as a distribution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from malfl_algos.contract import LearnedStage, RecoveredRewards, StageTruth
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env import TooFewStages, markov_game

ENTRIES = {
    "malfl.learners": {"fake": "fake_plugins:FakeLearner"},
    "malfl.observers": {
        "counting": "fake_plugins:CountingObserver",
        "needy": "fake_plugins:NeedyObserver",
        "failing": "fake_plugins:FailingObserver",
    },
}


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    entries: Mapping[str, Mapping[str, str]] = ENTRIES,
    *,
    name: str = "fakes",
    version: str = "1.2",
    requires: Sequence[str] = (),
) -> None:
    """Put a distribution with these entry points on the path: group to name to value."""
    text = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in own.items())
        for group, own in entries.items()
    )
    install_text(folder, monkeypatch, text.encode(), name=name, version=version, requires=requires)


def install_text(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    entry_points: bytes,
    *,
    name: str = "fakes",
    version: str = "1.2",
    requires: Sequence[str] = (),
) -> None:
    """Put a distribution on the path whose entry_points.txt has this content, valid or not."""
    metadata = folder / name / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (metadata / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_bytes(entry_points)
    monkeypatch.syspath_prepend(folder / name)


@dataclass(frozen=True)
class FakeLearner:
    """Counts of random policies; nothing is learned."""

    discount: float
    episodes: int
    scale: float = 1.0
    mode: Literal["well", "short", "misshapen"] = "well"
    keep_transitions: bool = False

    api_version: ClassVar[tuple[int, int]] = (2, 0)

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"scale must be > 0, got {self.scale}")

    def learn(self, env: Any, *, n_stages: int, rng: np.random.Generator) -> Iterator[LearnedStage]:
        game = markov_game(env)
        n_states = game.n_states - (self.mode == "misshapen")
        for _ in range(n_stages - (self.mode == "short")):
            policies = {
                agent: rng.dirichlet(np.full(n_actions, 20.0), size=game.n_states)
                for agent, n_actions in zip(game.agents, game.n_actions, strict=True)
            }
            joint = np.ones((game.n_states, 1))
            for own in policies.values():
                joint = (joint[:, :, None] * own[:, None, :]).reshape(game.n_states, -1)
            counts = rng.multinomial(1000, joint[:n_states]).reshape(n_states, *game.n_actions)
            yield LearnedStage(
                Stage(counts, transitions=self._transitions(game.n_agents)), StageTruth(policies)
            )

    def _transitions(self, n_agents: int) -> Transitions | None:
        if not self.keep_transitions:
            return None
        steps = np.zeros(3, dtype=np.int64)
        return Transitions(
            states=steps,
            joint_actions=np.full((3, n_agents), 4),  # all stay
            next_states=steps,
            episode_ends=np.array([False, False, True]),
            complete=False,
        )


@dataclass(frozen=True)
class CountingObserver:
    """The reward of a state is a count of an action in it, minus the known policies of others."""

    shift: float = 0.0
    joint: bool = False
    seed: int = 0

    api_version: ClassVar[tuple[int, int]] = (2, 0)

    def recover(
        self,
        trace: LearningTrace,
        *,
        game: Any,
        discount: float | None,
        temperature: float,
        known_policies: Mapping[str, Any] | None = None,
    ) -> RecoveredRewards:
        assert game is None or game.rewards is None
        rewards = {}
        for index, agent in enumerate(trace.agents):
            reward = trace.stages[-1].action_counts(index)[:, 0] + self.shift + index + self.seed
            for policies in (known_policies or {}).values():
                assert len(policies) == trace.n_stages
                reward = reward - policies[-1][:, 0]
            if self.joint:
                reward = np.einsum("s,...->s...", reward, np.ones(trace.n_actions))
            rewards[agent] = reward
        return RecoveredRewards(
            rewards=rewards,
            diagnostics={agent: {"n_stages": trace.n_stages, "noise": np.nan} for agent in rewards},
            sd={agent: np.ones_like(reward) for agent, reward in rewards.items()},
        )


@dataclass(frozen=True)
class NeedyObserver(CountingObserver):
    """Needs ordered transitions."""

    needs_transitions: ClassVar[bool] = True

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        assert all(stage.transitions is not None for stage in trace.stages)
        return super().recover(trace, **given)


@dataclass(frozen=True)
class FailingObserver(CountingObserver):
    """Fails on one seed; rejects traces of fewer than three stages."""

    fails_on: int = 1

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        if trace.n_stages < 3:
            raise TooFewStages("three stages, please")
        if self.seed == self.fails_on:
            raise RuntimeError("the disk\nis on fire")
        return super().recover(trace, **given)
