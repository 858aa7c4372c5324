"""Measure how the fixed constants of the Bayesian observers change the scores.

Each constant is set to other values, one at a time. Every observer then recovers from the same
traces as with the shipped constants, and the table shows the changes of its scores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from study import scored
from study_plan import MAIN_GAMES, OBSERVERS, Cell, cell_config
from tqdm import tqdm

from malfl_algos.experiments.cell import Learned, learn
from malfl_algos.experiments.jobs import prepared_scoring
from malfl_algos.scores import mean_interval
from malfl_algos.work.compilation import tell_of_compilation
from malfl_algos.work.pool import in_parallel

CONSTANTS: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "CONCENTRATION": ("policy_estimation", (0.1, 1.0)),
    "CONVERGED": ("alternation", (0.03, 0.3)),
    "KNOWN_VARIANCE": ("alternation", (1e-12, 1e-8)),
    "FIRST_EVALUATIONS": ("data_fit", (6, 24)),
    "LATER_EVALUATIONS": ("data_fit", (8, 32)),
    "NOISE_BOUNDS": ("inference", ((1e-8, 10.0),)),
    "SCALE_BOUNDS": ("inference", ((0.03, 30.0),)),
    "PRIOR_BOUNDS": ("posterior", ((1e-5, 1e4),)),
    "SCANNED_NOISE": ("inference", ((1e-4, 1e-2),)),
    "MEAN_VARIANCE": ("posterior", (1e4, 1e6)),
    "FIRST_STEP": ("inference", (0.75, 3.0)),
    "SWEEPS": ("learner_models", (50, 200)),
    "SEARCH_STAGES": ("settings", (3, 6)),
    "SEARCH_PASSES": ("settings", (1, 3)),
    "SIGN_SEED": ("replay", (1, 2)),
}
"""Module in `malfl_algos.ma_lfl` that holds the constant, and the values to try."""

CASES = (
    ("td", "1/10", "ma-lfl-bellman"),
    ("td", "1/10", "ma-lfl-replay"),
    ("exact", "policies", "ma-lfl-bellman"),
)
"""Learner, data and observer; data `policies`: the observer knows the ground-truth policies."""

SCORES = ("pearson", "coverage_2sd")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the table; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument(
        "--episodes", type=int, default=3000, help="episodes per stage at full data (default: 3000)"
    )
    parser.add_argument("--jobs", type=int, help="number of processes (default: one per processor)")
    parser.add_argument("--output", type=Path, default=Path("sensitivity.md"))
    given = parser.parse_args(argv)
    for option, least, values in (
        ("--seeds", 0, given.seeds),
        ("--episodes", 1, [given.episodes]),
        ("--jobs", 1, [] if given.jobs is None else [given.jobs]),
    ):
        if min(values, default=least) < least:
            parser.error(f"{option} must be whole numbers >= {least}, got {min(values)}")
    if not given.output.parent.is_dir() or given.output.is_dir():
        parser.error(f"--output must be a file in an existing folder, got {given.output}")
    tell_of_compilation()
    tasks = [
        (Cell(game, learner, data, seed, given.episodes, True), observer)
        for learner, data, observer in CASES
        for game in MAIN_GAMES
        for seed in given.seeds
    ]
    found = in_parallel(measure, tasks, jobs=given.jobs)
    rows = [row for rows in tqdm(found, total=len(tasks), disable=None) for row in rows]
    text = table(rows, command=" ".join(["python scripts/sensitivity.py", *(argv or sys.argv[1:])]))
    given.output.write_text(text, encoding="utf-8")
    print(text)
    return 0


def measure(task: tuple[Cell, str]) -> list[dict[str, Any]]:
    """Scores of one observer on one trace, with the shipped constants and with each other value.

    Returns:
        One row per setting, with scores averaged over agents; `constant` is None for the shipped
        constants.
    """
    cell, observer = task
    learned = learn(cell_config(cell, [observer]))
    base = prepared_scoring(learned)
    settings = [(None, None)] + [(k, v) for k, (_, values) in CONSTANTS.items() for v in values]
    rows = []
    for constant, value in settings:
        shipped = None
        modules: list[ModuleType] = []
        if constant is not None:
            shipped = getattr(
                import_module(f"malfl_algos.ma_lfl.{CONSTANTS[constant][0]}"), constant
            )
            modules = _holding(constant, shipped)
        try:
            for module in modules:
                setattr(module, str(constant), value)
            agents = scored(cell, _unremembered(learned), base, OBSERVERS[observer])
        finally:
            for module in modules:
                setattr(module, str(constant), shipped)
        scores = {score: float(np.mean([agent[score] for agent in agents])) for score in SCORES}
        rows.append(
            {"case": (cell.learner, cell.data, observer), "cell": str(cell)}
            | {"constant": constant, "value": value, "shipped": shipped, **scores}
        )
    return rows


def _unremembered(learned: Learned) -> Learned:
    """The same with stages of which nothing is remembered that another constant has changed."""
    stages = tuple(replace(stage) for stage in learned.trace.stages)
    return replace(learned, trace=replace(learned.trace, stages=stages))


def _holding(constant: str, shipped: Any) -> list[ModuleType]:
    """All modules that hold the constant, also those that imported it from another one."""
    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("malfl_algos.") and vars(module).get(constant) is shipped
    ]


def table(rows: Sequence[Mapping[str, Any]], *, command: str) -> str:
    """The table in Markdown: paired differences from the shipped constants."""
    shipped = {(row["case"], row["cell"]): row for row in rows if row["constant"] is None}
    lines = [
        "# Sensitivity to the fixed constants",
        "",
        "This command writes the tables. Each heading states Pearson r and 2-sd coverage with the "
        "shipped",
        "constants. Each row states their change when one constant has another value: the mean of "
        "the paired",
        "differences over games, seeds and agents, with its 95 % interval. `0` means that no score "
        "changed.",
        "",
        f"```sh\n# not run by the tests: takes long\n{command.strip()}\n```",
    ]
    for case in CASES:
        learner, data, observer = case
        base = [row for key, row in shipped.items() if key[0] == case]
        stand = ", ".join(
            f"{score} {np.mean([row[score] for row in base]):.4f}" for score in SCORES
        )
        lines += [
            "",
            f"## `{observer}`, {learner} learners, data {data}: {stand} ({len(base)} runs)",
            "",
            "| constant | shipped | value | Pearson r | 2-sd coverage |",
            "| --- | --- | --- | --- | --- |",
        ]
        for constant, (_, values) in CONSTANTS.items():
            for value in values:
                own = [
                    row
                    for row in rows
                    if row["case"] == case and (row["constant"], row["value"]) == (constant, value)
                ]
                changes = [
                    _change([row[score] - shipped[case, row["cell"]][score] for row in own])
                    for score in SCORES
                ]
                lines.append(
                    f"| {constant} | {own[0]['shipped']} | {value} | {' | '.join(changes)} |"
                )
    return "\n".join(lines) + "\n"


def _change(differences: Sequence[float]) -> str:
    if not np.any(differences):
        return "0"
    found = mean_interval({number: [one] for number, one in enumerate(differences)})
    interval = "" if found.interval is None else "[{:+.4f}, {:+.4f}]".format(*found.interval)
    return f"{found.mean:+.4f} {interval}"


if __name__ == "__main__":
    sys.exit(main())
