"""One seed of the study of simple spread, part by part; finished parts are not repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from malfl_sb3.rewarded import RewardFunction
from numpy.typing import NDArray
from simple_spread_learning import (
    HeldOut,
    Settings,
    fresh_returns,
    learned_stages,
    mean_return,
    random_stream,
    split_stages,
    true_rewards,
    uniform_return,
)
from simple_spread_scores import (
    LogPolicy,
    likelihoods,
    mean_likelihood,
    next_policies,
    reward_correlations,
)

from malfl_algos import LearningTrace
from malfl_algos.storage.arrays import write_arrays
from malfl_algos.storage.durable import write_json

__all__ = ["TRUE", "ObserverPlan", "Recovered", "read_part", "run_seed"]

FloatArray = NDArray[np.float64]

TRUE = "true-reward"
TEMPERATURE = 1.0
"""PPO has no temperature; another value only scales the recovered reward."""


@dataclass(frozen=True, eq=False)
class Recovered:
    """The result of an observer, as the study uses it.

    Args:
        rewards: per agent.
        log_policies: per agent, the estimated log-policy of the last stage shown.
        diagnostics: JSON values.
    """

    rewards: Mapping[str, RewardFunction]
    log_policies: Mapping[str, LogPolicy]
    diagnostics: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ObserverPlan:
    """An observer of the study.

    Args:
        label: names its folder and its row.
        read: recovers rewards from a trace, given the discount and a generator. It saves the
            result in the given folder, and loads it from there if it exists.
        improvement: assumed improvement of the learners, `soft` or `proximal`.
        fresh: whether agents are retrained on the recovered reward.
    """

    label: str
    read: Callable[[LearningTrace, float, np.random.Generator, Path], Recovered]
    improvement: str = "proximal"
    fresh: bool = True


def run_seed(
    settings: Settings,
    seed: int,
    folder: Path,
    observers: Sequence[ObserverPlan],
    *,
    say: Callable[[str], None],
) -> None:
    """Run the missing parts of a seed.

    Args:
        settings: of the study.
        seed: the seed.
        folder: of the seed; every part is one file in it, written as a whole.
        observers: the observers of the study.
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
    part(TRUE, lambda: _fresh(settings, seed, folder, true_rewards()))
    for plan in observers:
        part(f"{plan.label}/scores", lambda plan=plan: _recover(settings, seed, folder, plan))
        if plan.fresh:
            part(
                f"{plan.label}/fresh",
                lambda plan=plan: _fresh(
                    settings, seed, folder, _read(settings, seed, folder, plan).rewards
                ),
            )


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


def _fresh(
    settings: Settings, seed: int, folder: Path, rewards: Mapping[str, RewardFunction]
) -> dict[str, Any]:
    trace = _trace(settings, folder)
    standardised = {agent: _standardised(own, trace) for agent, own in rewards.items()}
    return {"returns": fresh_returns(settings, seed, standardised)}


def _recover(settings: Settings, seed: int, folder: Path, plan: ObserverPlan) -> dict[str, Any]:
    recovered = _read(settings, seed, folder, plan)
    trace = _trace(settings, folder)
    held_out = [HeldOut.load(_held_out(folder, stage)) for stage in range(settings.stages + 1)]
    seen, following = held_out[:-1], held_out[-1]
    predicted = next_policies(
        recovered.rewards,
        recovered.log_policies,
        trace,
        improvement=plan.improvement,
        discount=settings.discount,
        temperature=TEMPERATURE,
        rng=random_stream(seed, "prediction"),
    )
    _write_pairs(folder / plan.label / "pairs.npz", recovered.rewards, seen)
    return {
        "correlation": reward_correlations(recovered.rewards, seen),
        "correlation_next_stage": reward_correlations(recovered.rewards, [following]),
        "likelihood": {
            "predicted": likelihoods(predicted, following),
            "no_change": likelihoods(recovered.log_policies, following),
            "uniform": {agent: -float(np.log(n)) for agent, n in _n_actions(trace).items()},
            "played": _played_likelihoods(following),
        },
        "diagnostics": recovered.diagnostics,
    }


def _read(settings: Settings, seed: int, folder: Path, plan: ObserverPlan) -> Recovered:
    return plan.read(
        _trace(settings, folder),
        settings.discount,
        random_stream(seed, "observer"),
        folder / plan.label,
    )


def _trace(settings: Settings, folder: Path) -> LearningTrace:
    """Return the trace that observers see: all stages but the last."""
    return LearningTrace.load(folder / "trace", verify=False).first(settings.stages)


def _held_out(folder: Path, stage: int) -> Path:
    return folder / "held_out" / f"stage_{stage}.npz"


def _n_actions(trace: LearningTrace) -> dict[str, int]:
    return dict(zip(trace.agents, trace.n_actions, strict=True))


def _standardised(reward: RewardFunction, trace: LearningTrace) -> RewardFunction:
    """Standardise a reward over the steps of a trace, since PPO depends on its scale."""
    values = np.concatenate(
        [
            reward(steps.observations or {}, np.asarray(steps.joint_actions))
            for steps in (stage.transitions for stage in trace.stages)
            if steps is not None
        ]
    )
    mean, sd = float(values.mean()), float(values.std()) or 1.0
    return lambda observations, actions: (reward(observations, actions) - mean) / sd


def _played_likelihoods(held_out: HeldOut) -> dict[str, float]:
    """Return the likelihoods of the played policies, an upper bound for predictions."""
    return {
        agent: mean_likelihood(np.log(own), held_out, index)
        for index, (agent, own) in enumerate(held_out.policies.items())
    }


def _write_pairs(
    path: Path, rewards: Mapping[str, RewardFunction], held_out: Sequence[HeldOut]
) -> None:
    """Write ground-truth and recovered rewards of the held-out steps, for the figures."""
    pairs = {
        agent: np.stack(
            [
                np.concatenate([own.rewards[agent] for own in held_out]),
                np.concatenate([reward(own.observations, own.joint_actions) for own in held_out]),
            ]
        )
        for agent, reward in rewards.items()
    }
    write_arrays(path, pairs)
