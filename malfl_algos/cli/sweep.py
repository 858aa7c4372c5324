"""What `malfl sweep` does, apart from parsing: it checks, calls and prints."""

from __future__ import annotations

import argparse
import sys

from malfl_algos.experiments.grid import load_sweep
from malfl_algos.experiments.sweep import picture_of, run_sweep
from malfl_env.errors import InputError

__all__ = ["sweep"]


def sweep(arguments: argparse.Namespace) -> int:
    """Run a sweep, and say where its tables and its picture are."""
    if arguments.max_runs < 1:
        raise InputError(f"max-runs must be a whole number >= 1, got {arguments.max_runs}")
    wanted = load_sweep(arguments.file, max_runs=arguments.max_runs)
    picture = picture_of(wanted, x=arguments.x, hue=arguments.hue, measure=arguments.measure)
    written = run_sweep(
        wanted,
        arguments.output_dir,
        picture=picture,
        backend=arguments.backend,
        address=arguments.address,
        jobs=arguments.jobs,
        retries=arguments.retries,
        connect_timeout=arguments.connect_timeout,
        log=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(f"{len(wanted.runs)} runs: {', '.join(map(str, written))}")
    return 0
