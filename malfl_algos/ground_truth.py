"""The ground truth of a run, for scoring only, in a file apart from the learning trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.errors import InputError

__all__ = ["GroundTruth"]

FORMAT_VERSION = 1

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Ground-truth rewards, and the policies that were played.

    Args:
        rewards: per agent id, `(n_states,)` or `(n_states, *n_actions)`.
        joint_policies: per agent id, `(n_stages, n_states, n_actions)`.
        origin: `malfl_algos.storage.origins.Origin` of the trace that belongs to it, in plain
            values; None if it is not known.
    """

    rewards: Mapping[str, FloatArray]
    joint_policies: Mapping[str, FloatArray]
    origin: Mapping[str, Any] | None = None

    def save(self, path: str | Path) -> None:
        """Write one npz with a JSON manifest inside, atomically, without pickle."""
        from malfl_algos.storage.arrays import write_arrays

        arrays = {f"reward/{agent}": array for agent, array in self.rewards.items()}
        arrays |= {f"policy/{agent}": array for agent, array in self.joint_policies.items()}
        manifest: dict[str, Any] = {"format": "malfl ground truth", "version": FORMAT_VERSION}
        if self.origin is not None:
            manifest["made_from"] = dict(self.origin)
        write_arrays(Path(path), arrays, manifest=manifest)

    @classmethod
    def load(cls, path: str | Path) -> GroundTruth:
        """Read a file written by `save`.

        Raises:
            InputError: for another file, or policies that are not distributions; the message names
                the file.
        """
        from malfl_algos.storage.arrays import check_manifest, read_arrays

        arrays, manifest = read_arrays(Path(path))
        check_manifest(Path(path), manifest, "malfl ground truth", version=FORMAT_VERSION)
        parts: dict[str, dict[str, FloatArray]] = {"reward": {}, "policy": {}}
        for name, array in arrays.items():
            if array.ndim == 0 or array.size == 0:
                raise InputError(f"{path}: {name!r} is empty")
            kind, _, agent = name.partition("/")
            if kind not in parts or array.dtype != np.float64 or not np.all(np.isfinite(array)):
                raise InputError(f"{path}: {name!r} is not a finite float64 reward or policy")
            parts[kind][agent] = array
        if not parts["reward"] or parts["reward"].keys() != parts["policy"].keys():
            raise InputError(
                f"{path}: rewards and policies must be of the same agents, at least one"
            )
        for agent, policies in parts["policy"].items():
            _check_fit(path, agent, parts["reward"][agent], policies)
        return cls(parts["reward"], parts["policy"], manifest.get("made_from"))


def _check_fit(path: str | Path, agent: str, reward: FloatArray, policies: FloatArray) -> None:
    if policies.ndim != 3 or policies.shape[1] != len(reward):
        raise InputError(
            f"{path}: the policies of {agent!r} must be (n_stages, {len(reward)}, n_actions) as "
            f"its reward has {len(reward)} states, got {policies.shape}"
        )
    # the largest value first: a sum of huge values would overflow
    if (
        policies.min() < 0
        or policies.max() > 2
        or not np.allclose(policies.sum(axis=-1), 1, rtol=0, atol=1e-6)
    ):
        raise InputError(f"{path}: the policies of {agent!r} are not distributions over actions")
