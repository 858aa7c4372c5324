"""Units of work: the learner on one family and seed, and each observer on what came of it.

A unit is one folder of the run, `<family>/seed_<k>/<label>`, which appears whole or not at all.
What it holds follows from the configuration, the family and the seed alone: not from other units,
the order in which they are done, or the number of workers.
"""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal
from zlib import crc32

import numpy as np

from malfl_algos.contract import LearnedStage
from malfl_algos.experiments.checksums import folder_checksums
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_algos.experiments.parts import (
    make_learner,
    make_observer,
    needs_transitions,
    reachable_states,
)
from malfl_algos.experiments.recovery import (
    Problem,
    recover,
    score_rows,
    trend_rows,
    write_recovered,
)
from malfl_algos.files import write_json
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.trace import LearningTrace
from malfl_env import MarkovGame

__all__ = ["Outcome", "Unit", "has_transitions", "learn", "learner_rng", "run_unit"]


@dataclass(frozen=True)
class Unit:
    """One unit of work.

    Args:
        config: of the experiment.
        root: the run folder.
        kind: which plugin does it.
        family, seed: what it is done on.
        plugin: the learner, or one of the observers.
    """

    config: ExperimentConfig
    root: Path
    kind: Literal["learner", "observer"]
    family: str
    seed: int
    plugin: PluginConfig

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.root / self.family / f"seed_{self.seed}" / self.plugin.label

    @property
    def learner_folder(self) -> Path:
        """Where the files of the learner lie that it stands on."""
        return self.folder.with_name(self.config.learner.label)

    def __str__(self) -> str:
        return f"family {self.family}, seed {self.seed}, {self.kind} {self.plugin.label!r}"


@dataclass(frozen=True)
class Outcome:
    """What came of a unit.

    Args:
        unit: the unit.
        seconds: wall time.
        checksums: of its files, by their path in the run folder; empty where it failed.
        fault: what went wrong, in one line.
        traceback: the whole story of it.
    """

    unit: Unit
    seconds: float
    checksums: dict[str, str]
    fault: str | None = None
    traceback: str | None = None


def run_unit(unit: Unit) -> Outcome:
    """Do a unit. A failure is an outcome, not an exception, so that other units go on."""
    started = perf_counter()
    try:
        with _fresh_folder(unit.folder) as folder:
            (_learn_unit if unit.kind == "learner" else _observe_unit)(unit, folder)
        checksums = folder_checksums(unit.folder, root=unit.root)
    except Exception as fault:
        words = " ".join(f"{type(fault).__name__}: {fault}".split())
        story = traceback.format_exc()
        return Outcome(unit, perf_counter() - started, {}, f"{unit}: {words}", story)
    return Outcome(unit, perf_counter() - started, checksums)


def learner_rng(family: str, seed: int) -> np.random.Generator:
    """The learner's randomness: a function of the family's name and the seed, of nothing else."""
    sequence = np.random.SeedSequence(seed, spawn_key=(crc32(family.encode()),))
    return np.random.default_rng(sequence)


def learn(
    config: ExperimentConfig, *, family: str, seed: int, keep_transitions: bool
) -> tuple[LearningTrace, GroundTruth]:
    """Let the learner of a configuration learn, and keep what may be seen apart from the truth.

    Raises:
        ValueError: from the learner, or where its stages are not of the game.
    """
    game = config.markov_game(family)
    learner = make_learner(config, seed=seed, keep_transitions=keep_transitions)
    stages: list[LearnedStage] = []
    for stage in learner.learn(
        config.environment(family), n_stages=config.iterations, rng=learner_rng(family, seed)
    ):
        _check_stage(stage, game, number=len(stages))
        stages.append(stage)
    if len(stages) != config.iterations:
        raise ValueError(f"the learner gave {len(stages)} stages of {config.iterations}")
    truth = GroundTruth(
        rewards={agent: game.reward(index) for index, agent in enumerate(game.agents)},
        joint_policies={
            agent: np.stack([stage.joint_policy[agent] for stage in stages])
            for agent in game.agents
        },
    )
    return LearningTrace(tuple(stage.observed for stage in stages)), truth


def has_transitions(trace_file: Path) -> bool:
    """Whether a saved trace holds its transitions; reads the archive's table of contents only."""
    with np.load(trace_file, allow_pickle=False) as archive:
        return any(name.startswith("stage_0/transitions/") for name in archive.files)


def _learn_unit(unit: Unit, folder: Path) -> None:
    keep = needs_transitions(unit.config)
    trace, truth = learn(unit.config, family=unit.family, seed=unit.seed, keep_transitions=keep)
    if keep and any(stage.transitions is None for stage in trace.stages):
        raise ValueError("an observer needs transitions, which this learner does not keep")
    earlier = unit.folder / "trace.npz"
    if earlier.exists():
        _check_same_counts(earlier, trace)
    trace.save(folder / "trace.npz")
    truth.save(folder / "ground_truth.npz")


def _observe_unit(unit: Unit, folder: Path) -> None:
    config = unit.config
    trace = LearningTrace.load(unit.learner_folder / "trace.npz")
    truth = GroundTruth.load(unit.learner_folder / "ground_truth.npz")
    game = config.markov_game(unit.family).without_rewards()
    problem = Problem(game, config.discount, config.temperature, config.seat, truth.joint_policies)
    observer = make_observer(config, unit.plugin, seed=unit.seed)
    recovered = recover(observer, trace, problem)
    write_recovered(recovered, folder)
    if config.trend:
        states = reachable_states(game)
        rows = trend_rows(observer, trace, problem, truth.rewards, states)
        rewards = {observing: result.rewards for observing, result in recovered.items()}
        last = score_rows(rewards, truth.rewards, states)
        rows += [{"n_stages": trace.n_stages, **row} for row in last]
        write_json(folder / "trend.json", rows)


def _check_stage(stage: LearnedStage, game: MarkovGame, *, number: int) -> None:
    counts = stage.observed.joint_counts
    if counts.shape != (game.n_states, *game.n_actions):
        raise ValueError(
            f"stage {number} of the learner has counts of shape {counts.shape}, "
            f"expected {(game.n_states, *game.n_actions)}"
        )
    for agent, n_actions in zip(game.agents, game.n_actions, strict=True):
        policy = stage.joint_policy.get(agent)
        if policy is None or policy.shape != (game.n_states, n_actions):
            raise ValueError(
                f"stage {number} of the learner must have a policy of shape "
                f"{(game.n_states, n_actions)} for {agent}"
            )


def _check_same_counts(earlier: Path, trace: LearningTrace) -> None:
    """A trace made again, to get its transitions, must be the one that others stand on."""
    try:
        before = LearningTrace.load(earlier)
    except ValueError:  # damaged: that is why it is made again
        return
    same = before.n_stages == trace.n_stages and all(
        np.array_equal(old.joint_counts, new.joint_counts)
        for old, new in zip(before.stages, trace.stages, strict=True)
    )
    if not same:
        raise ValueError(
            f"the learner does not repeat itself: its counts differ from those in {earlier}; "
            "start afresh with --overwrite"
        )


@contextmanager
def _fresh_folder(target: Path) -> Iterator[Path]:
    """A folder under a temporary name that takes its place once it is complete."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
