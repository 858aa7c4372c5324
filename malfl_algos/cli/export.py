"""What `malfl export` does, apart from parsing: it reads, checks, converts and says where."""

from __future__ import annotations

import argparse
from pathlib import Path

from malfl_algos.experiments.config import ExperimentConfig, load_config
from malfl_algos.observation_trace import ObservationTrace, from_learning_trace
from malfl_algos.storage.export import export_minari, export_parquet
from malfl_algos.trace import LearningTrace

__all__ = ["export"]


def export(arguments: argparse.Namespace) -> int:
    """Write a trace for other tools."""
    trace = _trace(Path(arguments.trace), arguments.config)
    write = {"minari": export_minari, "parquet": export_parquet}[arguments.format]
    write(trace, arguments.output)
    n_steps = sum(len(stage.joint_actions) for stage in trace.stages)
    print(f"{arguments.output}: {trace.n_stages} stages, {n_steps} steps")
    return 0


def _trace(path: Path, config: str | None) -> ObservationTrace:
    if path.is_dir():
        return ObservationTrace.load(path)
    learned = LearningTrace.load(path)
    experiment = ExperimentConfig() if config is None else load_config(config)
    game = experiment.markov_game(experiment.reward_families[0]).without_rewards()
    return from_learning_trace(learned, game)
