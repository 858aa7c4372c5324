"""The grid world in PettingZoo's module form: `parallel_env`, `raw_env` and `env`.

All three take the keywords of `malfl_env.grid_world.GridWorld`.
"""

from __future__ import annotations

from typing import Any

import pettingzoo
from pettingzoo.utils.conversions import parallel_to_aec
from pettingzoo.utils.env import AECEnv
from pettingzoo.utils.wrappers import (
    AssertOutOfBoundsWrapper,
    OrderEnforcingWrapper,
)

from malfl_env.grid_world import GridWorld

__all__ = ["ENVIRONMENT_ID", "env", "parallel_env", "raw_env", "register_environments"]

ENVIRONMENT_ID = "malfl/grid_world-v0"

parallel_env = GridWorld


def raw_env(**options: Any) -> AECEnv:
    """The grid world with agents acting in turn; they move when the last one has chosen."""
    return parallel_to_aec(GridWorld(**options))


def env(**options: Any) -> AECEnv:
    """`raw_env` with PettingZoo's checks of actions and of the order of calls around it."""
    return OrderEnforcingWrapper(AssertOutOfBoundsWrapper(raw_env(**options)))


def register_environments() -> None:
    """Enter the grid world in PettingZoo's parallel and AEC registries, once.

    PettingZoo has registries from 1.27 on; with an older one nothing happens.
    """
    register: Any = getattr(pettingzoo, "register", None)
    if register is None:
        return
    if ENVIRONMENT_ID not in pettingzoo.parallel_registry:
        register("parallel", ENVIRONMENT_ID, entry_point="malfl_env.grid_world_v0:parallel_env")
    if ENVIRONMENT_ID not in pettingzoo.aec_registry:
        register("aec", ENVIRONMENT_ID, entry_point="malfl_env.grid_world_v0:env")
