"""The cells of a study: a learner learns, in memory, and observers recover from what was seen.

What remains of a cell is one small JSON file with a row per observer and agent, written whole, so
that a study can be stopped and gone on with, and observers can be added.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from malfl_algos.experiments.cell import Learned, Observation, learn
from malfl_algos.experiments.cell import observe as recover
from malfl_algos.experiments.config import PluginConfig
from malfl_algos.experiments.jobs import plain, prepared_scoring
from malfl_algos.experiments.scoring import scored_rows
from malfl_algos.experiments.study import KNOWN_POLICIES, Cell, cell_config, left_out
from malfl_algos.scores.inputs import HeldOut, Reference
from malfl_algos.storage.durable import write_json
from malfl_env.errors import InputError

__all__ = [
    "Outcome",
    "Task",
    "missing_tasks",
    "observe",
    "read_cell",
    "run_task",
]

SETTINGS = (
    "learner_model",
    "rule",
    "step_size",
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
    """What is missing of a cell: the observers, by label."""

    cell: Cell
    observers: tuple[str, ...]
    root: Path


@dataclass(frozen=True)
class Outcome:
    """What came of a task: the seconds it took, and the traceback if it failed."""

    task: Task
    seconds: float
    fault: str | None = None


def read_cell(path: Path) -> dict[str, Any]:
    """The file of a cell.

    Raises:
        InputError: where it is damaged, naming it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not {"cell", "rows", "refused"} <= set(content):
            raise InputError("no cell of a study")
    except (OSError, ValueError) as fault:
        raise InputError(f"{path}: {fault}; delete it to have it made again") from fault
    return content


def missing_tasks(plan: Iterable[Cell], observers: Iterable[str], root: Path) -> list[Task]:
    """What is still to be done, in the order of the plan.

    Raises:
        InputError: for a damaged file, or one that was made with other numbers of episodes.
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
                    f"{path} was made with {made[0]} episodes a stage and held_out {made[1]}, now "
                    f"{cell.episodes} and {cell.held_out} are asked for: choose another "
                    "--output-dir"
                )
            done = {row["observer"] for row in content["rows"]} | set(content["refused"])
            wanted = [label for label in wanted if label not in done]
        if wanted:
            tasks.append(Task(cell, tuple(wanted), root))
    return tasks


def run_task(task: Task) -> Outcome:
    """Let the learner of a cell learn, have its observers recover, add their rows to its file.

    A failure is an outcome, so that other cells and observers go on. An observer that refuses the
    game or the data (a ValueError, an ArithmeticError) is recorded with its words.
    """
    started = perf_counter()
    try:
        faults = _run(task)
    except Exception:
        faults = [traceback.format_exc()]
    return Outcome(task, perf_counter() - started, "\n".join(faults) or None)


def observe(
    cell: Cell, learned: Learned, base: Reference, observer: PluginConfig
) -> list[dict[str, Any]]:
    """Let an observer recover; one row per agent with every score and what it says of itself.

    Raises:
        InputError, ArithmeticError: where it refuses the game or the data.
    """
    begun = perf_counter()
    observed = recover(learned, observer, policies_known=cell.data == KNOWN_POLICIES)
    told = {"observer": observer.label, "seconds": perf_counter() - begun}
    held_out = _held_out(learned, observed) if cell.held_out else None
    said = observed.recovered[""].diagnostics
    return [
        {**told, **row, **_said(said.get(row["agent"], {}))}
        for row in scored_rows(base, observed.recovered, held_out=held_out)
    ]


def _held_out(learned: Learned, observed: Observation) -> HeldOut:
    """The last stage, and what is recovered from those before it."""
    last = learned.trace.n_stages - 1
    return HeldOut(
        learned.game.without_rewards(),
        observed.from_first(last)[""].rewards,
        [stage.counts for stage in learned.trace.stages],
        first_stage=last,
        discount=learned.config.discount,
        temperature=learned.config.temperature,
    )


def _run(task: Task) -> list[str]:
    """Do a task; the tracebacks of observers that failed."""
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
            content["rows"] += observe(cell, learned, base, observer)
        except (ValueError, ArithmeticError) as fault:
            content["refused"][observer.label] = " ".join(str(fault).split())
        except Exception:
            faults.append(traceback.format_exc())
    content["seconds"] += perf_counter() - started
    write_json(path, content)
    return faults


def _said(diagnostics: Mapping[str, Any]) -> dict[str, Any]:
    """What the observer says of itself."""
    kept = {key: plain(diagnostics.get(key)) for key in ("rank", "n_unknowns", "log_evidence")}
    kept["bounds_hit"] = list(diagnostics.get("bounds_hit", ()))
    kept["settings"] = {key: plain(diagnostics[key]) for key in SETTINGS if key in diagnostics}
    return kept
