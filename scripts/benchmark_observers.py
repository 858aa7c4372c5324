"""Benchmark observers on learning traces: `python scripts/benchmark_observers.py --output-dir OUT`.

Learners of several kinds learn in several games, and every observer recovers rewards from each of
their traces. Every cell (game, learner, seed) writes one JSON file, so the benchmark can be
stopped, resumed and extended. `rows.csv` and `benchmark.md` are made from all cells in the folder.
Read `benchmark_observers_plan.py` first.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from benchmark_observers_plan import (
    GAMES,
    LEARNERS,
    OBSERVERS,
    Cell,
    cells,
    config_of,
    installed,
    left_out,
    local_learner,
)
from benchmark_observers_tables import write_tables
from study_tables import read_cell

from malfl_algos import judge
from malfl_algos.contract import RecoveredRewards
from malfl_algos.experiments.cell import Learned, learn, observe
from malfl_algos.experiments.config import PluginConfig
from malfl_algos.experiments.games import reachable_states
from malfl_algos.scores.agreement import calibration, pearson, spearman
from malfl_algos.storage.durable import write_json
from malfl_algos.storage.results import plain
from malfl_algos.work.pool import local_pool
from malfl_env.errors import InputError

KEPT = ("rule", "improvement", "rho", "scale", "residual", "ranked", "bounds_hit")
"""Diagnostics that a row keeps under `settings`."""


@dataclass(frozen=True)
class Task:
    """The observers that a cell still lacks, by label."""

    cell: Cell
    observers: tuple[str, ...]
    root: Path


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task: its wall time in seconds, and the tracebacks if something failed."""

    task: Task
    seconds: float
    fault: str | None = None


def missing_tasks(plan: Sequence[Cell], observers: Sequence[str], root: Path) -> list[Task]:
    """The tasks that are not done yet, in the order of the plan.

    Raises:
        InputError: for a damaged file.
    """
    tasks = []
    for cell in plan:
        done: set[str] = set()
        if cell.path(root).exists():
            content = read_cell(cell.path(root))
            done = {row["observer"] for row in content["rows"]} | set(content["refused"])
        wanted = tuple(
            label for label in observers if label not in done and not left_out(cell, label)
        )
        if wanted:
            tasks.append(Task(cell, wanted, root))
    return tasks


def run_task(task: Task) -> Outcome:
    """Let the learner of a cell learn, have its observers recover, add their rows to its file.

    A failure is an outcome, so that other cells and observers continue. If an observer rejects the
    game or the data (InputError, ArithmeticError), its message is recorded.
    """
    started, cell, path = perf_counter(), task.cell, task.cell.path(task.root)
    faults = []
    try:
        content: dict[str, Any] = {"cell": asdict(cell), "rows": [], "refused": {}}
        if path.exists():
            content = read_cell(path)
        learned = learn(
            config_of(cell, task.observers),
            keep_transitions=_keeps(cell),
            learner=local_learner(cell),
        )
        content["learning_seconds"] = perf_counter() - started
        for plugin in learned.config.observers:
            try:
                content["rows"] += scored(learned, plugin)
            except (InputError, ArithmeticError) as fault:
                content["refused"][plugin.label] = " ".join(str(fault).split())
            except Exception:
                faults.append(traceback.format_exc())
        write_json(path, content)
    except Exception:
        faults.append(traceback.format_exc())
    return Outcome(task, perf_counter() - started, "\n".join(faults) or None)


def _keeps(cell: Cell) -> bool:
    """Whether the learner can keep its steps; those that cannot give counts alone."""
    return cell.learner != "example-npg"


def scored(learned: Learned, plugin: PluginConfig) -> Iterator[dict[str, Any]]:
    """Let an observer recover; one row per agent with its scores, its verdict and its seconds.

    Raises:
        InputError, ArithmeticError: if it rejects the game or the data.
    """
    started = perf_counter()
    observed = observe(learned, plugin, judged=False)
    seconds = perf_counter() - started
    result, config = observed.recovered[""], learned.config
    verdict = judge(
        result,
        learned.trace,
        game=learned.game.without_rewards(),
        discount=config.discount,
        temperature=config.temperature,
        observer=observed.observer,
    )
    states = reachable_states(learned.game)
    rows = []
    for index, agent in enumerate(learned.game.agents):
        truth, reward = learned.game.reward(index), result.rewards[agent]
        diagnostics = result.diagnostics.get(agent, {})
        own = verdict.agents.get(agent, verdict)
        rows.append(
            {
                "observer": plugin.label,
                "agent": agent,
                "pearson": pearson(reward, truth, states=states).value,
                "spearman": spearman(reward, truth, states=states).value,
                "coverage_2sd": coverage(result, agent, truth, states),
                "verdict": own.word,
                "reason": own.reasons[0] if own.reasons else "",
                "seconds": seconds,
                "settings": {
                    key: plain(diagnostics[key]) for key in KEPT if diagnostics.get(key) is not None
                },
            }
        )
    yield from rows


def coverage(
    result: RecoveredRewards, agent: str, truth: np.ndarray[Any, Any], states: np.ndarray[Any, Any]
) -> float | None:
    """Share of the mean-removed ground truth within 2 posterior standard deviations.

    Where the diagnostics say that the scale of the reward is open, the reward and its standard
    deviations are multiplied by the positive factor that fits the ground truth best. None without a
    posterior covariance.
    """
    covariance = (result.covariance or {}).get(agent)
    if covariance is None:
        return None
    reward, scale = result.rewards[agent], 1.0
    if str(result.diagnostics[agent].get("scale", "")).startswith("open"):
        own, true = (part[states] - part[states].mean() for part in (reward, truth))
        scale = max(float(own @ true) / max(float(own @ own), np.finfo(float).tiny), 0.0)
    found = calibration(scale * reward, truth, scale**2 * covariance, states=states)
    return found["coverage_2sd"].value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing cells, then write the tables.

    Returns 0; 1 if a cell failed; 2 for bad input.
    """
    parser = _parser()
    given = parser.parse_args(argv)
    root: Path = given.output_dir
    failures: list[Outcome] = []
    try:
        absent = [label for label in given.learners if not installed(label)]
        if absent:
            print(f"not installed, left out: {', '.join(absent)}")
        plan = cells(given.games, given.learners, given.seeds)
        if not given.tables_only:
            failures = _run(missing_tasks(plan, given.observers, root), jobs=given.jobs)
        contents = [read_cell(path) for path in sorted(root.glob("cells/*/*/seed_*.json"))]
    except InputError as fault:
        parser.error(str(fault))
    if not contents:
        parser.error(f"{root} holds no cell of a benchmark")
    print(write_tables(root, contents))
    for outcome in failures:
        print(f"failed: {outcome.task.cell}\n{outcome.fault}", file=sys.stderr)
    return 1 if failures else 0


def _run(tasks: Sequence[Task], *, jobs: int | None) -> list[Outcome]:
    """Run the tasks; returns the failed ones."""
    failures = []
    outcomes = local_pool(jobs).run(
        run_task,
        tasks,
        on_death=lambda task, words: Outcome(task, 0.0, f"its process died: {words}"),
    )
    for done, outcome in enumerate(outcomes, start=1):
        failures += [outcome] if outcome.fault else []
        print(
            f"{done} of {len(tasks)}: {outcome.task.cell}: "
            f"{'FAILED after ' if outcome.fault else ''}{outcome.seconds:.1f} s",
            flush=True,
        )
    return failures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("--games", GAMES),
        ("--learners", LEARNERS),
        ("--observers", OBSERVERS),
    )
    for option, known in tables:
        parser.add_argument(
            option,
            nargs="+",
            choices=list(known),
            default=list(known),
            metavar="NAME",
            help=f"choose from {', '.join(known)} (default: all)",
        )
    parser.add_argument(
        "--seeds", nargs="+", type=_whole, default=list(range(100, 105)), help="default: 100..104"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("benchmark"), metavar="DIR")
    parser.add_argument("--jobs", type=_whole, help="worker processes (default: one per processor)")
    parser.add_argument(
        "--tables-only", action="store_true", help="run nothing, only make the tables"
    )
    return parser


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
