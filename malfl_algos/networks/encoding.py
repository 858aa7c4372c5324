"""Observations as what a network takes: flat rows of 32-bit floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from malfl_env.errors import InputError
from malfl_env.spaces import (
    AnySpace,
    check_in_space,
    check_observation_space,
    discrete_range,
    space_from_json,
    space_to_json,
)

__all__ = ["Encoder", "Features", "input_features"]

Features = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Encoder:
    """Observations of one space as features: discrete ones one-hot, arrays flattened.

    Args:
        space: Box, Discrete, MultiDiscrete or MultiBinary.
        mean, sd: float32 `(width,)`: a Box's features are shifted and divided by them; None: they
            stay as they are.

    Raises:
        InputError: for another space, or a standardisation that does not fit.
    """

    space: AnySpace
    mean: Features | None = None
    sd: Features | None = None

    def __post_init__(self) -> None:
        check_observation_space(self.space, where="encoder")
        for name in ("mean", "sd"):
            values = getattr(self, name)
            if values is not None and (
                values.shape != (self.width,) or not np.all(np.isfinite(values))
            ):
                raise InputError(f"{name} must be {self.width} finite numbers, got {values.shape}")
        if self.sd is not None and not np.all(self.sd > 0):
            raise InputError("sd must be > 0")

    @property
    def width(self) -> int:
        """Number of features."""
        if self.one_hot:
            return int(discrete_range(self.space)[1].sum())
        return prod(self.space.shape or ())

    @property
    def one_hot(self) -> bool:
        """Whether the features are one-hot groups, which need no standardisation."""
        return isinstance(self.space, (spaces.Discrete, spaces.MultiDiscrete))

    def encode(self, observations: NDArray[Any]) -> Features:
        """Features of observations `(n, ...)`, float32 `(n, width)`.

        Raises:
            InputError: for observations that are not of the space, or not finite.
        """
        observations = np.asarray(observations)
        check_in_space(observations, self.space, where="encoder")
        flat = observations.reshape(len(observations), -1)
        if self.one_hot:
            return self._one_hot(flat)
        features = flat.astype(np.float32)
        if not np.all(np.isfinite(features)):
            raise InputError("observations must be finite: mend the game, or clip what it shows")
        if self.mean is not None:
            features -= self.mean
        if self.sd is not None:
            features /= self.sd
        return features

    def standardised(self, observations: NDArray[Any]) -> Encoder:
        """The same with mean and standard deviation of some observations `(n, ...)`.

        Only for a Box; others stay as they are. What never varies is shifted only.
        """
        if not isinstance(self.space, spaces.Box):
            return self
        raw = replace(self, mean=None, sd=None).encode(observations)
        mean = raw.mean(axis=0, dtype=np.float64)
        sd = raw.std(axis=0, dtype=np.float64)
        sd = np.where(sd > 1e-6 * (1 + np.abs(mean)), sd, 1.0)
        return replace(self, mean=mean.astype(np.float32), sd=sd.astype(np.float32))

    def to_json(self) -> dict[str, Any]:
        """As plain values; `from_json` gives the same encoder."""
        lists = {
            name: None if values is None else values.tolist()
            for name, values in (("mean", self.mean), ("sd", self.sd))
        }
        return {"space": space_to_json(self.space), **lists}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Encoder:
        """The encoder that `to_json` wrote.

        Raises:
            InputError: for anything else.
        """
        try:
            mean, sd = (
                None if content[name] is None else np.array(content[name], dtype=np.float32)
                for name in ("mean", "sd")
            )
            return cls(space_from_json(content["space"]), mean, sd)
        except (KeyError, TypeError) as fault:
            raise InputError(f"not an encoder: {str(content)[:80]}") from fault

    def _one_hot(self, digits: NDArray[Any]) -> Features:
        starts, sizes = discrete_range(self.space)
        own = digits.astype(np.int64) - starts
        if own.size and not np.all((own >= 0) & (own < sizes)):
            raise InputError(f"observations must be of {self.space}, some are not")
        features = np.zeros((len(own), int(sizes.sum())), dtype=np.float32)
        columns = own + (np.cumsum(sizes) - sizes)
        features[np.arange(len(own))[:, None], columns] = 1.0
        return features


def input_features(encoder: Encoder, observations: NDArray[Any]) -> Features:
    """What the networks take: the encoded observation and, of several digits, their values, too.

    A digit one-hot says nothing of the values between those seen; its value, standardised as if
    all were equally likely, does.
    """
    features = encoder.encode(observations)
    if not isinstance(encoder.space, spaces.MultiDiscrete):
        return features
    starts, sizes = discrete_range(encoder.space)
    digits = np.asarray(observations).reshape(len(features), -1)
    middle, spread = starts + (sizes - 1) / 2, np.sqrt(np.maximum(sizes**2 - 1, 1) / 12)
    return np.concatenate([features, ((digits - middle) / spread).astype(np.float32)], axis=1)
