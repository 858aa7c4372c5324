"""Two firms that set prices again and again: Bertrand competition with logit demand.

Calvano, Calzolari, Denicolo, Pastorello (2020), Artificial intelligence, algorithmic pricing, and
collusion, American Economic Review 110(10), section II. Firm i sells q_i = exp((a_i - p_i) / mu) /
(sum_j exp((a_j - p_j) / mu) + exp(a_0 / mu)) and earns (p_i - c_i) q_i.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.checks import check_count, check_numbers, shown
from malfl_env.errors import InputError
from malfl_env.markov_game import Factor, MarkovGame
from malfl_env.tabular_env import TabularEnv

__all__ = ["monopoly_prices", "nash_prices", "pricing", "profits"]

FloatArray = NDArray[np.float64]

_ITERATIONS = 2000
_TOLERANCE = 1e-13


def pricing(
    *,
    n_prices: int = 15,
    quality: Any = (2.0, 2.0),
    cost: Any = (1.0, 1.0),
    outside: float = 0.0,
    differentiation: float = 0.25,
    margin: float = 0.1,
    prices: Any = None,
    **options: Any,
) -> TabularEnv:
    """The pricing game with memory one: the joint state is both firms' last prices.

    Joint state `i * n_prices + j`: agent 0 had price number i, agent 1 price number j. Episodes
    begin in any pair of prices, with equal probabilities. The reward of a step is the profit with
    the prices that are set in it. Defaults are the paper's baseline; its learners have discount
    0.95.

    Args:
        n_prices: m, number of prices, >= 2.
        quality: a_i of both firms.
        cost: c_i of both firms.
        outside: a_0 of the outside good.
        differentiation: mu > 0.
        margin: xi >= 0: prices are evenly spaced on [p_N - xi (p_M - p_N), p_M + xi (p_M - p_N)],
            with p_N the lower of the firms' Nash prices and p_M the higher of their monopoly
            prices.
        prices: the prices themselves, increasing; then `n_prices` and `margin` are not used.
        **options: of `malfl_env.TabularEnv`.

    Raises:
        InputError: for an option out of its range.
    """
    demand = _demand(quality, cost, outside, differentiation)
    grid = _grid(demand, n_prices, margin) if prices is None else _given(prices)
    n = len(grid)
    own = np.broadcast_to(np.arange(n), (n, n))[..., None]
    pairs = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
    earned = _profits(pairs, *demand)
    names = tuple(f"{price:.3f}" for price in grid)
    if len(set(names)) < n:
        names = tuple(f"price {number}" for number in range(n))
    game = MarkovGame(
        (n, n),
        tuple(Factor((agent,), own, np.ones(own.shape)) for agent in range(2)),
        0,
        start_probabilities=np.full(n * n, 1 / n**2),
        rewards=tuple(np.broadcast_to(earned[..., agent], (n * n, n, n)) for agent in range(2)),
        states=tuple(f"{first},{second}" for first in names for second in names),
        actions=(names, names),
    )
    return TabularEnv(game, name="pricing", **options)


def profits(
    prices: Any,
    *,
    quality: Any = (2.0, 2.0),
    cost: Any = (1.0, 1.0),
    outside: float = 0.0,
    differentiation: float = 0.25,
) -> FloatArray:
    """Profits of both firms at some prices.

    Args:
        prices: `(..., 2)`, a price of each firm.
        quality, cost, outside, differentiation: of the market, as of `pricing`.

    Returns:
        `(..., 2)`.

    Raises:
        InputError: for prices of another shape, or that are no numbers.
    """
    given = check_numbers("prices", prices, allowed="an array (..., 2) of prices")
    if given.shape[-1] != 2:
        raise InputError(f"prices must have shape (..., 2), got {given.shape}")
    return _profits(given, *_demand(quality, cost, outside, differentiation))


def nash_prices(
    *,
    quality: Any = (2.0, 2.0),
    cost: Any = (1.0, 1.0),
    outside: float = 0.0,
    differentiation: float = 0.25,
) -> FloatArray:
    """Prices of the one-shot Bertrand-Nash equilibrium, `(2,)`: p_i = c_i + mu / (1 - q_i).

    With the default arguments (1.473, 1.473).
    """
    return _equilibrium(*_demand(quality, cost, outside, differentiation), joint=False)


def monopoly_prices(
    *,
    quality: Any = (2.0, 2.0),
    cost: Any = (1.0, 1.0),
    outside: float = 0.0,
    differentiation: float = 0.25,
) -> FloatArray:
    """Prices of greatest joint profit, `(2,)`: p_i = c_i + mu / (1 - q_0 - q_1).

    With the default arguments (1.925, 1.925).
    """
    return _equilibrium(*_demand(quality, cost, outside, differentiation), joint=True)


def _demand(
    quality: Any, cost: Any, outside: float, differentiation: float
) -> tuple[FloatArray, FloatArray, float, float]:
    pair = []
    for name, value in (("quality", quality), ("cost", cost)):
        given = check_numbers(name, value, allowed="two numbers, one for each firm")
        if given.shape != (2,) or not np.all(np.isfinite(given)):
            raise InputError(f"{name} must be two finite numbers, got {shown(value)}")
        pair.append(given)
    if not 0 < differentiation < np.inf:
        raise InputError(f"differentiation must be > 0 and finite, got {shown(differentiation)}")
    if not np.isfinite(outside):
        raise InputError(f"outside must be finite, got {shown(outside)}")
    return pair[0], pair[1], float(outside), float(differentiation)


def _shares(
    prices: FloatArray, quality: FloatArray, outside: float, differentiation: float
) -> FloatArray:
    """q_0 and q_1, `(..., 2)`."""
    inside = (quality - prices) / differentiation
    top = np.maximum(inside.max(axis=-1, keepdims=True), outside / differentiation)
    weights = np.exp(inside - top)
    whole = weights.sum(axis=-1, keepdims=True) + np.exp(outside / differentiation - top)
    return np.asarray(weights / whole)


def _profits(
    prices: FloatArray,
    quality: FloatArray,
    cost: FloatArray,
    outside: float,
    differentiation: float,
) -> FloatArray:
    return (prices - cost) * _shares(prices, quality, outside, differentiation)


def _equilibrium(
    quality: FloatArray,
    cost: FloatArray,
    outside: float,
    differentiation: float,
    *,
    joint: bool,
) -> FloatArray:
    """The fixed point of the first-order conditions, by damped iteration."""
    prices = cost + differentiation
    for _ in range(_ITERATIONS):
        shares = _shares(prices, quality, outside, differentiation)
        left = 1 - (shares.sum() if joint else shares)
        wanted = cost + differentiation / np.maximum(left, 1e-9)
        if np.all(np.abs(wanted - prices) <= _TOLERANCE * np.abs(prices)):
            return np.asarray(wanted)
        prices = prices + 0.5 * np.minimum(wanted - prices, differentiation)
    raise InputError(
        f"no equilibrium found for quality {quality.tolist()}, cost {cost.tolist()}, outside "
        f"{outside} and differentiation {differentiation}: give prices"
    )


def _grid(
    demand: tuple[FloatArray, FloatArray, float, float], n_prices: int, margin: float
) -> FloatArray:
    check_count("n_prices", n_prices, minimum=2)
    if not 0 <= margin < np.inf:
        raise InputError(f"margin must be >= 0 and finite, got {shown(margin)}")
    low = float(_equilibrium(*demand, joint=False).min())
    high = float(_equilibrium(*demand, joint=True).max())
    spread = margin * (high - low)
    return np.linspace(low - spread, high + spread, n_prices)


def _given(prices: Any) -> FloatArray:
    grid = check_numbers("prices", prices, allowed="increasing prices")
    if grid.ndim != 1 or len(grid) < 2 or not np.all(np.isfinite(grid)):
        raise InputError(f"prices must be at least two finite numbers, got {shown(prices)}")
    if not np.all(np.diff(grid) > 0):
        raise InputError(f"prices must be increasing, got {shown(prices)}")
    return grid
