"""Units of work: the learner on one family and seed, and each observer on what came of it.

A unit is one folder of the run, `<family>/seed_<k>/<label>`, which appears whole or not at all: it
is made under another name, in any process, and put in its place by the one that holds the lock.
What it holds follows from the configuration, the family and the seed alone: not from other units,
the order in which they are done, or the number of workers.
"""

from __future__ import annotations

import shutil
import traceback
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Literal
from zlib import crc32

import numpy as np

from malfl_algos.contract import LearnedStage
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
from malfl_algos.experiments.score_log import log_scores
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.storage.arrays import array_names
from malfl_algos.storage.durable import (
    NoSpace,
    folder_checksums,
    make_folder,
    naming_no_space,
    partial_folder,
    write_json,
)
from malfl_algos.trace import LearningTrace
from malfl_env import MarkovGame
from malfl_env.errors import InputError

__all__ = ["Outcome", "Unit", "died", "has_transitions", "learn", "learner_rng", "run_unit"]


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

    @property
    def name(self) -> str:
        """The path of its folder in the run folder."""
        return self.folder.relative_to(self.root).as_posix()

    def __str__(self) -> str:
        return f"family {self.family}, seed {self.seed}, {self.kind} {self.plugin.label!r}"


@dataclass(frozen=True)
class Outcome:
    """What came of a unit.

    Args:
        unit: the unit.
        seconds: wall time.
        checksums: of its files, by their path in its folder; empty where it failed.
        trace: a hash of the counts that its learner saw.
        fault: what went wrong, in one line.
        traceback: the whole story of it.
    """

    unit: Unit
    seconds: float
    checksums: dict[str, str]
    trace: str = ""
    fault: str | None = None
    traceback: str | None = None


def run_unit(unit: Unit) -> Outcome:
    """Do a unit, in a folder beside its own, `partial_folder(unit.folder)`.

    A failure is an outcome, not an exception, so that other units go on.

    Raises:
        NoSpace: where the disk is full, which other units would find, too.
    """
    started = perf_counter()
    partial = partial_folder(unit.folder)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        with naming_no_space(partial):
            make_folder(partial)
        trace = (_learn_unit if unit.kind == "learner" else _observe_unit)(unit, partial)
        checksums = folder_checksums(partial)
    except (Exception, SystemExit) as fault:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(fault, NoSpace):
            raise
        words = " ".join(f"{type(fault).__name__}: {fault}".split())
        story = traceback.format_exc()
        return Outcome(
            unit, perf_counter() - started, {}, fault=f"{unit}: {words}", traceback=story
        )
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Outcome(unit, perf_counter() - started, checksums, trace)


def died(unit: Unit) -> Outcome:
    """The outcome of a unit that ended its process."""
    fault = f"{unit}: its process died: ended by the plugin, killed, or out of memory"
    return Outcome(unit, 0.0, {}, fault=fault)


def learner_rng(family: str, seed: int) -> np.random.Generator:
    """The learner's randomness: a function of the family's name and the seed, of nothing else."""
    sequence = np.random.SeedSequence(seed, spawn_key=(crc32(family.encode()),))
    return np.random.default_rng(sequence)


def learn(
    config: ExperimentConfig, *, family: str, seed: int, keep_transitions: bool
) -> tuple[LearningTrace, GroundTruth]:
    """Let the learner of a configuration learn, and keep what may be seen apart from the truth.

    Raises:
        InputError: from the learner, or where its stages are not of the game or do not hold the
            transitions that are to be kept.
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
        raise InputError(f"the learner gave {len(stages)} stages of {config.iterations}")
    if keep_transitions and any(stage.observed.transitions is None for stage in stages):
        raise InputError("an observer needs transitions, which this learner does not keep")
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
    return any(name.startswith("stage_0/transitions/") for name in array_names(trace_file))


def _learn_unit(unit: Unit, folder: Path) -> str:
    keep = needs_transitions(unit.config)
    trace, truth = learn(unit.config, family=unit.family, seed=unit.seed, keep_transitions=keep)
    earlier = unit.folder / "trace.npz"
    if earlier.exists():
        _check_same_counts(earlier, trace)
    trace.save(folder / "trace.npz")
    truth.save(folder / "ground_truth.npz")
    return _counts_hash(trace)


def _observe_unit(unit: Unit, folder: Path) -> str:
    config = unit.config
    trace = LearningTrace.load(unit.learner_folder / "trace.npz")
    truth = GroundTruth.load(unit.learner_folder / "ground_truth.npz")
    game = config.markov_game(unit.family).without_rewards()
    problem = Problem(game, config.discount, config.temperature, config.seat, truth.joint_policies)
    observer = make_observer(config, unit.plugin, seed=unit.seed)
    recovered = recover(observer, trace, problem)
    write_recovered(recovered, folder)
    log_dir = getattr(observer, "log_dir", None)
    if config.trend or log_dir:
        states = reachable_states(game)
        rewards = {observing: result.rewards for observing, result in recovered.items()}
        last = score_rows(rewards, truth.rewards, states)
        rows = [{"n_stages": trace.n_stages, **row} for row in last]
        if config.trend:
            rows = trend_rows(observer, trace, problem, truth.rewards, states) + rows
            write_json(folder / "trend.json", rows)
        if log_dir:
            log_scores(log_dir, f"scores_{unit.plugin.label}_{unit.family}_seed_{unit.seed}", rows)
    return _counts_hash(trace)


def _counts_hash(trace: LearningTrace) -> str:
    """Tells traces apart that an observer would, but for whether their transitions were kept."""
    digest = sha256()
    for stage in trace.stages:
        seen = stage.next_state_counts
        further = () if seen is None else (seen.rows, seen.next_states, seen.counts)
        for array in (stage.counts, *further):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    return digest.hexdigest()


def _check_stage(stage: LearnedStage, game: MarkovGame, *, number: int) -> None:
    counts = stage.observed.counts
    if counts.shape != (game.n_states, *game.n_actions):
        raise InputError(
            f"stage {number} of the learner has counts of shape {counts.shape}, "
            f"expected {(game.n_states, *game.n_actions)}"
        )
    for agent, n_actions in zip(game.agents, game.n_actions, strict=True):
        policy = stage.joint_policy.get(agent)
        if policy is None or policy.shape != (game.n_states, n_actions):
            raise InputError(
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
        np.array_equal(old.counts, new.counts)
        for old, new in zip(before.stages, trace.stages, strict=True)
    )
    if not same:
        raise InputError(
            f"the learner does not repeat itself: its counts differ from those in {earlier}; "
            "start afresh with --overwrite"
        )
