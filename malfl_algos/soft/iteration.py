"""Discounted sums by iteration: solve V = gain + gamma P V using only products with P."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, gmres

__all__ = ["iterated_sum"]

FloatArray = NDArray[np.float64]
Apply = Callable[[FloatArray], FloatArray]

MAX_STEPS = 500
RESTARTS, STEPS_BETWEEN = 100, 50
"""Restarts of GMRES and steps between them; GMRES is used where BiCGSTAB breaks down."""


def iterated_sum(
    transition: Any,
    gain: FloatArray,
    *,
    discount: float,
    residual: float | FloatArray,
) -> FloatArray:
    """Solve V = gain + gamma P V for V, for several gains side by side.

    It uses BiCGSTAB (van der Vorst 1992), which needs memory for a few vectors of the size of V.
    One product with P for all gains costs little more than for one, since P is read once. If the
    iteration of a gain breaks down, GMRES continues it.

    Args:
        transition: P, or its transpose, `(n_states, n_states)`, any operand of `@`.
        gain: `(n_states,)` or `(n_states, n_gains)`.
        discount: gamma in [0, 1).
        residual: largest allowed norm of gain + gamma P V - V, relative to the norm of the gain;
            one number for all gains or `(n_gains,)`.

    Returns:
        V in the shape of the gain.

    Raises:
        ArithmeticError: if neither method reaches the residual; the message states the one reached.
    """
    if gain.ndim == 1:
        return iterated_sum(transition, gain[:, None], discount=discount, residual=residual)[:, 0]
    if gain.shape[1] > 1 and isinstance(transition, sp.csr_array):
        transition = sp.csc_array(transition)  # its product with few columns is faster

    def apply(x: FloatArray) -> FloatArray:
        ahead = transition @ x if x.shape[1] > 1 else (transition @ x[:, 0])[:, None]
        return np.asarray(x - discount * ahead)

    sizes = np.maximum(np.linalg.norm(gain, axis=0), 1e-300)
    wanted = np.broadcast_to(residual, sizes.shape)
    # rounding makes the recursively updated residual inexact, hence half the wanted one
    value = _bicgstab(apply, gain, allowed=sizes * wanted / 2)
    for column in range(len(sizes)):
        one, size, asked = gain[:, [column]], float(sizes[column]), float(wanted[column])

        def reached(x: FloatArray, one: FloatArray = one, size: float = size) -> float:
            return float(np.linalg.norm(one - apply(x[:, None]))) / size

        remaining = reached(value[:, column])
        if not remaining <= asked and np.isfinite(size):
            found = _gmres(apply, one[:, 0], value[:, column], asked / 2)
            if not reached(found) >= remaining:
                value[:, column], remaining = found, reached(found)
        if not remaining <= asked:
            raise ArithmeticError(
                f"the soft value did not converge: relative residual {remaining:.1e}, "
                f"allowed {asked:.1e}"
            )
    return value


def _bicgstab(apply: Apply, right: FloatArray, *, allowed: FloatArray) -> FloatArray:
    """Solve apply(x) = right column by column, starting from x = right.

    A column is removed when the norm of its residual is at most `allowed`, or when it breaks down.
    """
    found = right.copy()
    live = np.arange(right.shape[1])
    x, r = right, right - apply(right)
    shadow, p = r, r
    rho = _dots(shadow, r)
    for _ in range(MAX_STEPS):
        going = (np.sqrt(_dots(r, r)) > allowed[live]) & (rho != 0) & np.isfinite(rho)
        if not going.all():
            found[:, live[~going]] = x[:, ~going]
            live, rho = live[going], rho[going]
            x, r, shadow, p = (np.ascontiguousarray(each[:, going]) for each in (x, r, shadow, p))
            if not live.size:
                return found
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            v = apply(p)
            length = rho / _dots(shadow, v)
            halfway = r - length * v
            t = apply(halfway)
            squared = _dots(t, t)
            omega = np.where(squared > 0, _dots(t, halfway) / squared, 0.0)
            x = x + length * p + omega * halfway
            r = halfway - omega * t
            before, rho = rho, _dots(shadow, r)
            p = r + rho / before * np.where(omega != 0, length / omega, 0.0) * (p - omega * v)
    found[:, live] = x
    return found


def _dots(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("sk,sk->k", a, b))


def _gmres(apply: Apply, right: FloatArray, start: FloatArray, wanted: float) -> FloatArray:
    """Solve apply(x) = right from `start`, or from x = right if `start` is not finite."""
    operator = LinearOperator(
        (len(right), len(right)), matvec=lambda x: apply(x.reshape(-1, 1))[:, 0], dtype=np.float64
    )
    x0 = start if np.isfinite(start).all() else right
    found, _ = gmres(operator, right, x0=x0, rtol=wanted, maxiter=RESTARTS, restart=STEPS_BETWEEN)
    return np.asarray(found)
