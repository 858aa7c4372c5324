"""The jobs of the engine: a unit of a run folder, or a whole cell of a sweep in memory.

A unit is one folder of a run, `<family>/seed_<k>/<label>`, of the learner or of one observer. It
appears as a whole or not at all: any process makes it under another name, and the process that
holds the lock moves it to its place. A cell of a sweep is one job. Its worker need not share a file
system with the caller: arguments and results are plain values.

A failure is an outcome and not an exception, so that the other jobs continue.
"""

from __future__ import annotations

import json
import shutil
import socket
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.experiments.cell import (
    Learned,
    Observation,
    Recovered,
    in_own_folder,
    learn,
    observe,
)
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_algos.experiments.games import reachable_states
from malfl_algos.experiments.grid import SweepRun
from malfl_algos.experiments.records import versions_that_count
from malfl_algos.experiments.recovered_files import write_recovered
from malfl_algos.experiments.scale import reference_of
from malfl_algos.experiments.scoring import TRUTH_ALONE, log_scores, scored_rows
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.plugins.interruption import pass_interruption
from malfl_algos.plugins.loading import PluginError
from malfl_algos.scores.inputs import Reference, with_policies
from malfl_algos.scores.registry import score_names
from malfl_algos.storage.arrays import array_names
from malfl_algos.storage.durable import (
    NoSpace,
    folder_checksums,
    make_folder,
    naming_no_space,
    partial_folder,
    write_json,
)
from malfl_algos.storage.origins import Origin
from malfl_algos.trace import LearningTrace
from malfl_algos.work.telling import part
from malfl_env.errors import InputError, TooFewStages

__all__ = [
    "Outcome",
    "Unit",
    "died",
    "has_transitions",
    "prepared_scoring",
    "run_cell",
    "run_unit",
]


@dataclass(frozen=True)
class Unit:
    """One folder of a run.

    Args:
        config: of the experiment.
        root: the run folder.
        kind: of the plugin.
        family, seed: of the cell.
        plugin: the learner, or one of the observers.
        intact: whether its files are there as recorded, and it is done again for its transitions.
    """

    config: ExperimentConfig
    root: Path
    kind: Literal["learner", "observer"]
    family: str
    seed: int
    plugin: PluginConfig
    intact: bool = False

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.root / self.family / f"seed_{self.seed}" / self.plugin.label

    @property
    def learner_folder(self) -> Path:
        """The folder of the learner whose trace it uses."""
        return self.folder.with_name(self.config.learner.label)

    @property
    def name(self) -> str:
        """The path of its folder in the run folder."""
        return self.folder.relative_to(self.root).as_posix()

    def __str__(self) -> str:
        return f"family {self.family}, seed {self.seed}, {self.kind} {self.plugin.label!r}"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Args:
        job: a unit, or a run of a sweep.
        seconds: wall time.
        faults: the errors, one line each; empty after success.
        tracebacks: one per error.
        lost: whether the job ended its worker and is not tried again.
        checksums: of a unit: of its files, by their path in its folder; None after a failure.
        trace: of a unit: a hash of the counts in its learner's trace.
        rows: of a run: one per observer and agent, in plain values.
        versions, host: of a run: versions of packages, and name of the machine.
    """

    job: Any
    seconds: float
    faults: Sequence[str] = ()
    tracebacks: Sequence[str] = ()
    lost: bool = False
    checksums: Mapping[str, str] | None = None
    trace: str = ""
    rows: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] | None = None
    host: str = ""


def run_unit(unit: Unit) -> Outcome:
    """Run a unit. It writes into `partial_folder(unit.folder)`, beside its final folder.

    Raises:
        NoSpace: if the disk is full; other units would fail, too.
    """
    started = perf_counter()
    partial = partial_folder(unit.folder)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        with naming_no_space(partial):
            make_folder(partial)
        trace = (_learn_unit if unit.kind == "learner" else _observe_unit)(unit, partial)
        checksums = folder_checksums(partial)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        pass_interruption(error)
        if isinstance(error, NoSpace):
            raise
        words, story = _described(error)
        return Outcome(unit, perf_counter() - started, (f"{unit}: {words}",), (story,))
    return Outcome(unit, perf_counter() - started, checksums=checksums, trace=trace)


def run_cell(run: SweepRun) -> Outcome:
    """Do a run of a sweep in memory: its learner learns, then all its observers recover."""
    started = perf_counter()
    rows: list[dict[str, Any]] = []
    failed: list[tuple[str, str]] = []
    name = f"learner {run.config.learner.label!r}"
    share = 1 / (len(run.config.observers) + 1)  # of the learner, and of each observer
    try:
        with part(name, 0, share):
            learned = learn(replace(run.config, learner=in_own_folder(run.config.learner, run.id)))
        base = prepared_scoring(learned)
        for number, plugin in enumerate(run.config.observers, 1):
            name = f"observer {plugin.label!r}"
            try:
                with part(name, number * share, (number + 1) * share):
                    rows += _plain_rows(learned, base, in_own_folder(plugin, run.id))
            except BaseException as error:  # a plugin may raise anything
                pass_interruption(error)
                failed.append(_described(error, name))
    except BaseException as error:
        pass_interruption(error)
        failed.append(_described(error, name))
    return Outcome(
        run,
        perf_counter() - started,
        faults=[words for words, _ in failed],
        tracebacks=[story for _, story in failed],
        rows=rows,
        versions=versions_that_count(),
        host=socket.gethostname(),
    )


def died(job: Unit | SweepRun, words: str) -> Outcome:
    """The outcome of a job that ended its process."""
    if isinstance(job, Unit):
        fault = f"{job}: its process died: ended by the plugin, killed, or out of memory"
        return Outcome(job, 0.0, (fault,), (f"{fault}: {words}",), lost=True)
    fault = f"it ended its worker process, {words}"
    return Outcome(job, 0.0, (fault,), (fault,), lost=True, versions=versions_that_count())


def prepared_scoring(learned: Learned) -> Reference:
    """The inputs that all scores of a cell against its ground truth share."""
    states = reachable_states(learned.game)
    base = reference_of(learned.config, learned.game, states=states)
    return with_policies(base, learned.truth.joint_policies)


def has_transitions(trace_file: Path) -> bool:
    """Whether a saved trace holds its transitions; reads the archive's table of contents only."""
    return any(name.startswith("stage_0/transitions/") for name in array_names(trace_file))


def _learn_unit(unit: Unit, folder: Path) -> str:
    learned = learn(unit.config, family=unit.family, seed=unit.seed)
    if unit.intact:
        _check_same_counts(unit.folder / "trace.npz", learned.trace)
    learned.trace.save(folder / "trace.npz")
    learned.truth.save(folder / "ground_truth.npz")
    return _counts_hash(learned.trace)


def _observe_unit(unit: Unit, folder: Path) -> str:
    trace = LearningTrace.load(unit.learner_folder / "trace.npz")
    truth = GroundTruth.load(unit.learner_folder / "ground_truth.npz")
    learned = Learned(unit.config, unit.family, unit.seed, trace, truth)
    shorter = range(2, trace.n_stages) if unit.config.trend else range(0)
    whole = 1 / (len(shorter) + 1)  # the share of the first of equally long parts
    with part(f"all {trace.n_stages} stages", 0, whole):
        observed = observe(learned, unit.plugin)
    game, config = learned.game, unit.config
    origin = Origin.of(trace, game, config.discount, config.temperature)
    write_recovered(observed.recovered, folder, origin=origin, observer=unit.plugin)
    log_dir = getattr(observed.observer, "log_dir", None)
    if unit.config.trend or log_dir:
        states = reachable_states(learned.game)
        rows = []
        for number, n in enumerate(shorter, 1):
            words = f"first {n} of {trace.n_stages} stages"
            with part(words, number * whole, (number + 1) * whole):
                rows += _trend_rows(n, observed, truth, states)
        rows += _correlations(trace.n_stages, observed.recovered, truth, states)
        if unit.config.trend:
            write_json(folder / "trend.json", rows)
        if log_dir:
            log_scores(log_dir, f"scores_{unit.plugin.label}_{unit.family}_seed_{unit.seed}", rows)
    return _counts_hash(trace)


def _trend_rows(
    n_stages: int, observed: Observation, truth: GroundTruth, states: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Scores of the rewards recovered from the first stages; empty if the stages are too few."""
    try:
        return _correlations(n_stages, observed.from_first(n_stages), truth, states)
    except TooFewStages as too_few:
        names = score_names(*TRUTH_ALONE)
        unscored = {
            **dict.fromkeys((*names, "verdict")),
            "reasons": dict.fromkeys(names, str(too_few)),
        }
        return [{"n_stages": n_stages, "agent": agent, **unscored} for agent in truth.rewards]


def _correlations(
    n_stages: int, recovered: Recovered, truth: GroundTruth, states: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """`scored_rows` with `n_stages`."""
    rows = scored_rows(Reference(truth.rewards, states), recovered, TRUTH_ALONE)
    return [{"n_stages": n_stages, **row} for row in rows]


def _plain_rows(learned: Learned, base: Reference, plugin: PluginConfig) -> list[dict[str, Any]]:
    """One row per agent with every score, as JSON would return it."""
    recovered = observe(learned, plugin).recovered
    rows = [{"observer": plugin.label, **row} for row in scored_rows(base, recovered)]
    return list(json.loads(json.dumps(rows, allow_nan=False)))


def _described(error: BaseException, part: str = "") -> tuple[str, str]:
    """The error in one line, and its traceback."""
    named = isinstance(error, (InputError, PluginError))
    words = str(error) if named else f"{type(error).__name__}: {error}"
    story = "".join(traceback.format_exception(error))
    return " ".join(words.split()), f"{part}: {story}" if part else story


def _counts_hash(trace: LearningTrace) -> str:
    """A hash of everything in a trace that observers use, apart from kept transitions."""
    digest = sha256()
    for stage in trace.stages:
        seen = stage.next_state_counts
        further = () if seen is None else (seen.rows, seen.next_states, seen.counts)
        for array in (stage.counts, *further):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    return digest.hexdigest()


def _check_same_counts(earlier: Path, trace: LearningTrace) -> None:
    """Reject a trace that was made again for its transitions and has other counts than before."""
    before = LearningTrace.load(earlier)
    same = before.n_stages == trace.n_stages and all(
        np.array_equal(old.counts, new.counts)
        for old, new in zip(before.stages, trace.stages, strict=True)
    )
    if not same:
        raise InputError(
            f"the learner does not repeat itself: its counts differ from those in {earlier}; "
            "start again with --overwrite"
        )
