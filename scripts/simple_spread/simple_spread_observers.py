"""The network observer in the study of simple spread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from malfl_sb3.randomness import torch_settings
from malfl_sb3.rewarded import RewardFunction
from numpy.typing import NDArray
from simple_spread_scores import LogPolicy
from simple_spread_seed import TEMPERATURE, ObserverPlan, Recovered

from malfl_algos import LearningTrace
from malfl_algos.networks.recovered_functions import RecoveredFunctions
from malfl_algos.plugins import load_observer

__all__ = ["OPTIONS", "network_observer"]

FloatArray = NDArray[np.float64]

OPTIONS: dict[str, Any] = {"widths": (256,), "prior_variance": 2e-4, "ensemble": 2}
"""Options of the observer; chosen on seed 0."""


def network_observer(improvement: str, options: dict[str, Any]) -> ObserverPlan:
    """Return `ma-lfl-network` with an assumed improvement of the learners.

    Args:
        improvement: `proximal`, or `soft`, which does not describe PPO. The latter is scored for
            comparison, and no agents are retrained on its rewards.
        options: of the observer; they extend or replace `OPTIONS`.

    Raises:
        InputError: for options that the observer rejects.
    """
    whole = {**OPTIONS, **options, "improvement": improvement}
    load_observer("ma-lfl-network", **whole)
    return ObserverPlan(
        improvement, partial(_read, whole), improvement, fresh=improvement == "proximal"
    )


def _read(
    options: dict[str, Any],
    trace: LearningTrace,
    discount: float,
    rng: np.random.Generator,
    folder: Path,
) -> Recovered:
    path = folder / "functions.npz"
    if not path.exists():
        seed = int(rng.integers(2**31))
        observer: Any = load_observer(
            "ma-lfl-network",
            **{"seed": seed, "checkpoint_dir": str(folder / "checkpoints"), **options},
        )
        with torch_settings(1):
            observer.recover(trace, game=None, discount=discount, temperature=TEMPERATURE).save(
                path
            )
    functions = RecoveredFunctions.load(path)
    last = trace.n_stages - 1
    return Recovered(
        {agent: _reward(functions, agent) for agent in functions.agents},
        {agent: _log_policy(functions, agent, last) for agent in functions.agents},
        {agent: dict(own) for agent, own in functions.diagnostics.items()},
    )


def _log_policy(functions: RecoveredFunctions, agent: str, stage: int) -> LogPolicy:
    return lambda observations: functions.log_policy(agent, observations, stage)


def _reward(functions: RecoveredFunctions, agent: str) -> RewardFunction:
    """Return the posterior mean, evaluated fast at a single step, as PPO needs it."""
    own = functions.functions[agent]
    maps = [_plain(member.features.map, member.mean, member.centre) for member in own.members]
    features = own.members[0].features
    acting = list(features.acting)
    sizes = [features.n_actions[index] for index in acting]

    def reward(observations: Any, joint_actions: NDArray[np.int64]) -> FloatArray:
        inputs = own.encoder.encode(observations[agent])
        hot = [
            np.eye(size)[joint_actions[:, index].astype(np.int64)]
            for index, size in zip(acting, sizes, strict=True)
        ]
        row = np.concatenate([inputs.astype(np.float64), *hot], axis=1)
        return np.asarray(np.mean([own_map(row) for own_map in maps], axis=0))

    return reward


def _plain(
    features: Any, mean: FloatArray, centre: FloatArray
) -> Callable[[FloatArray], FloatArray]:
    """Return one member's reward in NumPy: its layers, and one linear map of their output."""
    layers = [tensor.detach().numpy().astype(np.float64) for tensor in features.hidden]
    weights = features.scale * mean[:-1]
    constant = mean[-1] - features.shift @ weights - centre @ mean

    def reward(row: FloatArray) -> FloatArray:
        units = row
        for weight, bias in zip(layers[::2], layers[1::2], strict=True):
            units = np.maximum(units @ weight + bias, 0.0)
        return np.asarray(np.concatenate([units, row], axis=1) @ weights + constant)

    return reward
