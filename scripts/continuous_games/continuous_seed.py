"""One seed of the study of continuous games, part by part; finished parts are not repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from continuous_learning import (
    HeldOut,
    NextReward,
    Settings,
    fresh_returns,
    learned_stages,
    mean_return,
    split_stages,
    uniform_return,
)
from continuous_observers import OURS, Recovered, recover
from numpy.typing import NDArray

from malfl_algos import LearningTrace
from malfl_algos.scores.agreement import pearson, spearman
from malfl_algos.storage.arrays import write_arrays
from malfl_algos.storage.durable import write_json

__all__ = ["TRUE", "read_part", "run_seed"]

FloatArray = NDArray[np.float64]

TRUE = "true-reward"


def run_seed(
    settings: Settings,
    seed: int,
    folder: Path,
    observers: Sequence[str],
    *,
    fresh: bool = True,
    say: Callable[[str], None],
) -> None:
    """Run the missing parts of a seed.

    Args:
        settings: of the study.
        seed: the seed.
        folder: of the seed; every part is one file in it, written as a whole.
        observers: of the study, by name.
        fresh: whether agents are retrained on the ground-truth reward and on ours.
        say: receives a message per finished part.
    """

    def part(name: str, work: Callable[[], Mapping[str, Any]]) -> None:
        path = folder / f"{name}.json"
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        started = perf_counter()
        content = dict(work())
        content["seconds"] = round(perf_counter() - started, 1)
        write_json(path, content)
        say(f"seed {seed}: {name} ({content['seconds']:.0f} s)")

    part("learners", lambda: _learn(settings, seed, folder))
    data = cache(partial(_data, settings, folder))
    recovered = cache(lambda name: recover(name, settings, seed, folder, *data()))
    for name in observers:
        part(f"{name}/scores", partial(_score, folder / name, name, recovered, data))
    if fresh:
        part(TRUE, lambda: {"returns": fresh_returns(settings, seed, _scaled_true(data()[1]))})
    if fresh and OURS in observers:
        part(f"{OURS}/fresh", lambda: _fresh(settings, seed, recovered(OURS), data()[0]))


def read_part(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the content of a part of a seed, or None if it is not finished."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _learn(settings: Settings, seed: int, folder: Path) -> dict[str, Any]:
    stages = list(learned_stages(settings, seed))
    trace, held_out = split_stages(stages, settings)
    trace.save(folder / "trace")
    for number, own in enumerate(held_out):
        own.save(_held_out(folder, number))
    entropies = [
        float(
            np.mean(
                [-(own * np.log(own)).sum(axis=1).mean() for own in stage.truth.policies.values()]
            )
        )
        for stage in stages
    ]
    return {
        "returns": [mean_return(stage) for stage in stages],
        "entropies": entropies,
        "uniform_return": uniform_return(settings, seed),
    }


def _data(settings: Settings, folder: Path) -> tuple[LearningTrace, list[HeldOut]]:
    trace = LearningTrace.load(folder / "trace", verify=False)
    return trace, [HeldOut.load(_held_out(folder, stage)) for stage in range(settings.stages)]


def _held_out(folder: Path, stage: int) -> Path:
    return folder / "held_out" / f"stage_{stage}.npz"


def _score(
    folder: Path,
    name: str,
    recovered: Callable[[str], Recovered],
    data: Callable[[], tuple[LearningTrace, list[HeldOut]]],
) -> dict[str, Any]:
    found, (_, held_out) = recovered(name), data()
    correlation, pairs = {}, {}
    for agent, values in found.values.items():
        truth = np.concatenate([own.rewards[agent] for own in held_out])
        correlation[agent] = {
            "pearson": pearson(values, truth).value,
            "spearman": spearman(values, truth).value,
        }
        pairs[agent] = np.stack([truth, values])
    write_arrays(folder / "pairs.npz", pairs)
    return {
        "correlation": correlation,
        "halves": found.halves,
        "verdicts": found.verdicts,
        "diagnostics": found.diagnostics,
    }


def _fresh(
    settings: Settings, seed: int, recovered: Recovered, trace: LearningTrace
) -> dict[str, Any]:
    """Retrain on recovered rewards, standardised over the steps of the trace as PPO needs it."""
    scaled: dict[str, NextReward] = {}
    for agent, reward in (recovered.rewards or {}).items():
        seen = [
            np.asarray(steps.next_observations[agent])
            for steps in (stage.transitions for stage in trace.stages)
            if steps is not None and steps.next_observations
        ]
        values = np.concatenate([reward(own) for own in seen])
        scaled[agent] = partial(_standardised, reward, float(values.mean()), float(values.std()))
    return {"returns": fresh_returns(settings, seed, scaled)}


def _standardised(reward: NextReward, mean: float, sd: float, seen: NDArray[Any]) -> FloatArray:
    return (reward(seen) - mean) / (sd or 1.0)


def _scaled_true(held_out: Sequence[HeldOut]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of the ground-truth rewards over held-out steps."""
    found = {}
    for agent in held_out[0].rewards:
        values = np.concatenate([own.rewards[agent] for own in held_out])
        found[agent] = float(values.mean()), float(values.std()) or 1.0
    return found
