"""Encode observations as inputs of a network: flat rows of 32-bit floats."""

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
    """Encodes observations of one space: discrete values one-hot, arrays flattened.

    Args:
        space: Box, Discrete, MultiDiscrete or MultiBinary.
        mean, sd: float32 `(width,)`: standardise the features of a Box; None leaves them unchanged.

    Raises:
        InputError: for an unsupported space, or a mean or sd that does not fit.
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
        """Return the features float32 `(n, width)` of observations `(n, ...)`.

        Raises:
            InputError: for observations outside the space, or not finite.
        """
        observations = np.asarray(observations)
        check_in_space(observations, self.space, where="encoder")
        flat = observations.reshape(len(observations), -1)
        if self.one_hot:
            return self._one_hot(flat)
        features = flat.astype(np.float32)
        if not np.all(np.isfinite(features)):
            raise InputError("observations must be finite; clip them, or correct the game")
        if self.mean is not None:
            features -= self.mean
        if self.sd is not None:
            features /= self.sd
        return features

    def standardised(self, observations: NDArray[Any]) -> Encoder:
        """Return this encoder with the mean and sd of some observations `(n, ...)`.

        Only a Box is standardised. A feature that never varies is shifted, but not divided.
        """
        if not isinstance(self.space, spaces.Box):
            return self
        raw = replace(self, mean=None, sd=None).encode(observations)
        mean = raw.mean(axis=0, dtype=np.float64)
        sd = raw.std(axis=0, dtype=np.float64)
        sd = np.where(sd > 1e-6 * (1 + np.abs(mean)), sd, 1.0)
        return replace(self, mean=mean.astype(np.float32), sd=sd.astype(np.float32))

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `from_json` makes the same encoder of them."""
        lists = {
            name: None if values is None else values.tolist()
            for name, values in (("mean", self.mean), ("sd", self.sd))
        }
        return {"space": space_to_json(self.space), **lists}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Encoder:
        """Return the encoder that `to_json` wrote.

        Raises:
            InputError: for any other content.
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
            raise InputError(f"observations must lie in {self.space}, but some do not")
        features = np.zeros((len(own), int(sizes.sum())), dtype=np.float32)
        columns = own + (np.cumsum(sizes) - sizes)
        features[np.arange(len(own))[:, None], columns] = 1.0
        return features


def input_features(encoder: Encoder, observations: NDArray[Any]) -> Features:
    """Return the inputs of the networks: the encoded observation, and the values of its digits.

    Only a MultiDiscrete observation has digits. A one-hot digit carries no information about the
    order of its values. The value itself does; it is standardised as if all were equally likely.
    """
    features = encoder.encode(observations)
    if not isinstance(encoder.space, spaces.MultiDiscrete):
        return features
    starts, sizes = discrete_range(encoder.space)
    digits = np.asarray(observations).reshape(len(features), -1)
    middle, spread = starts + (sizes - 1) / 2, np.sqrt(np.maximum(sizes**2 - 1, 1) / 12)
    return np.concatenate([features, ((digits - middle) / spread).astype(np.float32)], axis=1)
