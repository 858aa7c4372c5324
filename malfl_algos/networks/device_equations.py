"""Normal equations of the last layer, formed on the device where the coefficients are."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malfl_algos.networks.tables import Table, like
from malfl_algos.normal import Normal

__all__ = ["device_equations"]

FloatArray = NDArray[np.float64]


def device_equations(
    coefficients: Table, response: FloatArray, response_variance: FloatArray, model: FloatArray
) -> Callable[[float, float], Normal] | None:
    """Return `malfl_algos.ma_lfl.rows.normal_equations` as a function of noise and scale.

    Args:
        coefficients: K, `(n, n_actions, k)`.
        response, response_variance, model: of `malfl_algos.ma_lfl.rows.Rows`, `(n, n_actions)`.

    Returns:
        None if the coefficients are an array; the processor then forms the equations.
    """
    if not isinstance(coefficients, Tensor):
        return None
    y, given, predicted = (like(coefficients, own) for own in (response, response_variance, model))

    def equations(noise: float, scale: float) -> Normal:
        weight = 1 / (noise + scale * predicted + given)
        total = weight.sum(dim=1, keepdim=True)
        share = weight / torch.where(total > 0, total, 1.0)
        root = weight.sqrt()
        centred = coefficients - torch.einsum("na,nak->nk", share, coefficients)[:, None]
        centred = (root[..., None] * centred).flatten(0, 1)
        residual = (root * (y - (share * y).sum(dim=1, keepdim=True))).flatten()
        seen, there = weight > 0, total > 0
        log_norm = weight[seen].log().sum() - total[there].log().sum()
        degrees = int(seen.sum()) - int(there.sum())
        return Normal(
            (centred.T @ centred).cpu().numpy(),
            (centred.T @ residual).cpu().numpy(),
            float(residual @ residual),
            (float(log_norm) - degrees * log(2 * pi)) / 2,
            degrees,
        )

    return equations
