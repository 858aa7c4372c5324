"""Discount and temperature of scores where observers were not told them (null)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.scores.inputs import Reference, reference
from malfl_algos.storage.origins import Origin
from malfl_env import MarkovGame
from malfl_env.errors import InputError

__all__ = ["reference_of", "scale_of"]

BoolArray = NDArray[np.bool_]


def reference_of(config: ExperimentConfig, game: MarkovGame, *, states: BoolArray) -> Reference:
    """The ground truth of a run; in units of the temperature if observers are not told it.

    Args:
        config: of the run.
        game: of the family, with its rewards.
        states: the joint states that count.
    """
    unit = 1.0 if config.temperature is not None else config.learners_temperature
    return reference(
        game.with_rewards([game.reward(index) / unit for index in range(game.n_agents)]),
        discount=config.learners_discount,
        temperature=config.learners_temperature / unit,
        states=states,
    )


def scale_of(
    config: ExperimentConfig,
    truth: GroundTruth | None,
    rewards: Path,
    recovered: Origin | None = None,
) -> tuple[float, float, float]:
    """The discount; the temperature; and the unit in which rewards are, as a ground truth has it.

    Where the configuration has null, the discount is that of the ground truth, or else the one that
    was estimated with the rewards. The temperature is that which the rewards were recovered with
    (`recovered`, their origin); if it was null there, too, the unit is that of the ground truth.
    """
    known = {} if truth is None or truth.origin is None else dict(truth.origin)
    discount, unit = config.discount, 1.0
    if discount is None:
        discount = known.get("discount")
    if discount is None:
        discount = _estimated_discount(rewards)
    if discount is None:
        raise InputError(
            f"discount is null, and {rewards.with_name('diagnostics.json')} holds no estimated "
            "one: give --discount G"
        )
    if config.temperature is not None:
        return float(discount), config.temperature, unit
    if recovered is not None and recovered.temperature is not None:
        return float(discount), recovered.temperature, unit
    if truth is not None:
        if known.get("temperature") is None:
            raise InputError(
                "temperature is null, and the ground truth does not say in which unit its rewards "
                "are: give --temperature T"
            )
        unit = float(known["temperature"])
    return float(discount), 1.0, unit


def _estimated_discount(rewards: Path) -> float | None:
    """The discount in the diagnostics beside the rewards."""
    try:
        content = json.loads(rewards.with_name("diagnostics.json").read_text(encoding="utf-8"))
        return next(float(own["discount"]) for own in content.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None
