"""Entry in PettingZoo's registries of environments."""

from __future__ import annotations

from typing import Any

import pettingzoo

__all__ = ["ENVIRONMENT_ID", "register_environments"]

ENVIRONMENT_ID = "malfl/grid_world-v0"


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
