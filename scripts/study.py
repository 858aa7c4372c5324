"""The study of all observers: `python scripts/study.py --output-dir study`.

Every cell (game, learner, amount of data, seed) leaves one small JSON file, so the study can be
stopped, gone on with and extended. Tables and pictures are made of whatever cells there are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from study_figures import write_study_figures

from malfl_algos.experiments.study import (
    DATA,
    DEFAULT_LEARNERS,
    DEFAULT_OBSERVERS,
    GAMES,
    LEARNERS,
    MAIN_GAMES,
    OBSERVERS,
    cells,
)
from malfl_algos.experiments.study_cells import Outcome, Task, missing_tasks, run_task
from malfl_algos.experiments.study_tables import read_cells, study_rows, write_study_tables
from malfl_algos.storage.durable import write_json
from malfl_algos.work.compilation import tell_of_compilation
from malfl_algos.work.pool import in_parallel


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then write tables and pictures.

    Returns 0; 1 where a cell failed; 2 for bad input.
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
    except ValueError as fault:
        parser.error(str(fault))
    if not contents:
        parser.error(f"no cell of a study in {root}")
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
    for outcome in failures:
        print(f"failed: {outcome.task.cell}\n{outcome.fault}", file=sys.stderr)
    return 1 if failures else 0


def _run(tasks: Sequence[Task], root: Path, *, jobs: int | None) -> list[Outcome]:
    """Do the tasks; the failed ones."""
    print(f"{len(tasks)} cells to do", flush=True)
    started, before = perf_counter(), _wall_seconds(root)
    work, failures = 0.0, []
    for done, outcome in enumerate(in_parallel(run_task, tasks, jobs=jobs), start=1):
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
    """Wall time of all runs in a folder so far."""
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
            help=f"some of {', '.join(known)} (default: {' '.join(default)})",
        )
    parser.add_argument(
        "--seeds", nargs="+", type=_seed, default=list(range(100, 120)), help="(default: 100..119)"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("study"), help="(default: study)")
    parser.add_argument("--jobs", type=_count, help="processes (default: one per processor)")
    parser.add_argument(
        "--episodes", type=_count, default=3000, help="of a stage, full data (default: 3000)"
    )
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="also recover from all stages but the last, and foretell the last",
    )
    parser.add_argument(
        "--tables-only", action="store_true", help="run nothing, make tables of the cells there are"
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
