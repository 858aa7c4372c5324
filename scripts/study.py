"""The study of all observers: `python scripts/study.py --output-dir study`.

Every cell (game, learner, amount of data, seed) writes one small JSON file, so the study can be
stopped, resumed and extended. Tables and figures are made from the cells that are present. Read
`study_plan.py` first, which lists the cells; `study_targets.py` lists the targets.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from study_figures import write_study_figures
from study_plan import (
    DATA,
    DEFAULT_LEARNERS,
    DEFAULT_OBSERVERS,
    GAMES,
    KNOWN_POLICIES,
    LEARNERS,
    MAIN_GAMES,
    OBSERVERS,
    Cell,
    cell_config,
    cells,
    left_out,
)
from study_tables import read_cell, read_cells, study_rows, write_study_tables

from malfl_algos import judge
from malfl_algos.experiments.cell import Learned, Observation, learn, observe
from malfl_algos.experiments.config import PluginConfig
from malfl_algos.experiments.jobs import prepared_scoring
from malfl_algos.experiments.scoring import scored_rows
from malfl_algos.scores.inputs import HeldOut, Reference
from malfl_algos.storage.durable import write_json
from malfl_algos.storage.results import plain
from malfl_algos.work.compilation import tell_of_compilation
from malfl_algos.work.pool import local_pool
from malfl_env.errors import InputError

SETTINGS = (
    "learner_model",
    "rule",
    "step_size",
    "improvement",
    "improvement_sd",
    "scale",
    "discount",
    "noise_variance",
    "noise_scale",
    "prior_variance",
    "passes",
    "settled",
)
"""Diagnostics that a row keeps under `settings`."""


@dataclass(frozen=True)
class Task:
    """The observers that a cell still lacks, by label."""

    cell: Cell
    observers: tuple[str, ...]
    root: Path


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task: its wall time in seconds, and the traceback if it failed."""

    task: Task
    seconds: float
    fault: str | None = None


def missing_tasks(plan: Iterable[Cell], observers: Iterable[str], root: Path) -> list[Task]:
    """The tasks that are not done yet, in the order of the plan.

    Raises:
        InputError: for a damaged file, or a file that was made with another number of episodes.
    """
    tasks = []
    for cell in plan:
        wanted = [label for label in observers if left_out(cell, label) is None]
        path = cell.path(root)
        if path.exists():
            content = read_cell(path)
            made = content["cell"].get("episodes"), content["cell"].get("held_out", False)
            if made != (cell.episodes, cell.held_out):
                raise InputError(
                    f"{path} was made with {made[0]} episodes per stage and held_out {made[1]}, "
                    f"but {cell.episodes} and {cell.held_out} were requested: choose another "
                    "--output-dir"
                )
            done = {row["observer"] for row in content["rows"]} | set(content["refused"])
            wanted = [label for label in wanted if label not in done]
        if wanted:
            tasks.append(Task(cell, tuple(wanted), root))
    return tasks


def run_task(task: Task) -> Outcome:
    """Let the learner of a cell learn, have its observers recover, add their rows to its file.

    A failure is an outcome, so that other cells and observers continue. If an observer rejects the
    game or the data (InputError, ArithmeticError), its message is recorded.
    """
    started = perf_counter()
    try:
        faults = _run_observers(task)
    except Exception:
        faults = [traceback.format_exc()]
    return Outcome(task, perf_counter() - started, "\n".join(faults) or None)


def scored(
    cell: Cell, learned: Learned, base: Reference, observer: PluginConfig
) -> list[dict[str, Any]]:
    """Let an observer recover; one row per agent with every score and the main diagnostics.

    Raises:
        InputError, ArithmeticError: if it rejects the game or the data.
    """
    started = perf_counter()
    known = cell.data == KNOWN_POLICIES
    observed = observe(learned, observer, policies_known=known, judged=False)
    common = {"observer": observer.label, "seconds": perf_counter() - started}
    result = observed.recovered[""]
    verdict = judge(
        result,
        learned.trace,
        game=learned.game.without_rewards(),
        discount=learned.config.discount,
        temperature=learned.config.temperature,
        known_policies=learned.truth.joint_policies if known else None,
        observer=observed.observer,
    )
    judged = {"": replace(result, verdict=verdict)}
    held_out = _held_out(learned, observed) if cell.held_out else None
    said = result.diagnostics
    return [
        {**common, **row, **_diagnostics(said.get(row["agent"], {}))}
        for row in scored_rows(base, judged, held_out=held_out)
    ]


def _held_out(learned: Learned, observed: Observation) -> HeldOut:
    """The last stage, and the rewards recovered from the stages before it."""
    last = learned.trace.n_stages - 1
    return HeldOut(
        learned.game.without_rewards(),
        observed.from_first(last)[""].rewards,
        [stage.counts for stage in learned.trace.stages],
        first_stage=last,
        discount=learned.config.learners_discount,
        temperature=learned.config.learners_temperature,
    )


def _run_observers(task: Task) -> list[str]:
    """Run a task; returns the tracebacks of observers that failed."""
    started, cell, path = perf_counter(), task.cell, task.cell.path(task.root)
    content: dict[str, Any] = {"cell": {}, "seconds": 0.0, "rows": [], "refused": {}}
    if path.exists():
        content = read_cell(path)
    content["cell"] = {**asdict(cell), "episodes": cell.episodes}
    learned = learn(cell_config(cell, task.observers))
    base = prepared_scoring(learned)
    content["learning_seconds"] = perf_counter() - started
    faults = []
    for observer in learned.config.observers:
        try:
            content["rows"] += scored(cell, learned, base, observer)
        except (InputError, ArithmeticError) as fault:
            content["refused"][observer.label] = " ".join(str(fault).split())
        except Exception:
            faults.append(traceback.format_exc())
    content["seconds"] += perf_counter() - started
    write_json(path, content)
    return faults


def _diagnostics(diagnostics: Mapping[str, Any]) -> dict[str, Any]:
    """The diagnostics of an observer that a row keeps."""
    kept = {key: plain(diagnostics.get(key)) for key in ("rank", "n_unknowns", "log_evidence")}
    settings = {key: plain(diagnostics.get(key)) for key in SETTINGS}
    kept["bounds_hit"] = list(diagnostics.get("bounds_hit") or ())
    kept["settings"] = {key: value for key, value in settings.items() if value is not None}
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing cells, then write tables and figures.

    Returns 0; 1 if a cell failed; 2 for bad input.
    """
    parser = _parser()
    given = parser.parse_args(argv)
    root: Path = given.output_dir
    failures: list[Outcome] = []
    try:
        if not given.tables_only:
            tell_of_compilation()
            plan = cells(
                given.games,
                given.learners,
                given.data,
                given.seeds,
                full_episodes=given.episodes,
                held_out=given.held_out,
            )
            failures = _run(missing_tasks(plan, given.observers, root), root, jobs=given.jobs)
        contents = read_cells(root)
    except InputError as fault:
        parser.error(str(fault))
    for outcome in failures:
        print(f"failed: {outcome.task.cell}\n{outcome.fault}", file=sys.stderr)
    if failures and not contents:
        return 1
    if not contents:
        parser.error(f"{root} holds no cell of a study")
    print(write_study_tables(root))
    shown = [row for row in study_rows(contents) if row["observer"] in DEFAULT_OBSERVERS]
    for path in write_study_figures(
        shown, root / "figures", main_games=MAIN_GAMES, observers=DEFAULT_OBSERVERS
    ):
        print(f"drawn: {path}")
    seconds = sum(content["seconds"] for content in contents)
    print(
        f"{len(contents)} cells: {seconds / 3600:.2f} hours of work, "
        f"{_wall_seconds(root) / 3600:.2f} hours of wall time over all runs"
    )
    return 1 if failures else 0


def _run(tasks: Sequence[Task], root: Path, *, jobs: int | None) -> list[Outcome]:
    """Run the tasks; returns the failed ones."""
    print(f"{len(tasks)} cells to run", flush=True)
    started, before = perf_counter(), _wall_seconds(root)
    work, failures = 0.0, []
    outcomes = local_pool(jobs).run(
        run_task,
        tasks,
        on_death=lambda task, words: Outcome(task, 0.0, f"its process died: {words}"),
    )
    for done, outcome in enumerate(outcomes, start=1):
        work += outcome.seconds
        failures += [outcome] if outcome.fault else []
        elapsed = perf_counter() - started
        print(
            f"{done} of {len(tasks)}: {outcome.task.cell}: "
            f"{'FAILED after ' if outcome.fault else ''}{outcome.seconds:.1f} s; "
            f"work {work / 3600:.2f} h, elapsed {elapsed / 3600:.2f} h",
            flush=True,
        )
        write_json(_wall_file(root), {"wall_seconds": before + elapsed})
    return failures


def _wall_file(root: Path) -> Path:
    return root / "time.json"


def _wall_seconds(root: Path) -> float:
    """Wall time in seconds of all runs in a folder so far."""
    try:
        return float(json.loads(_wall_file(root).read_text(encoding="utf-8"))["wall_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option, known, default in (
        ("--games", GAMES, list(GAMES)),
        ("--learners", LEARNERS, list(DEFAULT_LEARNERS)),
        ("--data", DATA, list(DATA)),
        ("--observers", OBSERVERS, list(DEFAULT_OBSERVERS)),
    ):
        parser.add_argument(
            option,
            nargs="+",
            choices=list(known),
            default=default,
            metavar="NAME",
            help=f"choose from {', '.join(known)} (default: {' '.join(default)})",
        )
    parser.add_argument(
        "--seeds", nargs="+", type=_seed, default=list(range(100, 120)), help="default: 100..119"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("study"), help="default: study")
    parser.add_argument("--jobs", type=_count, help="worker processes (default: one per processor)")
    parser.add_argument(
        "--episodes",
        type=_count,
        default=3000,
        help="episodes per stage that count as full data (default: 3000)",
    )
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="also recover from all stages but the last, and predict the last stage",
    )
    parser.add_argument(
        "--tables-only",
        action="store_true",
        help="run nothing, only make tables and figures",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
