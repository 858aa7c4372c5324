"""The lines `trend`, `archive` and `start`: what a person waits for, in processor time.

Processor time does not depend on what else the machine does, as far as caches and clock allow.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from cProfile import Profile
from dataclasses import replace
from functools import partial
from inspect import unwrap
from time import process_time
from typing import Any
from unittest import mock

import numpy as np
from benchmark_lines import DISCOUNT, TEMPERATURE, Contest, seconds_of
from numpy.typing import NDArray


def trend(fast: bool) -> Iterator[Contest]:
    """Rewards by `ma-lfl-bellman` from all stages and from the first 2, 3, ... of them, with
    verdicts, one family; against the same recoveries one by one, each of which searches anew.
    """
    from malfl_algos.experiments import cell
    from malfl_algos.experiments.config import PluginConfig, from_mapping
    from malfl_algos.work.threads import one_blas_thread

    given: dict[str, Any] = {"reward_families": ["heterogeneous"], "seeds": [0]}
    if fast:
        given |= {"game": {"size": 2}, "iterations": 5, "episodes": 20, "episode_length": 50}
    config = from_mapping(given)
    options = {"learner": "exact", "prior": "iid"} if fast else {}
    plugin = PluginConfig("ma-lfl-bellman", "ma-lfl-bellman", options)
    learned = cell.learn(config, keep_transitions=False)
    shorter = range(2, config.iterations)

    def together() -> None:
        observed = cell.observe(learned, plugin)
        for n_stages in shorter:
            observed.from_first(n_stages)

    def alone(n_stages: int, *, judged: bool = True) -> None:
        first = learned.trace.first(n_stages)
        # nothing is remembered of copied stages
        trace = replace(first, stages=tuple(replace(stage) for stage in first.stages))
        cell.recover(
            cell.make_observer(config, plugin, seed=0),
            trace,
            game=learned.game.without_rewards(),
            discount=DISCOUNT,
            temperature=TEMPERATURE,
            judged=judged,
            brief=True,
        )

    def one_by_one() -> None:
        for n_stages in (config.iterations, *shorter):
            alone(n_stages)

    with one_blas_thread():
        alone(config.iterations)
        notes = {
            f"one recovery from all stages, {words} its verdict, s": seconds_of(
                partial(alone, config.iterations, judged=judged), process_time
            )
            for words, judged in (("with", True), ("without", False))
        }
        notes |= _shares(lambda: alone(config.iterations))
        against = "each recovery with a search of its own"
        yield Contest("trend", "s", together, one_by_one, against, notes=notes, clock=process_time)


def _shares(run: Callable[[], None]) -> dict[str, float]:
    """Shares of a recovery's time, with the profiler, and with all that a part calls."""
    from malfl_algos.ma_lfl.learner_models import StageModel
    from malfl_algos.ma_lfl.noise_search import searched_noise
    from malfl_algos.ma_lfl.prior_shapes import chosen_shapes
    from malfl_algos.ma_lfl.settings import choose_settings
    from malfl_algos.observers.judged_agent import other_discounts
    from malfl_algos.observers.judging import judge

    parts: dict[str, Callable[..., object]] = {
        "choice of the rule and rho": choose_settings,
        "td coefficients": StageModel.stage_tables,
        "noise, scale and prior variance": searched_noise,
        "shapes of the smooth prior": chosen_shapes,
        "verdict": judge,
        "verdict's other discounts": other_discounts,
    }
    profile = Profile()
    profile.runcall(run)
    spent = {entry.code: entry.totaltime for entry in profile.getstats()}
    whole = max(spent.values())
    return {
        f"share of the recovery, {name}": spent.get(unwrap(part).__code__, 0.0) / whole
        for name, part in parts.items()
    }


def archive(fast: bool) -> Iterator[Contest]:
    """Ten stages of steps as one archive, against zlib's usual level of compression."""
    import malfl_env.npz as npz
    from malfl_algos.learners.ma_spi import MaSpi
    from malfl_env import grid_world_v0

    episodes = 30 if fast else 300
    learner = MaSpi(DISCOUNT, TEMPERATURE, episodes=episodes, keep_transitions=True)
    rng = np.random.default_rng(0)
    stages = learner.learn(grid_world_v0.parallel_env(), n_stages=10, rng=rng)
    arrays: dict[str, NDArray[Any]] = {}
    for number, stage in enumerate(stages):
        steps = stage.observed.transitions
        assert steps is not None
        for name in ("states", "joint_actions", "next_states", "episode_ends"):
            arrays[f"{number}/{name}"] = getattr(steps, name)

    def usual() -> bytes:
        with mock.patch.object(npz, "LARGE_LEVEL", 6):
            return npz.npz_bytes(arrays)

    notes: Mapping[str, float] = {
        "MB": len(npz.npz_bytes(arrays)) / 1e6,
        "MB at the usual level": len(usual()) / 1e6,
    }
    yield Contest(
        "archive",
        "s",
        ours=lambda: npz.npz_bytes(arrays),
        baseline=usual,
        against="zlib, level 6",
        notes=notes,
        clock=process_time,
    )


def start(fast: bool) -> Iterator[Contest]:
    """The start of a command, against that of Python with NumPy."""

    def process(*argv: str) -> Callable[[], object]:
        command = [sys.executable, *argv]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    for words in (("--version",), ("learn", "--help"), ("plugins",)):
        run = process("-m", "malfl_algos", *words)
        run()
        yield Contest(
            f"start, malfl {' '.join(words)}",
            "s",
            ours=run,
            baseline=process("-c", "import numpy"),
            against="Python and NumPy",
            clock=_of_children,
        )


def _of_children() -> float:
    """Processor time of all processes that this one started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system
