"""Tables of numbers in double precision: NumPy arrays, or tensors on a device.

Tables of features are large. On a GPU they are made there and stay there; what is computed from
them is the same, up to rounding. On the CPU a table is a NumPy array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Table", "beside", "fetched", "joined", "like", "on_device", "solved", "taken", "zeros"]

FloatArray = NDArray[np.float64]
Table: TypeAlias = Any
"""A NumPy array or a tensor; both know the operators, slices and `sum(axis=...)`."""


def on_device(tensor: Tensor) -> Table:
    """Return a tensor as a table: where it is, or as an array if it is on the CPU."""
    wide = tensor.detach().double()
    return wide.numpy() if wide.device.type == "cpu" else wide


def like(table: Table, values: NDArray[Any]) -> Table:
    """Return an array as a table of the same kind, in the same place; integers stay integers."""
    if not isinstance(table, Tensor):
        return values
    return torch.from_numpy(np.ascontiguousarray(values)).to(table.device)


def fetched(table: Table) -> FloatArray:
    """Return a table as an array."""
    return table.cpu().numpy() if isinstance(table, Tensor) else np.asarray(table)


def taken(table: Table, numbers: NDArray[np.int64]) -> Table:
    """Return the rows with these numbers."""
    return table[like(table, numbers)]


def zeros(table: Table, shape: tuple[int, ...]) -> Table:
    """Return a table of zeros of the same kind, in the same place."""
    if isinstance(table, Tensor):
        return torch.zeros(shape, dtype=torch.float64, device=table.device)
    return np.zeros(shape)


def joined(tables: Sequence[Table]) -> Table:
    """Return the tables one below the other."""
    return torch.cat(list(tables)) if isinstance(tables[0], Tensor) else np.concatenate(tables)


def beside(left: Table, right: Table) -> Table:
    """Return two tables side by side."""
    if isinstance(left, Tensor):
        return torch.cat([left, right], dim=1)
    return np.concatenate([left, right], axis=1)


def solved(matrix: Table, right: Table) -> Table:
    """Return the solution x of matrix x = right; both may have leading axes."""
    if isinstance(matrix, Tensor):
        return torch.linalg.solve(matrix, right)
    return np.asarray(np.linalg.solve(matrix, right))
