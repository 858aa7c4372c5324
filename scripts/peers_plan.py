"""The tasks of `peers.py`, and what every method is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmark_observers_plan import (
    OBSERVERS,
    BenchmarkConfig,
    Cell,
    config_of,
    local_learner,
)
from peers_run import PEERS

from malfl_algos.experiments.config import PluginConfig

__all__ = ["METHODS", "TASKS", "Task", "config_of_task"]


@dataclass(frozen=True)
class Task:
    """One trace a seed for all methods.

    Args:
        title: of the table.
        learner: a key of `benchmark_observers_plan.LEARNERS`.
        ours: our observers; the first one is compared with the others in the last column.
        peers: keys of `peers_run.PEERS`.
        changed: settings of the experiment that differ from the benchmark of observers.
    """

    title: str
    learner: str
    ours: Sequence[str]
    peers: Sequence[str]
    changed: Mapping[str, Any]


_BOARD: Mapping[str, Any] = {"episodes": 3000, "episode_length": 1000, "seat": "agent"}
_PAPERS = ("ma-lfl-bellman", "ma-lfl", "ma-lfl-faithful", "ma-lfl-published")
TASKS: Mapping[str, Task] = {
    "logel-grid": Task(
        "LOGEL's grid: one G(PO)MDP learner, 16 stages of 50 episodes of 20 steps",
        "gpomdp",
        (
            "logel-history",
            "ma-lfl-bellman",
            "logel",
            "logel-published",
            "lfl",
            "lfl-adam",
            "maxent-irl",
        ),
        [name for name in PEERS if name != "ma-lfl-own-code"],
        {},
    ),
    **{
        family: Task(
            f"The paper's 3x3 game, {family}: two MA-SPI learners, 10 stages of 3000 episodes of "
            "1000 steps; each agent knows its own policies",
            "td",
            _PAPERS,
            ("ma-lfl-own-code",),
            _BOARD,
        )
        for family in ("heterogeneous", "homogeneous")
    },
}

METHODS: Mapping[str, str] = {
    "logel-history": "ours: the whole history of a gradient learner",
    "ma-lfl-bellman": "ours, told no learning rule",
    "logel": "our implementation of LOGEL",
    "logel-published": "our implementation of LOGEL, cloning and constant as in its authors' code",
    "lfl": "our implementation of LfL, solved exactly",
    "lfl-adam": "our implementation of LfL, stopped Adam",
    "maxent-irl": "our implementation of maximum entropy IRL, last stage",
    "ma-lfl": "our implementation of MA-LfL, solved exactly",
    "ma-lfl-faithful": "our implementation of MA-LfL, its equations by stopped Adam",
    "ma-lfl-published": "our implementation of MA-LfL, with the index errors of its authors' code",
    "logel-own-code": "LOGEL (Ramponi et al. 2020), its authors' code, with cloning",
    "lfl-own-code": "LfL (Jacq et al. 2019), the code in LOGEL's repository",
    "ma-lfl-own-code": "MA-LfL (Caliskan et al. 2023), its authors' code",
    "imitation-density": "imitation: density of the last stage's cells",
    "imitation-airl": "imitation: AIRL with PPO, last stage",
    "imitation-mce-irl": "imitation: maximum causal entropy IRL, last stage",
    "econirl-mce-irl": "econirl: maximum causal entropy IRL with standard errors, last stage",
}
"""What every method is."""


FURTHER: Mapping[str, PluginConfig] = {
    "logel-published": PluginConfig(
        "logel", "logel-published", {"cloning": "published", "constant": "fitted"}
    ),
    "ma-lfl": PluginConfig("ma-lfl", "ma-lfl"),
    "ma-lfl-published": PluginConfig(
        "ma-lfl-faithful", "ma-lfl-published", {"design": "published_code"}
    ),
}
"""Observers beside those of the benchmark of observers."""


def config_of_task(name: str, seed: int) -> tuple[BenchmarkConfig, Any]:
    """The experiment of a task with all of our observers, and its learner if it is not a plugin."""
    task, cell = TASKS[name], Cell(name, TASKS[name].learner, seed)
    config = config_of(cell, [label for label in OBSERVERS if label in task.ours])
    known = {plugin.label: plugin for plugin in config.observers}
    for label, further in FURTHER.items():
        told = known[further.name].options if further.name in known else {}
        known[label] = replace(further, options={**told, **further.options})
    wanted = tuple(known[label] for label in task.ours)
    return replace(config, observers=wanted, **task.changed), local_learner(cell)
