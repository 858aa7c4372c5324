"""Commands on whole experiments: `malfl reproduce`, `malfl sweep`, `malfl verify`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from malfl_algos.cli.table import (
    argument,
    command,
    config_argument,
    count_arguments,
    existing,
    game_argument,
    log,
    picked,
    read_config,
    set_keys,
    tell,
    tell_of_compilation,
    whole,
    whole_argument,
)
from malfl_env.errors import InputError

__all__ = ["FAST", "reproduce", "sweep", "verify"]

FAST: Mapping[str, Any] = {"iterations": 4, "episodes": 100, "episode_length": 200, "seeds": [0]}
"""Settings of `--fast`."""


@command(
    "reproduce",
    "Run the paper's experiments, or similar ones, from end to end.",
    config_argument(),
    game_argument("not for a learner, which plays a game"),
    argument(
        "--output-dir",
        metavar="DIR",
        default="malfl-results",
        help="write into this folder (default: malfl-results); a run in that folder is continued: "
        "seeds, families and observers may be added, no other setting may change",
    ),
    argument(
        "--reward-families",
        nargs="+",
        metavar="NAME",
        help="run these reward families (default: homogeneous heterogeneous); other games than the "
        "grid world have the family own; the configuration can define others",
    ),
    *count_arguments(),
    argument(
        "--seeds",
        nargs="+",
        type=whole,
        metavar="K",
        help="run every family once per seed (default: 0 1 2 3 4)",
    ),
    argument("--learner", metavar="NAME", help="use this learner (default: ma-spi)"),
    argument(
        "--observers",
        nargs="+",
        metavar="NAME",
        help="recover rewards with these observers, by plugin name or by label in the "
        "configuration (default: ma-lfl ma-lfl-own-action ma-lfl-state ma-lfl-faithful)",
    ),
    argument(
        "--seat",
        choices=("external", "agent"),
        help="choose the perspective of the observer; external: it estimates all policies; agent: "
        "it is a participating agent and knows its own policy (default: external)",
    ),
    whole_argument(
        "--jobs",
        "use N worker processes (default: one per processor); results do not depend on N",
    ),
    argument(
        "--fast",
        action="store_true",
        help="run a smoke test: 4 iterations, 100 episodes of 200 steps, seed 0; overrides the "
        "configuration file, other options override it",
    ),
    argument("--overwrite", action="store_true", help="replace a run in the output folder"),
    resumes=True,
)
def reproduce(arguments: argparse.Namespace) -> int:
    """Run an experiment and print its tables; returns the exit status."""
    from malfl_algos.experiments.config import merge

    base = read_config(arguments.config, arguments.game)
    overrides: dict[str, Any] = dict(FAST) if arguments.fast else {}
    overrides |= set_keys(
        arguments, "reward_families", "iterations", "episodes", "episode_length", "seeds", "seat"
    )
    if arguments.learner is not None:
        overrides["learner"] = picked(arguments.learner, [base.learner])
    if arguments.observers is not None:
        overrides["observers"] = [picked(name, base.observers) for name in arguments.observers]
    config = merge(base, overrides)
    tell_of_compilation()
    from malfl_algos.experiments.engine import reproduce as run_experiment
    from malfl_algos.experiments.text import summary_text
    from malfl_algos.report import write_figures

    output = Path(arguments.output_dir)
    summary = run_experiment(
        config,
        output,
        jobs=arguments.jobs,
        overwrite=arguments.overwrite,
        draw=write_figures,
        log=log,
    )
    tell(summary_text(summary))
    tell(f"\nTables: {output}; figures: {output / 'figures'}")
    return 0


@command(
    "verify",
    "Check that the folder of a run or a sweep is complete and undamaged.",
    argument("folder", metavar="OUT", help="check this output folder of malfl reproduce or sweep"),
)
def verify(arguments: argparse.Namespace) -> int:
    """Check the folder of a run or a sweep and print one line for each error."""
    existing(arguments.folder)
    from malfl_algos.experiments.records import RECORD_NAME
    from malfl_algos.experiments.sweep_verification import is_sweep, verify_sweep
    from malfl_algos.experiments.verification import verify as check_folder

    folder = Path(arguments.folder)
    of_sweep = not (folder / RECORD_NAME).is_file() and is_sweep(folder)
    verdict = verify_sweep(folder) if of_sweep else check_folder(folder)
    lines = (*verdict.notes, *verdict.faults)
    tell("\n".join(lines) or f"{arguments.folder}: no errors found")
    return 1 if verdict.faults else 0


@command(
    "sweep",
    "Run an experiment at every point of a grid, here or on a cluster.",
    argument(
        "file",
        metavar="FILE",
        help="read this YAML file: `base` is an experiment, `grid` lists values for its keys",
    ),
    game_argument("not for a learner, which plays a game"),
    argument(
        "--output-dir",
        metavar="DIR",
        required=True,
        help="write the runs, the tables and the figure into this folder; finished runs in it are "
        "kept",
    ),
    argument(
        "--backend",
        choices=("loky", "dask", "ray"),
        default="loky",
        help="choose where to run; loky: processes on this machine; dask, ray: a cluster "
        "(default: loky)",
    ),
    argument(
        "--address",
        metavar="ADDRESS",
        help="connect to this cluster: HOST:PORT, a scheduler file of Dask (.json), or auto for "
        "Ray (default: start a small cluster on this machine)",
    ),
    whole_argument(
        "--jobs", "do N runs at a time (default: one per processor); results do not depend on N"
    ),
    whole_argument("--max-runs", "reject a grid of more than N runs (default: 1000)", 1000),
    whole_argument("--retries", "repeat a failed run up to N times (default: 1)", 1),
    whole_argument("--connect-timeout", "give up on a cluster after N seconds (default: 20)", 20),
    argument("--overwrite", action="store_true", help="replace a sweep in the output folder"),
    argument(
        "--x",
        metavar="KEY",
        help="plot this key on the horizontal axis (default: the first key that varies)",
    ),
    argument(
        "--hue",
        metavar="KEY",
        help="plot one line per value of this key (default: the next key that varies)",
    ),
    argument(
        "--measure",
        metavar="NAME",
        default="pearson",
        help="plot this score, a column of the table (default: pearson)",
    ),
    resumes=True,
)
def sweep(arguments: argparse.Namespace) -> int:
    """Run a sweep and print the paths of its tables and its figure."""
    existing(arguments.file)
    if arguments.max_runs < 1:
        raise InputError(f"max-runs must be a whole number >= 1, got {arguments.max_runs}")
    tell_of_compilation()
    from malfl_algos.experiments.engine import run_sweep
    from malfl_algos.experiments.grid import figure_of, load_sweep
    from malfl_algos.report import write_sweep_figure
    from malfl_algos.work.clusters import open_pool

    wanted = load_sweep(arguments.file, max_runs=arguments.max_runs, game=arguments.game)
    figure = figure_of(wanted, x=arguments.x, hue=arguments.hue, measure=arguments.measure)
    written = run_sweep(
        wanted,
        arguments.output_dir,
        pool=open_pool(
            arguments.backend,
            address=arguments.address,
            jobs=arguments.jobs,
            connect_timeout=arguments.connect_timeout,
        ),
        retries=arguments.retries,
        overwrite=arguments.overwrite,
        draw=partial(write_sweep_figure, **asdict(figure)),
        log=log,
    )
    tell(f"{len(wanted.runs)} runs: {', '.join(map(str, written))}")
    return 0
