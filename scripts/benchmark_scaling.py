"""The line `scaling`: exact learning and recovery as games grow.

Boards grow with two agents, teams grow on a board of 3 x 3. Every run is a process of its own, so
that its peak memory is its own, and lets MA-SPI learn exactly for ten stages and `ma-lfl-bellman`
recover every agent's reward, the policies handed over. On small games the noise and prior variance
are searched by evidence; larger ones are given those of the largest game searched.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from benchmark_lines import spread
from benchmark_scaling_run import FAMILY, Job

from malfl_env import MarkovGame, markov_game

SIZES = (3, 4, 5, 6, 8, 10, 14, 20)
"""Boards, with two agents."""
TEAMS = (3, 4)
"""Agents on a board of 3 x 3, beyond two."""
SEARCHED_STATES = 729
"""Noise and prior are searched up to this number of joint states: 5 x 5 with two agents."""
BOTH_STATES = 1300
"""Both solvers are timed up to this number of joint states: 6 x 6."""
PATIENCE = 300
"""A game is not run again after this many seconds of its runs."""
AIMS: Mapping[tuple[int, int], tuple[float, float | None]] = {
    (5, 2): (5, None),
    (10, 2): (120, 2e9),
    (20, 2): (90 * 60, 8e9),
    (3, 4): (60, None),
}
"""Desired seconds of learning and recovery together, and bytes, by (size, agents)."""
HYPER_PARAMETERS = ("noise_variance", "prior_variance")


class Failed(Exception):
    """A run ended with an error; its last line."""


def scaling(fast: bool, *, repeats: int, largest: int) -> dict[str, Any]:
    """Measure every game.

    Args:
        fast: tiny games only.
        repeats: runs per game, as long as they take less than `PATIENCE` together.
        largest: size of the largest board.

    Returns:
        The content of the JSON file: a row for each game, and the fits.
    """
    from benchmark_scaling_report import fits

    boards = [Job(size, 2) for size in SIZES if size <= largest]
    series, limit = [boards, [Job(3, n_agents) for n_agents in TEAMS]], SEARCHED_STATES
    if fast:
        series, limit = [[Job(2, 2, n_stages=4), Job(3, 2, n_stages=4)]], 16
    rows = [row for jobs in series for row in grow(jobs, repeats, searched_states=limit)]
    return {"family": FAMILY, "stages": series[0][0].n_stages, "games": rows, "fits": fits(rows)}


def grow(jobs: Sequence[Job], repeats: int, *, searched_states: int) -> Iterator[dict[str, Any]]:
    """A row for each game, the smallest first, which is searched."""
    source, given = "", dict[str, float]()
    for job in jobs:
        print(f"scaling: {job.name} ...", file=sys.stderr, flush=True)
        game = markov_game(job.environment())
        searched = not given or game.n_states <= searched_states
        about = _about(job, game) | {"noise_and_prior": "searched" if searched else f"of {source}"}
        try:
            runs = _repeated([job if searched else _given(job, given)], repeats)[0]
            if searched:
                source, given = job.name, {key: runs[0][key] for key in HYPER_PARAMETERS}
            pair = None
            if game.n_states <= BOTH_STATES:
                solvers: tuple[Any, ...] = ("dense", "iterative")
                pair = _repeated([_given(job, given, solver=one) for one in solvers], repeats)
        except Failed as fault:
            yield about | {"fault": str(fault)}
            if not given:
                return
        else:
            yield about | _row(runs, pair)


def _given(job: Job, values: Mapping[str, float], **changed: Any) -> Job:
    return replace(job, **{**values, **changed})


def _row(
    runs: Sequence[Mapping[str, Any]], pair: Sequence[Sequence[Mapping[str, Any]]] | None
) -> dict[str, Any]:
    """The results of a game: as a user runs it, and with both solvers under the same settings."""
    seconds = {key: np.array([run[key] for run in runs]) for key in ("learning", "recovery")}
    row: dict[str, Any] = {key: spread(values) for key, values in seconds.items()}
    row["total"] = spread(seconds["learning"] + seconds["recovery"])
    row["peak_bytes"] = max(run["peak_bytes"] for run in runs)
    told = ("bytes_before", "solver", "sd_method", "pearson", *HYPER_PARAMETERS)
    row |= {key: runs[0][key] for key in told}
    row["solvers"] = None
    if pair is not None:
        dense, iterative = (np.array([run["recovery"] for run in side]) for side in pair)
        row["solvers"] = {
            "dense": spread(dense),
            "iterative": spread(iterative),
            "ratio": spread(dense / iterative),
            "pearson": [side[0]["pearson"] for side in pair],
        }
        runs = pair[1]
    iterative_runs = [run for run in runs if run["solver"] == "iterative"]
    row["iterations"] = iterative_runs[0]["iterations"] if iterative_runs else None
    each = [run["recovery"] / sum(run["iterations"]) for run in iterative_runs]
    row["per_iteration"] = spread(each) if each else None
    return row


def _about(job: Job, game: MarkovGame) -> dict[str, Any]:
    seconds, n_bytes = AIMS.get((job.size, job.n_agents), (None, None))
    return {
        "game": job.name,
        "size": job.size,
        "n_agents": job.n_agents,
        "n_states": game.n_states,
        "n_joint_actions": int(np.prod(game.n_actions)),
        "aim_seconds": seconds,
        "aim_bytes": n_bytes,
    }


def _repeated(jobs: Sequence[Job], repeats: int) -> list[list[dict[str, Any]]]:
    """Results of the jobs, which run in turn, A B A B ..."""
    results: list[list[dict[str, Any]]] = [[] for _ in jobs]
    started = perf_counter()
    while not results[0] or (len(results[0]) < repeats and perf_counter() - started < PATIENCE):
        for job, found in zip(jobs, results, strict=True):
            found.append(_in_process(job))
    return results


def _in_process(job: Job) -> dict[str, Any]:
    script = Path(__file__).with_name("benchmark_scaling_run.py")
    argv = [sys.executable, str(script), json.dumps(asdict(job))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed((done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1])
    return dict(json.loads(done.stdout))
