"""The files of recovered rewards, in a unit of a run and from `malfl recover`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from malfl_algos.contract import NOT_JUDGED, Verdict
from malfl_algos.experiments.cell import Recovered
from malfl_algos.experiments.config import PluginConfig
from malfl_algos.plugins.loading import find_plugin
from malfl_algos.plugins.options import naming
from malfl_algos.storage.arrays import write_arrays
from malfl_algos.storage.durable import make_folder, write_json
from malfl_algos.storage.origins import RESULT_NAME, Origin, read_result, write_result
from malfl_algos.verdict.words import verdict_from
from malfl_env.errors import InputError

__all__ = ["plain", "saved_verdict", "write_recovered"]


def write_recovered(
    recovered: Recovered, folder: Path, *, origin: Origin, observer: PluginConfig
) -> list[Path]:
    """Write `rewards.npz`, `diagnostics.json`, the optional arrays of the method, `result.json`.

    Several results go into one folder per observing agent. Rewards that are functions of
    observations go into `reward_functions.npz`, by the result's own method `save`.

    Args:
        recovered: by observing agent.
        folder: where to write.
        origin: what the rewards were recovered from.
        observer: what recovered them.

    Returns:
        The files of the rewards.

    Raises:
        InputError: for functions without a method to save them.
    """
    written = []
    for observing, result in recovered.items():
        place = folder / observing
        if result.rewards:
            written.append(place / "rewards.npz")
            rewards = {agent: np.asarray(r, dtype=float) for agent, r in result.rewards.items()}
            write_arrays(written[-1], rewards)
        elif hasattr(result, "save"):
            written.append(place / "reward_functions.npz")
            make_folder(place)
            result.save(written[-1])
        else:
            raise InputError(
                f"the observer returned reward functions as a {type(result).__name__}, which has "
                "no method save(path): call the observer from Python"
            )
        write_json(place / "diagnostics.json", plain(result.diagnostics))
        for name in ("estimated_policies", "targets", "potentials"):
            arrays = getattr(result, name)
            if arrays is not None:
                write_arrays(place / f"{name}.npz", arrays)
        posterior = {f"{agent}_sd": array for agent, array in (result.sd or {}).items()}
        posterior |= {f"{a}_covariance": array for a, array in (result.covariance or {}).items()}
        if posterior:
            write_arrays(place / "posterior.npz", posterior)
        options = plain(observer.options)
        about = {**find_plugin("observer", observer.name).identity, "options": options}
        verdict = plain(result.verdict.plain())
        write_result(place, origin, observer=about, observing=observing, verdict=verdict)
    return written


def saved_verdict(rewards: Path) -> Verdict:
    """The verdict beside a file of rewards; without one, the verdict that none was made.

    Raises:
        InputError: naming the file that is damaged.
    """
    path = rewards.with_name(RESULT_NAME)
    content = (read_result(path) or {}).get("verdict")
    if content is None:
        return NOT_JUDGED
    with naming(str(path)):
        return verdict_from(content)


def plain(value: Any) -> Any:
    """The value in JSON types; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
