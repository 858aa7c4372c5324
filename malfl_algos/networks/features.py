"""Features of a reward network; its last layer, which is inferred, is linear in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import pi, prod

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from malfl_algos.networks.encoding import Encoder, Features
from malfl_algos.networks.mlp import PLAIN, apply, init
from malfl_algos.networks.options import RewardModel
from malfl_algos.networks.tables import Table, beside, fetched, joined, like, on_device
from malfl_algos.networks.training import pieces
from malfl_env.errors import InputError
from malfl_env.spaces import discrete_range

__all__ = [
    "FeatureMap",
    "RewardFeatures",
    "acting_agents",
    "digit_groups",
    "input_map",
    "kernel_map",
    "random_map",
    "trained_map",
    "with_actions",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

WEIGHT, BIAS = 0.5, 1.0
"""Scales of a random network: the factor on He's weights, and the standard deviation of the biases.

With these scales the units bend far apart, so that the reward is smooth unless data show otherwise.
"""
PIECE = 1 << 15
MOST_GROUPS = 1024
"""Largest number of indicators in a feature map."""


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """The last hidden units of a network, its inputs, and a constant.

    Args:
        hidden: parameters of the hidden layers, with rectified linear units after each; empty: the
            features are the inputs alone.
        waves: number of units of the last layer, the first ones, that are cosines instead.
        shift, scale: `(n_features - 1,)`: a feature is (unit or input - shift) * scale. The scale
            is 0 where a unit or input never varies.
    """

    hidden: list[Tensor]
    shift: FloatArray
    scale: FloatArray
    waves: int = 0

    @property
    def n_features(self) -> int:
        """Number of features, with the constant, which comes last."""
        return len(self.shift) + 1

    def __call__(self, inputs: Features) -> FloatArray:
        """Features `(n, n_features)` of inputs `(n, width)`."""
        return fetched(self.table(inputs))

    def table(self, inputs: Features) -> Table:
        """Features of inputs, on the device of the network."""
        raw = _raw(self.hidden, inputs, self.waves)
        found = (raw - like(raw, self.shift)) * like(raw, self.scale)
        return beside(found, like(raw, np.ones((len(found), 1))))


def random_map(
    generator: torch.Generator,
    widths: Sequence[int],
    inputs: Features,
    *,
    read: NDArray[np.bool_],
    device: torch.device,
) -> FeatureMap:
    """Return a network of random weights, its units and inputs standardised over some inputs.

    Args:
        generator: of the weights.
        widths: of the hidden layers.
        inputs: `(n, width)`. Over them all features have mean zero, and the variances of the units
            sum to 1, as do those of the inputs.
        read: bool `(width,)`: the inputs that the layers read. All inputs are features.
        device: where the network lives.
    """
    hidden = init(generator, [int(read.sum()), *widths, 1], last_scale=0.0)[:-2]
    with torch.no_grad():
        for weight, bias in zip(hidden[::2], hidden[1::2], strict=True):
            weight *= WEIGHT
            bias.copy_(torch.randn(bias.shape, generator=generator, **PLAIN) * BIAS)
        wide = torch.zeros((len(read), hidden[0].shape[1]), **PLAIN)
        wide[torch.from_numpy(read)] = hidden[0]
        hidden[0] = wide
    return trained_map([tensor.detach().to(device) for tensor in hidden], inputs)


def kernel_map(
    generator: torch.Generator,
    n_waves: int,
    length: float,
    inputs: Features,
    *,
    read: NDArray[np.bool_],
    groups: Sequence[Sequence[int]] = (),
    device: torch.device,
) -> FeatureMap:
    """Return random features of a Gaussian kernel (Rahimi and Recht 2007), and indicators.

    The features are cos(u . x) and sin(u . x) with u of standard deviation 1 / length. They come in
    pairs, so that a shift of x maps them linearly.

    Args:
        generator: of the directions u.
        n_waves: number of waves, even.
        length: length scale of the kernel, in the unit of the inputs.
        inputs, read, device: as in `random_map`; the variances of the waves, of the indicators and
            of the inputs sum to 1 each.
        groups: columns of one-hot digits that belong together; a unit is 1 for each combination
            of them, else 0. An entry has one column of every digit.
    """
    numbers = torch.randn((int(read.sum()), n_waves // 2), generator=generator, **PLAIN)
    weight = torch.zeros((len(read), n_waves + len(groups)), **PLAIN)
    rows = torch.from_numpy(np.flatnonzero(read))
    weight[rows, : n_waves // 2] = numbers / length
    weight[rows, n_waves // 2 : n_waves] = numbers / length
    bias = torch.zeros(n_waves + len(groups), **PLAIN)
    bias[n_waves // 2 : n_waves] = -pi / 2
    for unit, columns in enumerate(groups, start=n_waves):
        weight[list(columns), unit] = 1.0
        bias[unit] = 1.0 - len(columns)
    parts = (n_waves, n_waves + len(groups))
    return _standardised([weight.to(device), bias.to(device)], inputs, parts, n_waves)


def digit_groups(encoder: Encoder, size: int) -> list[tuple[int, ...]]:
    """Return the groups of one-hot columns for `kernel_map`: all values of consecutive digits.

    Args:
        encoder: of the observations; only digits of a MultiDiscrete have groups.
        size: number of digits in a group; 1: there are no groups.

    Raises:
        InputError: for digits that cannot be grouped, or too many values.
    """
    if size == 1 or not isinstance(encoder.space, spaces.MultiDiscrete):
        return []
    _, sizes = discrete_range(encoder.space)
    if len(sizes) % size:
        raise InputError(
            f"grouped_digits must divide the number of digits, {len(sizes)}, got {size}"
        )
    digits = np.split(np.arange(sizes.sum()), np.cumsum(sizes)[:-1])
    groups = [
        columns
        for first in range(0, len(sizes), size)
        for columns in product(*(own.tolist() for own in digits[first : first + size]))
    ]
    if len(groups) > MOST_GROUPS:
        raise InputError(
            f"grouped_digits: {size} makes {len(groups)} indicators (allowed: {MOST_GROUPS}); "
            "group fewer digits"
        )
    return groups


def trained_map(hidden: Sequence[Tensor], inputs: Features) -> FeatureMap:
    """Return the hidden layers of a trained network, standardised as in `random_map`."""
    return _standardised([p.detach().clone() for p in hidden], inputs, (hidden[-1].shape[-1],), 0)


def _standardised(
    hidden: list[Tensor], inputs: Features, ends: Sequence[int], waves: int
) -> FeatureMap:
    """Return features of which every part has mean 0 and a sum of variances of 1."""
    raw = _raw(hidden, inputs, waves)
    mean, sd = fetched(raw.mean(axis=0)), _sd(raw)
    sd = np.where(sd > 1e-8, sd, 0.0)
    total = np.concatenate(
        [
            np.full(part.shape, np.sqrt(max(float((part**2).sum()), 1e-300)))
            for part in np.split(sd, ends)
        ]
    )
    return FeatureMap(hidden, mean, np.where(sd > 0, 1 / total, 0.0), waves)


def with_actions(inputs: Features, actions: NDArray[np.int64], sizes: Sequence[int]) -> Features:
    """Return inputs with one-hot actions appended.

    Args:
        inputs: `(n, width)`.
        actions: int `(n, len(sizes))`.
        sizes: number of actions in each column.
    """
    hot = [np.eye(size, dtype=np.float32)[own] for size, own in zip(sizes, actions.T, strict=True)]
    return np.concatenate([inputs, *hot], axis=1)


def acting_agents(model: RewardModel, agent_index: int, n_agents: int) -> tuple[int, ...]:
    """Return the indices of the agents whose actions a reward depends on."""
    if model == "state":
        return ()
    return (agent_index,) if model == "own_action" else tuple(range(n_agents))


@dataclass(frozen=True, eq=False)
class RewardFeatures:
    """The reward features phi of one agent.

    Args:
        model: `state` phi(o), `own_action` phi(o, a^i), `joint` phi(o, a^1..a^n).
        map: takes inputs, with one-hot actions appended if the model has actions.
        n_actions: of every agent.
        agent_index: i.
    """

    model: RewardModel
    map: FeatureMap
    n_actions: tuple[int, ...]
    agent_index: int

    @property
    def acting(self) -> tuple[int, ...]:
        """Indices of the agents whose actions the reward depends on."""
        return acting_agents(self.model, self.agent_index, len(self.n_actions))

    def __call__(self, inputs: NDArray[np.float32], joint_actions: IntArray) -> FloatArray:
        """Return phi `(n, k)` at inputs `(n, width)` and joint actions `(n, n_agents)`."""
        return fetched(self.table(inputs, joint_actions))

    def table(self, inputs: NDArray[np.float32], joint_actions: IntArray) -> Table:
        """Return phi on the device of the network."""
        acting = list(self.acting)
        sizes = [self.n_actions[agent] for agent in acting]
        return self.map.table(with_actions(inputs, joint_actions[:, acting], sizes))

    def expected(self, inputs: Features, policies: Sequence[FloatArray]) -> FloatArray:
        """Return phi averaged over the others' actions, `(n, n_own, k)`."""
        n_own = self.n_actions[self.agent_index]
        acting = self.acting
        sizes = tuple(self.n_actions[agent] for agent in acting)
        found = np.zeros((len(inputs), n_own, self.map.n_features))
        for number in range(prod(sizes)):
            actions = np.array(np.unravel_index(number, sizes), dtype=np.int64).reshape(1, -1)
            columns = np.broadcast_to(actions, (len(inputs), len(acting)))
            probability = np.ones(len(inputs))
            own = slice(None)
            for agent, action in zip(acting, actions[0], strict=True):
                if agent == self.agent_index:
                    own = slice(action, action + 1)
                else:
                    probability = probability * policies[agent][:, action]
            phi = self.map(with_actions(inputs, columns, sizes))
            found[:, own] += (probability[:, None] * phi)[:, None]
        return found


def input_map(inputs: Features, columns: Sequence[int]) -> FeatureMap:
    """Return some of the inputs as features, without hidden layers; each has variance 1.

    Args:
        inputs: `(n, width)`, over which the features have mean 0 and variance 1.
        columns: of the inputs that are features; all others have scale 0.
    """
    sd, scale = inputs.std(axis=0, dtype=np.float64), np.zeros(inputs.shape[1])
    chosen = np.array([column for column in columns if sd[column] > 1e-8], dtype=np.int64)
    scale[chosen] = 1 / sd[chosen]
    return FeatureMap([], inputs.mean(axis=0, dtype=np.float64), scale)


@torch.no_grad()
def _raw(hidden: Sequence[Tensor], inputs: Features, waves: int = 0) -> Table:
    if not hidden:
        return inputs.astype(np.float64)
    rows = torch.from_numpy(np.ascontiguousarray(inputs)).to(hidden[0].device)
    units = []
    for piece in pieces(rows, PIECE):
        out = apply(hidden, piece)
        bent = torch.relu(out[:, waves:])
        units.append(on_device(torch.cat([torch.cos(out[:, :waves]), bent], 1) if waves else bent))
    return beside(joined(units), on_device(rows))


def _sd(table: Table) -> FloatArray:
    """Return the standard deviation of every column."""
    if isinstance(table, Tensor):
        return fetched(table.std(dim=0, correction=0))
    return np.asarray(table.std(axis=0))
